from collections.abc import Callable, Mapping
from typing import Any

import pytest

from adapters.manifest import PartSpec
from adapters.methods import parts
from adapters.methods.fold import fitting_of
from adapters.methods.presets import PRESETS, Preset
from adapters.methods.settings import Settings
from tests.adapters import builders

FITTING = fitting_of(builders.profile("bert"))


def defaults(preset: str, **overrides: Any) -> dict[str, Any]:
    known = PRESETS[preset]
    assert isinstance(known, Preset)
    return {**known.defaults, **overrides}


def made(make: Callable[..., Any], config: Mapping[str, Any]) -> tuple[list[PartSpec], list[str]]:
    settings = Settings("m", config, tuple(config))
    return list(make(settings, config, FITTING)), settings.reasons


def test_a_reduction_factor_may_differ_by_layer_and_a_bottleneck_is_at_least_one_wide():
    (part,), reasons = made(parts.bottleneck, defaults("seq_bn", reduction_factor={"1": 8, "default": 200}))
    assert part.config["sites"] == {"0/ffn_junction": {"width": 1}, "1/ffn_junction": {"width": 4}}
    assert not reasons


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
    assert vera.config["sites"]["0/attn_q"] == {"gated": False, "dora": "adapterhub"}
    (mtl,), _ = made(parts.mtl_lora, defaults("mtl_lora", n_up_projection=3))
    assert (mtl.config["projections"], mtl.config["sharpness"]) == (3, 0.05)
    assert mtl.config["sites"]["0/attn_q"] == {"rank": 8, "scaling": 1.0, "gated": False}


def test_prefixes_are_gated_together_or_apart_and_flat_ones_have_no_bottleneck():
    (flat,), _ = made(parts.prefix, defaults("prefix_tuning_flat", use_gating=True, shared_gating=False, leave_out=[0]))
    assert flat.config == {"length": 30, "flat": True, "layers": [1], "gating": "separate"}
    (deep,), _ = made(parts.prefix, defaults("prefix_tuning"))
    assert (deep.config["bottleneck"], deep.config["non_linearity"], deep.config["gating"]) == (512, "tanh", "none")


def test_reft_and_prompts_are_renamed():
    (reft,), _ = made(parts.reft, defaults("direft", r=2, tied_weights=True))
    assert (reft.config["layers"], reft.config["rank"], reft.config["tied"]) == ([0, 1], 2, True)
    assert (reft.config["orthogonal"], reft.config["subtract_projection"]) == (False, False)
    (prompt,), _ = made(parts.prompt, defaults("prompt_tuning", combine="prefix_after_bos"))
    assert prompt.config == {"length": 10, "at": "prefix_after_bos"}


@pytest.mark.parametrize(
    ("make", "preset", "overrides", "reason"),
    [
        (parts.bottleneck, "seq_bn", {"reduction_factor": {"0": 4}}, "config.reduction_factor must be a number"),
        (parts.bottleneck, "seq_bn", {"reduction_factor": -1}, "reduction_factor must be above zero"),
        (parts.bottleneck, "seq_bn", {"leave_out": [2]}, "leave_out must be a list of layers below 2"),
        (parts.bottleneck, "seq_bn_inv", {"inv_adapter": "glow"}, "inv_adapter must be one of 'nice'"),
        (parts.lora, "lora", {"r": 0}, "r must be an integer"),
        (parts.lora, "lora", {"alpha": "8"}, "config.alpha must be a number"),
        (parts.lora, "lora", {"attn_matrices": ["o"]}, "attn_matrices must be a list of 'q', 'k', 'v'"),
        (parts.mtl_lora, "mtl_lora", {"weights_sharpness": 0}, "weights_sharpness must be above zero"),
        (parts.prefix, "prefix_tuning", {"use_gating": "yes"}, "use_gating must be true or false"),
    ],
)
def test_what_can_not_be_made_into_parts_is_a_reason(make, preset, overrides, reason):
    assert any(reason in found for found in made(make, defaults(preset, **overrides))[1])
