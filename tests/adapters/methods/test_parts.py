from collections.abc import Callable, Mapping
from typing import Any

import pytest

from adapters.manifest import PartSpec
from adapters.methods import parts
from adapters.methods.presets import PRESETS, Preset
from adapters.methods.settings import Settings
from tests.adapters import builders

SIZES = builders.profile("bert").geometry


def defaults(preset: str, **overrides: Any) -> dict[str, Any]:
    known = PRESETS[preset]
    assert isinstance(known, Preset)
    return {**known.defaults, **overrides}


def made(
    make: Callable[..., Any], config: Mapping[str, Any], sizes: parts.Sizes = SIZES
) -> tuple[list[PartSpec], list[str]]:
    settings = Settings("m", config, tuple(config))
    return list(make(settings, sizes)), settings.reasons


def test_a_reduction_factor_may_differ_by_layer_and_a_bottleneck_is_at_least_one_wide():
    (part,), reasons = made(parts.bottleneck, defaults("seq_bn", reduction_factor={"1": 8, "default": 200}))
    assert part.config["sites"] == {"0/ffn_junction": {"width": 1}, "1/ffn_junction": {"width": 4}}
    assert not reasons
    sites = made(parts.bottleneck, defaults("seq_bn", mh_adapter=True, leave_out=[0], reduction_factor=1.6))[0][0]
    assert sites.config["sites"] == {"1/attn_junction": {"width": 19}, "1/ffn_junction": {"width": 19}}


@pytest.mark.parametrize(("reduction", "width"), [(2, 16), (3, 10), (100, 1), (0.5, 64), (1.6, 19)])
def test_a_width_is_what_the_library_computes(reduction, width):
    (part,), _ = made(parts.bottleneck, defaults("seq_bn", reduction_factor=reduction))
    assert part.config["sites"]["0/ffn_junction"] == {"width": width}


def test_phm_layers_make_it_a_compacter_with_the_parts_own_names():
    (part,), _ = made(parts.bottleneck, defaults("compacter", shared_W_phm=True, factorized_phm_W=False))
    assert part.method == "compacter"
    assert (part.config["shared_W"], part.config["factorized_W"], part.config["shared_rule"]) == (True, False, True)
    assert sorted(part.config["sites"]) == ["0/attn_junction", "0/ffn_junction", "1/attn_junction", "1/ffn_junction"]


def test_an_invertible_adapter_can_stand_alone():
    (part,), _ = made(parts.bottleneck, defaults("seq_bn_inv", output_adapter=False, inv_adapter_reduction_factor=4))
    assert part == PartSpec("invertible", {"kind": "nice", "non_linearity": "relu", "width": 4})


def test_scale_mode_is_ia3_of_rank_one():
    (part,), reasons = made(parts.lora, defaults("ia3", alpha=2, use_gating=True))
    assert part.config["sites"]["0/ffn_in"] == {"at": "output", "scaling": 2.0, "gated": True}
    assert not reasons
    assert made(parts.lora, defaults("ia3", r=2))[1] == ["m: composition_mode 'scale' needs r 1, and has no use_dora"]


def test_vera_and_mtl_lora_keep_what_all_sites_share_outside_of_the_sites():
    (vera,), _ = made(parts.vera, defaults("dvora", r=4, alpha=2))
    assert (vera.config["rank"], vera.config["scaling"]) == (4, 0.5)
    assert vera.config["sites"]["0/attn_q"] == {"dora": "adapterhub"}
    (mtl,), _ = made(parts.mtl_lora, defaults("mtl_lora", n_up_projection=3))
    assert (mtl.config["projections"], mtl.config["sharpness"]) == (3, 0.05)
    assert mtl.config["sites"]["0/attn_q"] == {"rank": 8, "scaling": 1.0}


def test_prefixes_are_gated_together_or_apart_and_flat_ones_have_no_bottleneck():
    (flat,), _ = made(parts.prefix, defaults("prefix_tuning_flat", use_gating=True, shared_gating=False, leave_out=[0]))
    assert flat.config == {"length": 30, "flat": True, "bottleneck": None, "layers": [1], "gating": "separate"}
    (deep,), _ = made(parts.prefix, defaults("prefix_tuning"))
    assert deep.config == {"length": 30, "flat": False, "bottleneck": 512, "layers": [0, 1]}
    (relu,), _ = made(parts.prefix, defaults("prefix_tuning", non_linearity="ReLU"))
    assert relu.config["non_linearity"] == "relu"


def test_reft_and_prompts_are_renamed():
    (reft,), _ = made(parts.reft, defaults("direft", r=2, tied_weights=True))
    assert (reft.config["layers"], reft.config["rank"], reft.config["tied"]) == ([0, 1], 2, True)
    assert (reft.config["orthogonal"], reft.config["subtract_projection"]) == (False, False)
    assert made(parts.reft, defaults("loreft", layers=[1, 0, 1]))[0][0].config["layers"] == [0, 1]
    (prompt,), _ = made(parts.prompt, defaults("prompt_tuning", combine="prefix_after_bos"))
    assert prompt.config == {"length": 10, "at": "prefix_after_bos"}


def test_what_is_as_usual_is_not_said():
    (lora,), _ = made(parts.lora, defaults("lora"))
    assert lora.config["sites"]["0/attn_q"] == {"rank": 8, "scaling": 1.0, "bias": False}
    (ia3,), _ = made(parts.lora, defaults("ia3"))
    assert ia3.config["sites"]["0/attn_k"] == {"at": "output", "scaling": 1.0}


KINDS = {
    "bottleneck": (parts.bottleneck, "compacter"),
    "lora": (parts.lora, "lora"),
    "vera": (parts.vera, "vera"),
    "mtl_lora": (parts.mtl_lora, "mtl_lora"),
    "prefix": (parts.prefix, "prefix_tuning"),
    "prompt": (parts.prompt, "prompt_tuning"),
    "reft": (parts.reft, "noreft"),
}
# What no member takes; what some do is among the cases below.
WRONG = ["no", [[]], {"x": 2}, 1e39, float("nan"), 10**400]
UNREAD = {("bottleneck", "residual_before_ln"), ("bottleneck", "scaling")}  # the method's own: it says what is wrong
MEMBERS = [(kind, key) for kind, (_, preset) in KINDS.items() for key in defaults(preset) if (kind, key) not in UNREAD]


@pytest.mark.parametrize(("kind", "key"), MEMBERS)
def test_every_member_of_every_configuration_is_checked_and_named(kind, key):
    make, preset = KINDS[kind]
    for value in WRONG:
        if isinstance(value, str) and key == "non_linearity":
            continue  # the method knows the names
        config = defaults(preset, **{"reduction_factor": 4, "inv_adapter": "nice"} if kind == "bottleneck" else {})
        reasons = made(make, config | {key: value})[1]
        assert any(reason.startswith(f"m: {key} ") for reason in reasons), (value, reasons)


@pytest.mark.parametrize(
    ("make", "preset", "overrides", "reason"),
    [
        (parts.bottleneck, "seq_bn", {"reduction_factor": {"0": 4}}, "reduction_factor must be a number above zero, for every layer, not None"),
        (parts.bottleneck, "seq_bn", {"reduction_factor": {"9": 2, "default": 16}}, "reduction_factor names '9', which is no layer from '0' to '1'"),
        (parts.bottleneck, "seq_bn", {"reduction_factor": 0}, "reduction_factor must be a number above zero"),
        (parts.bottleneck, "seq_bn", {"reduction_factor": -1}, "reduction_factor must be a number above zero"),
        (parts.bottleneck, "seq_bn", {"reduction_factor": 1e-300}, "reduction_factor must be a number above zero"),
        (parts.bottleneck, "seq_bn", {"reduction_factor": True}, "reduction_factor must be a number above zero"),
        (parts.bottleneck, "seq_bn", {"phm_layer": 1}, "phm_layer must be true or false, not 1"),
        (parts.bottleneck, "seq_bn", {"leave_out": [2]}, "leave_out must be a list of layers from 0 to 1, not [2]"),
        (parts.bottleneck, "seq_bn", {"leave_out": [-1]}, "leave_out must be a list"),
        (parts.bottleneck, "seq_bn", {"leave_out": [True]}, "leave_out must be a list"),
        (parts.bottleneck, "seq_bn", {"leave_out": 5}, "leave_out must be a list"),
        (parts.bottleneck, "seq_bn", {"leave_out": {0: 1}}, "leave_out must be a list"),
        (parts.bottleneck, "seq_bn_inv", {"inv_adapter": "glow"}, "inv_adapter must be 'nice' or nothing, not 'glow'"),
        (parts.bottleneck, "seq_bn_inv", {"inv_adapter_reduction_factor": 17}, "leaves no width: give 16 at most"),
        (parts.bottleneck, "compacter", {"shared_W_phm": True, "reduction_factor": {"default": 4}}, "shared_W_phm needs one"),
        (parts.lora, "lora", {"r": 0}, "r must be an integer"),
        (parts.lora, "lora", {"r": "8"}, "r must be an integer from 1 to 100000, not '8'"),
        (parts.lora, "lora", {"alpha": "8"}, "alpha must be a number, not '8'"),
        (parts.lora, "lora", {"alpha": True}, "alpha must be a number, not True"),
        (parts.lora, "lora", {"attn_matrices": ["o"]}, "attn_matrices must be a list of 'q', 'k', 'v'"),
        (parts.lora, "lora", {"attn_matrices": "qv"}, "attn_matrices must be a list of 'q', 'k', 'v', not 'qv'"),
        (parts.lora, "lora", {"attn_matrices": {"q": 1}}, "attn_matrices must be a list"),
        (parts.mtl_lora, "mtl_lora", {"weights_sharpness": 0}, "weights_sharpness must be a number above zero, not 0"),
        (parts.prefix, "prefix_tuning", {"use_gating": "yes"}, "use_gating must be true or false"),
        (parts.reft, "noreft", {"layers": [5]}, "layers must be 'all', or a list of layers from 0 to 1, not [5]"),
        (parts.reft, "noreft", {"layers": "some"}, "layers must be 'all', or a list"),
        (parts.reft, "noreft", {"layers": None}, "layers must be 'all', or a list"),
    ],
)  # fmt: skip
def test_what_can_not_be_made_into_parts_is_a_reason(make, preset, overrides, reason):
    assert any(reason in found for found in made(make, defaults(preset, **overrides))[1])


def test_a_reason_is_given_once_however_many_layers_it_holds_for():
    assert len(made(parts.bottleneck, defaults("seq_bn", reduction_factor=0))[1]) == 1


def test_layers_that_are_left_out_may_be_said_to_be_none():
    assert made(parts.lora, defaults("lora", leave_out=None)) == made(parts.lora, defaults("lora"))


def test_layers_of_a_family_that_runs_its_modules_several_times_are_passes_too():
    shared = builders.profile("albert").geometry
    for make, preset, overrides, same in (
        (parts.bottleneck, "seq_bn", {"leave_out": [1, 11]}, {"leave_out": [1]}),
        (parts.lora, "lora", {"leave_out": [5]}, {}),
        (parts.reft, "noreft", {"layers": [0, 7]}, {"layers": [0]}),
    ):
        found, expected = (made(make, defaults(preset, **more), shared) for more in (overrides, same))
        assert found == expected and found[0] and not found[1]
