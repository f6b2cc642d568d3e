import pytest

from adapters.errors import Misfit
from adapters.formats.adapterhub import parts
from adapters.formats.adapterhub.host import host_of
from adapters.formats.adapterhub.parts import keys, read_parts, write_config
from adapters.manifest import PartSpec
from adapters.methods.fold import fitting_of
from adapters.methods.presets import parts_of
from adapters.methods.table import METHODS
from adapters.methods.tuners.table import TUNERS
from tests.adapters import builders
from tests.adapters.formats.adapterhub.by_hand import PROMPT, mtl_config, phm, reft_config, scale
from tests.adapters.formats.adapterhub.reading import host, read, reasons
from tests.adapters.formats.folders import lora, prefix, saved, seq_bn

MH = {"mh_adapter": True, "output_adapter": False}
VERA = {"vera_d": 0.1, "vera_b": 0.0}


def union(*configs):
    return {"architecture": "union", "configs": list(configs)}


def test_every_method_has_a_layout():
    of_peft = {
        "adaption_prompt",
        "biases",
        "delta",
        "maps",
        "multitask_prompt",
        "norms",
        "past_prefix",
        "tables",
        "word_prompt",
        "word_rows",
    }
    of_peft |= {tuner.name for tuner in TUNERS}
    assert set(METHODS) - {"invertible"} - of_peft == set(parts.LAYOUTS)


@pytest.mark.parametrize(
    ("version", "scaling"),
    [
        ("adapters.1.0.1", 1.0),
        ("adapters.0.2.2", 1.0),
        ("adapters.1.1.0", 4.0),
        ("adapters.1.1.0.dev0", 4.0),
        ("3.2.1", 4.0),
        ("adapters.2.0", 4.0),
    ],
)
def test_lora_of_the_versions_with_the_scaling_fault_keeps_what_it_was_trained_with(version, scaling):
    (part,) = read(lora(), version=version)
    assert part.config["sites"]["0/attn_q"]["scaling"] == scaling


def test_without_a_version_activations_have_their_old_meaning():
    whole = saved(union(seq_bn(non_linearity="gelu")))
    assert parts.read_parts(whole, host())[0].config["non_linearity"] == "gelu"
    del whole["version"]
    assert parts.read_parts(whole, host())[0].config["non_linearity"] == "gelu_new"


def test_a_union_is_its_parts():
    found = read(union(lora(), seq_bn(inv_adapter="nice"), prefix(), reft_config(), PROMPT))
    methods = ["lora", "bottleneck", "invertible", "prefix_tuning", "reft", "prompt_tuning"]
    assert [part.method for part in found] == methods


@pytest.mark.parametrize(
    "config",
    [
        union(seq_bn(**MH), seq_bn()),
        union(phm() | MH, seq_bn()),
        union(seq_bn(leave_out=[0]), seq_bn(reduction_factor=4, leave_out=[1])),
        union(lora(leave_out=[0]), scale(leave_out=[1])),
    ],
)
def test_parts_of_a_kind_may_act_at_places_of_their_own(config):
    assert len(read(config)) == 2


@pytest.mark.parametrize(
    "config",
    [
        union(seq_bn(), seq_bn(reduction_factor=4)),
        union(seq_bn(), phm()),
        union(lora(), scale()),
        union(prefix(), prefix(flat=True)),
        union(PROMPT, PROMPT),
        union(reft_config(layers=[0]), reft_config()),
        union(seq_bn(inv_adapter="nice"), seq_bn(**MH, inv_adapter="nice")),
        union(phm() | MH, phm() | {"mh_adapter": False}),
        union(lora(**VERA, leave_out=[0]), lora(**VERA, leave_out=[1])),
    ],
)
def test_two_parts_at_one_place_are_refused(config):
    assert "two parts" in reasons(config)[0]


def test_every_reason_of_a_union_is_given():
    glow = seq_bn(inv_adapter="glow")
    strange = [{"architecture": value} for value in ("x", [], {}, 3)]
    found = reasons(union(lora(composition_mode="multiply"), glow, *strange, union(lora()), 5))
    assert len(found) == 8


@pytest.mark.parametrize(
    "config",
    [
        union(5),
        union(),
        {"architecture": "union", "configs": None},
        {"architecture": "adapterfusion"},
        {"mh_adapter": True},
        seq_bn(leave_out=5),
        seq_bn(mh_adapter=False, output_adapter=False),
        seq_bn(leave_out=[0, 1]),
        lora(selfattn_lora=False),
        prefix(leave_out=[0, 1]),
        mtl_config(attn_matrices=[]),
    ],
)
def test_a_malformed_or_empty_configuration_is_refused(config):
    assert reasons(config)


def test_a_configuration_that_is_only_a_name_is_refused():
    assert "config" in reasons("pfeiffer")[0]
    assert "config" in reasons(None)[0]


@pytest.mark.parametrize("left_out", ["x", "01", ["0"], [99, -1], [-1], [0.5], {"0": 1}, {}, 0, "", False])
@pytest.mark.parametrize("config", [seq_bn, lora, prefix, mtl_config])
def test_what_is_left_out_is_a_list_of_layers(config, left_out):
    (reason,) = reasons(config(leave_out=left_out))
    assert f"leave_out must be a list of layers from 0, not {left_out!r}" in reason
    assert read(config(leave_out=None)) == read(config(leave_out=[]))


@pytest.mark.parametrize("config", [seq_bn, lora, prefix, mtl_config])
def test_layers_that_the_model_does_not_have_mean_nothing_as_in_adapterhub(config):
    assert read(config(leave_out=[1, 99])) == read(config(leave_out=[1]))


def test_widths_of_layers_that_the_model_does_not_have_mean_nothing_as_in_adapterhub():
    named = {"0": 4, "11": 2, "default": 8}
    assert read(seq_bn(reduction_factor=named)) == read(seq_bn(reduction_factor={"0": 4, "default": 8}))


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (seq_bn, "output_adapter", "false"),
        (seq_bn, "use_gating", "no"),
        (seq_bn, "inv_adapter", ""),
        (seq_bn, "reduction_factor", {"09": 2, "default": 16}),
        (seq_bn, "reduction_factor", {"-1": 2, "default": 16}),
        (seq_bn, "reduction_factor", {"x": 2}),
        (phm, "phm_bias", "no"),
        (phm, "shared_phm_rule", "x"),
        (phm, "phm_layer", "no"),
        (lora, "selfattn_lora", "no"),
        (lora, "alpha", True),
        (lora, "attn_matrices", "qv"),
        (lora, "attn_matrices", {"q": 1}),
        (lora, "use_dora", "no"),
        (prefix, "flat", 0),
        (prefix, "use_gating", "no"),
        (prefix, "prefix_length", True),
        (mtl_config, "weights_sharpness", "x"),
        (mtl_config, "n_up_projection", "1"),
        (reft_config, "orthogonality", "no"),
        (reft_config, "output_reft", "no"),
        (reft_config, "subtract_projection", "no"),
        (reft_config, "tied_weights", 1),
        (lambda **changes: PROMPT | changes, "prompt_length", "3"),
        (lambda **changes: PROMPT | changes, "combine", "suffix"),
    ],
)
def test_a_member_of_another_kind_is_refused_by_its_name(make, key, value):
    read(make())
    assert any(f": {key} " in reason for reason in reasons(make(**{key: value})))


@pytest.mark.parametrize("config", [seq_bn, lora, prefix, reft_config, mtl_config])
def test_a_setting_that_nobody_knows_is_refused_unless_it_is_off(config):
    (reason,) = reasons(config(new_trick=True))
    assert "unknown setting 'new_trick'" in reason
    assert read(config(new_trick=None)) == read(config())


def test_only_an_uncertain_reft_is_warned_of():
    assert len(parts.warnings(saved(union(reft_config(), lora())))) == 1
    assert parts.warnings(saved(lora())) == []


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
        lora(attn_matrices=["k"], intermediate_lora=True, output_lora=True, leave_out=[1], r=3, alpha=16),
        lora(selfattn_lora=False, output_lora=True),
        scale(),
        union(seq_bn(inv_adapter="nice"), lora(), prefix(), PROMPT),
        union(lora(), prefix(), seq_bn(output_adapter=False, inv_adapter="nice")),
        union(phm(inv_adapter="nice") | MH, seq_bn(is_parallel=True)),
    ],
)
def test_a_configuration_made_from_parts_reads_as_the_same_parts(config):
    found = read(config)
    assert sorted(read(parts.write_config(found, host())), key=str) == sorted(found, key=str)


def test_a_method_that_adapterhub_does_not_have_is_refused():
    with pytest.raises(Misfit, match="AdapterHub has no oft"):
        parts.write_config((PartSpec("oft", {}),), host())
    with pytest.raises(Misfit, match="AdapterHub has no oft"):
        list(parts.keys((PartSpec("oft", {}),), "a", host()))


_STACKS = {
    "prefixes": [
        PartSpec("prefix_tuning", {"length": 3, "flat": False, "bottleneck": 6, "layers": [0]}),
        PartSpec("prefix_tuning", {"length": 3, "flat": False, "bottleneck": 6, "layers": [1]}),
        PartSpec("prefix_tuning", {"length": 3, "flat": False, "bottleneck": 6, "layers": [1], "site": "cross_kv"}),
    ],
    "decoder": [PartSpec("prefix_tuning", {"length": 3, "flat": True, "bottleneck": None, "layers": [1]})],
    "bottlenecks": list(parts_of("seq_bn", fitting_of(builders.profile("t5")), cross_adapter=True)),
    "lora": list(parts_of("lora", fitting_of(builders.profile("mt5")))),
}


@pytest.mark.parametrize("kind", _STACKS)
def test_what_adapts_both_stacks_of_an_encoder_decoder_is_one_configuration(kind):
    stacks = host_of(builders.profile("mt5" if kind == "lora" else "t5").geometry)
    config = write_config(_STACKS[kind], stacks)
    assert list(read_parts({"config": config, "version": "adapters.1.3.0"}, stacks)) == _STACKS[kind]
    stored = [key.stored for key in keys(_STACKS[kind], "a", stacks)]
    assert len(set(stored)) == len(stored)
    held = {"prefixes": "prefix_tuning.prefix_tunings.a.cross_prefix", "decoder": "self_prefix"}
    held |= {"bottlenecks": "decoder.block.0.layer.1.adapters.a", "lora": "EncDecAttention.q.loras.a"}
    assert any(held[kind] in key for key in stored)
    assert kind != "decoder" or (config["encoder_prefix"], config["cross_prefix"]) == (False, False)


def test_prefixes_that_differ_are_no_one_configuration():
    other = [_STACKS["prefixes"][0], PartSpec("prefix_tuning", {**_STACKS["prefixes"][1].config, "length": 4})]
    with pytest.raises(Misfit, match="equal ones"):
        write_config(other, host_of(builders.profile("t5").geometry))
