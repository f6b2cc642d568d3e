import pytest

from adapters.errors import Misfit
from adapters.formats.adapterhub_config import Sizes, activation, bottleneck_width, read_parts
from tests.adapters.formats.folders import lora, prefix, saved, seq_bn

SIZES = Sizes(hidden=8, embedding=8, layers=2)


def parts(config, **changes):
    return read_parts(saved(config, **changes), SIZES)


def reasons(config, **changes):
    with pytest.raises(Misfit) as caught:
        parts(config, **changes)
    return caught.value.reasons


def test_a_bottleneck_keeps_every_setting_and_names_its_sites():
    (part,) = parts(seq_bn(scaling="channel", residual_before_ln="post_add", non_linearity="SWISH"))
    assert part.method == "bottleneck"
    assert part.config == {
        "sites": {"0/ffn_junction": {"width": 4}, "1/ffn_junction": {"width": 4}},
        "non_linearity": "swish",
        "is_parallel": False,
        "ln_before": False,
        "ln_after": False,
        "residual_before_ln": "post_add",
        "adapter_residual_before_ln": False,
        "original_ln_before": True,
        "original_ln_after": True,
        "scaling": "channel",
        "use_gating": False,
    }


def test_both_sites_and_a_map_of_reduction_factors_and_left_out_layers():
    (part,) = parts(seq_bn(mh_adapter=True, reduction_factor={"1": 8, "default": 4}))
    assert part.config["sites"] == {
        "0/attn_junction": {"width": 2},
        "0/ffn_junction": {"width": 2},
        "1/attn_junction": {"width": 1},
        "1/ffn_junction": {"width": 1},
    }
    (part,) = parts(seq_bn(leave_out=[0]))
    assert list(part.config["sites"]) == ["1/ffn_junction"]


@pytest.mark.parametrize(("factor", "width"), [(2, 4), (3, 2), (100, 1), (0.5, 16), (1.6, 4)])
def test_a_width_is_the_library_s(factor, width):
    assert bottleneck_width(8, factor) == width


def test_members_that_an_old_configuration_lacks_have_the_library_s_defaults():
    old = {"mh_adapter": True, "output_adapter": False, "reduction_factor": 2, "non_linearity": "relu"}
    (part,) = parts(old)
    assert part.config["original_ln_before"] is False
    assert part.config["original_ln_after"] is True
    assert part.config["scaling"] == 1.0


def test_an_invertible_adapter_is_a_part_of_its_own_in_old_and_new_spelling():
    for spelling in (
        {"inv_adapter": "nice", "inv_adapter_reduction_factor": 2},
        {"invertible_adapter": {"block_type": "nice", "reduction_factor": 2}},
    ):
        _, inverse = parts(seq_bn(**spelling))
        assert (inverse.method, inverse.config) == (
            "invertible",
            {"kind": "nice", "non_linearity": "relu", "width": 2},
        )
    assert "glow" in reasons(seq_bn(inv_adapter="glow"))[0]


def test_an_old_activation_means_its_new_name_only_without_a_version():
    assert activation("gelu", versioned=True) == "gelu"
    assert activation("gelu", versioned=False) == "gelu_new"
    assert activation("gelu_orig", versioned=False) == "gelu"
    whole = saved(seq_bn(non_linearity="gelu"))
    del whole["version"]
    assert read_parts(whole, SIZES)[0].config["non_linearity"] == "gelu_new"


def test_lora_scales_by_alpha_over_r_at_the_matrices_it_names():
    (part,) = parts(lora(attn_matrices=["k", "q"], intermediate_lora=True, output_lora=True, leave_out=[1]))
    held = {"rank": 2, "scaling": 4.0, "bias": False}
    assert part.config == {"sites": dict.fromkeys(["0/attn_q", "0/attn_k", "0/ffn_in", "0/ffn_out"], held)}


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
    (part,) = parts(lora(), version=version)
    assert part.config["sites"]["0/attn_q"]["scaling"] == scaling


def test_lora_that_scales_is_ia3():
    (part,) = parts(lora(composition_mode="scale", r=1, alpha=3, attn_matrices=["k"], intermediate_lora=True))
    assert part.method == "ia3"
    assert part.config["sites"]["1/ffn_in"] == {"at": "output", "scaling": 3.0}


def test_a_prefix_names_its_layers_and_a_flat_one_has_no_bottleneck():
    (part,) = parts(prefix(leave_out=[0]))
    assert part.config == {"length": 3, "flat": False, "bottleneck": 5, "layers": [1]}
    (part,) = parts(prefix(flat=True, non_linearity="relu"))
    assert part.config["bottleneck"] is None


def test_a_prompt():
    (part,) = parts({"architecture": "prompt_tuning", "prompt_length": 4, "combine": "prefix_after_bos"})
    assert part.config == {"length": 4, "at": "prefix_after_bos"}


def test_a_union_is_its_parts():
    union = {"architecture": "union", "configs": [lora(), seq_bn(inv_adapter="nice"), prefix()]}
    assert [part.method for part in parts(union)] == ["lora", "bottleneck", "invertible", "prefix_tuning"]


@pytest.mark.parametrize(
    "configs",
    [
        [seq_bn(), seq_bn(reduction_factor=4)],
        [lora(), lora(composition_mode="scale", r=1)],
        [prefix(), prefix(flat=True)],
        [seq_bn(inv_adapter="nice"), {"architecture": "prompt_tuning", "prompt_length": 4, "combine": "prefix"}],
    ],
)
def test_two_parts_at_one_site_are_refused(configs):
    assert "two parts" in reasons({"architecture": "union", "configs": configs})[0]


@pytest.mark.parametrize(
    ("config", "feature"),
    [
        (seq_bn(phm_layer=True), "Compacter"),
        (lora(use_dora=True), "DoRA"),
        (lora(vera_d=0.1, vera_b=0.0), "VeRA"),
        (lora(use_gating=True), "LoRA with gating"),
        (lora(composition_mode="scale", r=1, use_gating=True), "(IA)3 with gating"),
        (lora(composition_mode="scale", r=2), "rank 2"),
        (lora(composition_mode="multiply"), "multiply"),
        (prefix(use_gating=True), "gating"),
        (prefix(non_linearity="relu"), "tanh"),
        ({"architecture": "reft"}, "reft"),
        ({"architecture": "mtl_lora"}, "mtl_lora"),
    ],
)
def test_what_is_not_served_is_named(config, feature):
    (reason,) = reasons(config)
    assert feature in reason
    assert "not served" in reason or "only" in reason


def test_every_reason_of_a_union_is_given():
    found = reasons(
        {"architecture": "union", "configs": [lora(use_dora=True), prefix(use_gating=True), {"architecture": "reft"}]}
    )
    assert len(found) == 3


@pytest.mark.parametrize(
    "config",
    [
        seq_bn(reduction_factor={"0": 2}),
        seq_bn(reduction_factor=0),
        seq_bn(reduction_factor="2"),
        seq_bn(reduction_factor=True),
        seq_bn(leave_out=5),
        seq_bn(inv_adapter="nice", inv_adapter_reduction_factor="x"),
        lora(r=0),
        lora(alpha="x"),
        lora(attn_matrices=["z"]),
        lora(attn_matrices=None),
        {"architecture": "union", "configs": [5]},
        {"architecture": "union", "configs": None},
        {"architecture": "prompt_tuning"},
        {"mh_adapter": True},
        seq_bn(mh_adapter=False, output_adapter=False),
        seq_bn(leave_out=[0, 1]),
    ],
)
def test_a_malformed_or_empty_configuration_is_refused(config):
    assert reasons(config)


def test_a_configuration_that_is_only_a_name_is_refused():
    assert "config" in reasons("pfeiffer")[0]
    assert "config" in reasons(None)[0]


@pytest.mark.parametrize("config", [seq_bn, lora, prefix])
def test_a_setting_that_nobody_knows_is_refused_unless_it_is_off(config):
    (reason,) = reasons(config(new_trick=True))
    assert "'new_trick' is not known" in reason
    assert parts(config(new_trick=None)) == parts(config())
