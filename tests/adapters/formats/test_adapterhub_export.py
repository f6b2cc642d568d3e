import pytest

from adapters.errors import Misfit
from adapters.formats.adapterhub_config import Sizes, read_parts
from adapters.formats.adapterhub_export import write_config
from adapters.manifest import PartSpec, Requires
from tests.adapters.formats.folders import lora, prefix, saved, seq_bn

SIZES = Sizes(hidden=8, embedding=8, layers=2)
REQUIRES = Requires("bert", 8, 2, 2)
PROMPT = {"architecture": "prompt_tuning", "prompt_length": 4, "combine": "prefix"}
LORA_SITE = {"rank": 2, "scaling": 1.0, "bias": False}
IA3_SITE = {"at": "output", "scaling": 1.0}


@pytest.mark.parametrize(
    "config",
    [
        seq_bn(),
        seq_bn(mh_adapter=True, output_adapter=False, is_parallel=True, scaling="learned", ln_before=True),
        seq_bn(reduction_factor={"0": 4, "1": 2}),
        seq_bn(reduction_factor=3, leave_out=[0]),
        seq_bn(reduction_factor=2.5),
        seq_bn(inv_adapter="nice", inv_adapter_reduction_factor=4),
        seq_bn(inv_adapter="nice", output_adapter=False),
        lora(),
        lora(attn_matrices=["k"], intermediate_lora=True, output_lora=True, leave_out=[1], r=3, alpha=16),
        lora(selfattn_lora=False, output_lora=True),
        lora(composition_mode="scale", r=1, alpha=2, intermediate_lora=True),
        prefix(leave_out=[1]),
        prefix(flat=True),
        PROMPT,
        {"architecture": "union", "configs": [seq_bn(inv_adapter="nice"), lora(), prefix()]},
    ],
)
def test_a_configuration_made_from_parts_reads_as_the_same_parts(config):
    parts = read_parts(saved(config), SIZES)
    again = read_parts(saved(write_config(parts, REQUIRES)), SIZES)
    assert sorted(again, key=str) == sorted(parts, key=str)


@pytest.mark.parametrize(
    "part",
    [
        PartSpec("lora", {"sites": {"0/attn_q": LORA_SITE, "1/attn_q": LORA_SITE | {"rank": 4}}}),
        PartSpec("lora", {"sites": {"0/attn_q": LORA_SITE | {"bias": True}}}),
        PartSpec("lora", {"sites": {"0/attn_out": LORA_SITE}}),
        PartSpec("lora", {"sites": {"0/attn_q": LORA_SITE, "1/attn_k": LORA_SITE}}),
        PartSpec("lora", {"sites": {"0/attn_q": LORA_SITE, "model/pooler": LORA_SITE}}),
        PartSpec("ia3", {"sites": {"0/attn_q": IA3_SITE | {"at": "input"}}}),
        PartSpec("ia3", {"sites": {"0/attn_q": IA3_SITE, "0/attn_k": IA3_SITE | {"scaling": 2.0}}}),
        PartSpec("vera", {}),
    ],
)
def test_what_adapterhub_has_no_words_for_is_refused(part):
    with pytest.raises(Misfit, match="AdapterHub"):
        write_config((part,), REQUIRES)


def test_widths_that_differ_within_a_layer_are_refused():
    (part,) = read_parts(saved(seq_bn(mh_adapter=True)), SIZES)
    sites = {**part.config["sites"], "0/ffn_junction": {"width": 2}}
    with pytest.raises(Misfit, match="one width per layer"):
        write_config((PartSpec("bottleneck", {**part.config, "sites": sites}),), REQUIRES)
