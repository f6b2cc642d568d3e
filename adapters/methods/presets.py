"""Presets: a method's name as people say it, to a part's configuration on a backbone. Defaults are AdapterHub's."""

from collections.abc import Callable, Mapping
from typing import Any

from adapters.errors import Misfit
from adapters.manifest import PartSpec
from adapters.methods.base import Fitting

# AdapterHub's seq_bn (Pfeiffer et al. 2020), without its sites.
SEQ_BN: Mapping[str, Any] = {
    "non_linearity": "relu",
    "is_parallel": False,
    "ln_before": False,
    "ln_after": False,
    "residual_before_ln": True,
    "adapter_residual_before_ln": False,
    "original_ln_before": True,
    "original_ln_after": True,
    "scaling": 1.0,
    "use_gating": False,
}


def part_of(preset: str, fitting: Fitting) -> PartSpec:
    """The part that a preset means on a backbone; raises `Misfit` naming the presets there are."""
    make = PRESETS.get(preset)
    if make is None:
        raise Misfit([f"{preset!r} is no method to train; there are {', '.join(PRESETS)}"])
    return make(fitting)


def _bottleneck(sites: tuple[str, ...], reduction: int, **settings: Any) -> Callable[[Fitting], PartSpec]:
    def make(fitting: Fitting) -> PartSpec:
        width = max(1, fitting.geometry.hidden_size // reduction)
        return PartSpec("bottleneck", {**SEQ_BN, **settings, "sites": _sites(fitting, sites, width=width)})

    return make


def _lora(fitting: Fitting) -> PartSpec:
    return PartSpec("lora", {"sites": _sites(fitting, ("attn_q", "attn_v"), rank=8, scaling=1.0, bias=False)})


def _ia3(fitting: Fitting) -> PartSpec:
    return PartSpec("ia3", {"sites": _sites(fitting, ("attn_k", "attn_v", "ffn_in"), at="output", scaling=1.0)})


def _prefix(fitting: Fitting) -> PartSpec:
    layers = list(range(fitting.geometry.layers))
    return PartSpec("prefix_tuning", {"length": 10, "flat": True, "layers": layers})


def _prompt(fitting: Fitting) -> PartSpec:
    return PartSpec("prompt_tuning", {"length": 10, "at": "prefix"})


def _sites(fitting: Fitting, names: tuple[str, ...], **settings: Any) -> dict[str, Any]:
    return {f"{layer}/{name}": dict(settings) for layer in range(fitting.geometry.layers) for name in names}


PRESETS: Mapping[str, Callable[[Fitting], PartSpec]] = {
    "bottleneck": _bottleneck(("ffn_junction",), 16),
    "double_bottleneck": _bottleneck(
        ("attn_junction", "ffn_junction"),
        16,
        non_linearity="swish",
        original_ln_before=False,
        residual_before_ln=True,
    ),
    "parallel": _bottleneck(("ffn_junction",), 2, is_parallel=True, original_ln_before=False, scaling=4.0),
    "lora": _lora,
    "ia3": _ia3,
    "prefix_tuning": _prefix,
    "prompt_tuning": _prompt,
}
