"""Parts of a native package -> AdapterHub's adapter configuration, for packages that came from elsewhere.

AdapterHub describes an adapter by a few numbers for the whole model; what it has no words for is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.adapterhub_config import bottleneck_width
from adapters.manifest import PartSpec, Requires

_MATRICES: Mapping[str, str] = {"attn_q": "q", "attn_k": "k", "attn_v": "v"}
_LORA_SITES = {*_MATRICES, "ffn_in", "ffn_out"}


def write_config(parts: Sequence[PartSpec], requires: Requires) -> dict[str, Any]:
    """The configuration that AdapterHub reads as the same parts; raises `Misfit` where it has none."""
    rest = [part for part in parts if part.method not in ("bottleneck", "invertible")]
    configs = [_WRITERS[part.method](part.config, requires) for part in rest if part.method in _WRITERS]
    unknown = [part.method for part in rest if part.method not in _WRITERS]
    if unknown:
        raise Misfit([f"AdapterHub has no {', '.join(unknown)}"])
    bottlenecks = [_bottleneck(part.config, requires) for part in parts if part.method == "bottleneck"]
    inverses = [part.config for part in parts if part.method == "invertible"]
    if inverses:
        host = bottlenecks[0] if bottlenecks else _no_bottleneck(inverses[0])
        if host["non_linearity"] != inverses[0]["non_linearity"]:
            raise Misfit(["AdapterHub has one activation for a bottleneck and its invertible adapter"])
        host["inv_adapter"] = "nice"
        host["inv_adapter_reduction_factor"] = _factor(requires.hidden_size // 2, inverses[0]["width"])
        bottlenecks = bottlenecks or [host]
    configs = bottlenecks + configs
    return configs[0] if len(configs) == 1 else {"architecture": "union", "configs": configs}


def _bottleneck(config: Mapping[str, Any], requires: Requires) -> dict[str, Any]:
    by_site, left_out = _grid(config["sites"], requires)
    factors: dict[str, Any] = {}
    for text, held in config["sites"].items():
        factor = _factor(requires.hidden_size, held["width"])
        if factors.setdefault(text.split("/")[0], factor) != factor:
            raise Misfit(["AdapterHub has one width per layer"])
    same = len(set(factors.values())) == 1
    settings = {key: value for key, value in config.items() if key != "sites"}
    return {
        **settings,
        "mh_adapter": "attn_junction" in by_site,
        "output_adapter": "ffn_junction" in by_site,
        "reduction_factor": next(iter(factors.values())) if same else factors,
        "leave_out": left_out,
        "phm_layer": False,
        "inv_adapter": None,
        "inv_adapter_reduction_factor": None,
    }


def _no_bottleneck(inverse: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "mh_adapter": False,
        "output_adapter": False,
        "reduction_factor": 16,
        "non_linearity": inverse["non_linearity"],
    }


def _lora(config: Mapping[str, Any], requires: Requires) -> dict[str, Any]:
    sites = config["sites"]
    if len({(held["rank"], held["scaling"]) for held in sites.values()}) != 1:
        raise Misfit(["AdapterHub has one rank and one scaling for all LoRA modules"])
    if any(held["bias"] for held in sites.values()):
        raise Misfit(["AdapterHub's LoRA has no bias"])
    held = next(iter(sites.values()))
    return {**_places(sites, requires), "r": held["rank"], "alpha": held["scaling"] * held["rank"], **_ADD}


def _ia3(config: Mapping[str, Any], requires: Requires) -> dict[str, Any]:
    sites = config["sites"]
    if {held["at"] for held in sites.values()} != {"output"}:
        raise Misfit(["AdapterHub's (IA)3 scales outputs only"])
    if len({held["scaling"] for held in sites.values()}) != 1:
        raise Misfit(["AdapterHub has one alpha for all (IA)3 modules"])
    alpha = next(iter(sites.values()))["scaling"]
    return {**_places(sites, requires), "r": 1, "alpha": alpha, **_ADD, "composition_mode": "scale"}


_ADD: Mapping[str, Any] = {
    "composition_mode": "add",
    "use_gating": False,
    "use_dora": False,
    "vera_d": None,
    "vera_b": None,
    "dropout": 0.0,
}


def _places(sites: Mapping[str, Any], requires: Requires) -> dict[str, Any]:
    by_site, left_out = _grid(sites, requires)
    if not by_site <= _LORA_SITES:
        raise Misfit([f"AdapterHub has no LoRA at {', '.join(sorted(by_site - _LORA_SITES))}"])
    return {
        "architecture": "lora",
        "selfattn_lora": bool(by_site & set(_MATRICES)),
        "attn_matrices": [letter for site, letter in _MATRICES.items() if site in by_site],
        "intermediate_lora": "ffn_in" in by_site,
        "output_lora": "ffn_out" in by_site,
        "leave_out": left_out,
    }


def _prefix(config: Mapping[str, Any], requires: Requires) -> dict[str, Any]:
    return {
        "architecture": "prefix_tuning",
        "flat": config["flat"],
        "prefix_length": config["length"],
        "bottleneck_size": config["bottleneck"] or 512,
        "non_linearity": "tanh",
        "use_gating": False,
        "leave_out": [layer for layer in range(requires.layers) if layer not in config["layers"]],
        "encoder_prefix": True,
        "cross_prefix": True,
        "dropout": 0.0,
    }


def _prompt(config: Mapping[str, Any], _: Requires) -> dict[str, Any]:
    return {
        "architecture": "prompt_tuning",
        "prompt_length": config["length"],
        "combine": config["at"],
        "prompt_init": "random_uniform",
        "prompt_init_text": None,
    }


_WRITERS = {"lora": _lora, "ia3": _ia3, "prefix_tuning": _prefix, "prompt_tuning": _prompt}


def _grid(sites: Mapping[str, Any], requires: Requires) -> tuple[set[str], list[int]]:
    """(sites of every adapted layer, layers that are left out); raises `Misfit` where layers differ in their sites."""
    layers: dict[int | None, set[str]] = {}
    for text in sites:
        address = Address.parse(text)
        layers.setdefault(address.layer, set()).add(address.site)
    kinds = list(layers.values())
    if None in layers or any(kind != kinds[0] for kind in kinds):
        raise Misfit(["AdapterHub adapts the same modules in every layer that it does not leave out"])
    return kinds[0], [layer for layer in range(requires.layers) if layer not in layers]


def _factor(size: int, width: int) -> int | float:
    """A reduction factor that gives this width."""
    factor = size // width if size % width == 0 else size / (width + 0.5)
    assert bottleneck_width(size, factor) == width
    return factor
