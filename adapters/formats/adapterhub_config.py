"""AdapterHub's adapter configuration -> the parts of a native package.

Every feature that is not served, and every member that is missing, becomes a reason; nothing is guessed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.errors import Misfit
from adapters.manifest import PartSpec

# Defaults of BnConfig (adapters 1.3.0) for members that older configurations do not have.
_BOTTLENECK_DEFAULTS: Mapping[str, Any] = {
    "is_parallel": False,
    "ln_before": False,
    "ln_after": False,
    "residual_before_ln": True,
    "adapter_residual_before_ln": False,
    "original_ln_before": False,
    "original_ln_after": True,
    "scaling": 1.0,
    "use_gating": False,
}
# Before the configuration had a version, these names meant other functions.
_OLD_ACTIVATIONS: Mapping[str, str] = {"gelu": "gelu_new", "gelu_orig": "gelu"}
_MATRICES: Mapping[str, str] = {"q": "attn_q", "k": "attn_k", "v": "attn_v"}
_METHODS: Mapping[str | None, str] = {
    None: "bottleneck",
    "lora": "lora",
    "prefix_tuning": "prefix tuning",
    "prompt_tuning": "prompt tuning",
    "union": "union",
}


@dataclass(frozen=True)
class Sizes:
    """The sizes of a backbone that a configuration leaves unsaid."""

    hidden: int
    embedding: int
    layers: int


def read_parts(saved: Mapping[str, Any], sizes: Sizes) -> tuple[PartSpec, ...]:
    """The parts of a whole `adapter_config.json`; raises `Misfit` with every reason."""
    config = saved.get("config")
    if not isinstance(config, Mapping):
        raise Misfit(["adapter_config.json has no 'config' object: only its name is known, not what it computes"])
    if _has_old_lora_scaling(saved, config):
        config = {**config, "alpha": config["r"]}
    reasons: list[str] = []
    parts = tuple(_parts(config, sizes, reasons, versioned="version" in saved))
    _reject_shared_sites(parts, reasons)
    if not parts and not reasons:
        reasons.append("the configuration adapts no module at all")
    if reasons:
        raise Misfit(reasons)
    return parts


def activation(name: Any, *, versioned: bool) -> str:
    """An activation's name as the present library spells it."""
    text = str(name)
    return (text if versioned else _OLD_ACTIVATIONS.get(text, text)).lower()


def bottleneck_width(hidden: int, reduction_factor: float) -> int:
    """Width of a bottleneck: at least 1 (the library's `int(hidden // reduction_factor)`)."""
    return max(1, int(hidden // reduction_factor))


def _has_old_lora_scaling(saved: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether it was trained by adapters < 1.1.0, which scaled by 1 whatever alpha said (adapters pull request 770)."""
    version = str(saved.get("version", ""))
    if not version.startswith("adapters.") or config.get("architecture") != "lora" or "r" not in config:
        return False
    numbers = version.removeprefix("adapters.").split(".")
    return all(n.isdigit() for n in numbers[:2]) and tuple(map(int, numbers[:2])) < (1, 1)


def _parts(config: Mapping[str, Any], sizes: Sizes, reasons: list[str], *, versioned: bool) -> Iterable[PartSpec]:
    architecture = config.get("architecture")
    if architecture not in _METHODS:
        reasons.append(f"AdapterHub's method {architecture!r} is not served yet")
        return
    missing = [key for key in _REQUIRED[architecture] if key not in config]
    if missing:
        reasons.append(f"the {_METHODS[architecture]} configuration lacks {', '.join(missing)}")
        return
    known = {*_REQUIRED[architecture], *_OPTIONAL[architecture]}
    unknown = sorted(key for key, value in config.items() if value and key not in known)
    reasons += [f"the {_METHODS[architecture]} setting {key!r} is not known" for key in unknown]
    try:
        match architecture:
            case "union":
                for member in config["configs"]:
                    yield from _parts(member, sizes, reasons, versioned=versioned)
            case "lora":
                yield from _lora(config, sizes, reasons)
            case "prefix_tuning":
                yield from _prefix(config, sizes, reasons)
            case "prompt_tuning":
                yield PartSpec("prompt_tuning", {"length": config["prompt_length"], "at": config["combine"]})
            case _:
                yield from _bottleneck(config, sizes, reasons, versioned=versioned)
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reasons.append(f"the {_METHODS[architecture]} configuration is malformed: {error}")


_REQUIRED: Mapping[str | None, tuple[str, ...]] = {
    None: ("mh_adapter", "output_adapter", "reduction_factor", "non_linearity"),
    "lora": ("selfattn_lora", "intermediate_lora", "output_lora", "r", "alpha", "attn_matrices"),
    "prefix_tuning": ("flat", "prefix_length", "bottleneck_size", "non_linearity"),
    "prompt_tuning": ("prompt_length", "combine"),
    "union": ("configs",),
}
# Every other member of the library's configurations (1.3.0): what is read below, and what only training reads.
_PHM = (
    *("phm_layer", "phm_dim", "phm_rank", "phm_bias", "phm_c_init", "phm_init_range", "learn_phm"),
    *("factorized_phm_W", "factorized_phm_rule", "shared_W_phm", "shared_phm_rule", "hypercomplex_nonlinearity"),
)
_INVERTIBLE = ("inv_adapter", "inv_adapter_reduction_factor", "invertible_adapter")
_COMMON = ("architecture", "leave_out", "dropout", "use_gating", "init_weights", "init_weights_seed")
_OPTIONAL: Mapping[str | None, tuple[str, ...]] = {
    None: (*_COMMON, *_BOTTLENECK_DEFAULTS, *_PHM, *_INVERTIBLE, "cross_adapter", "stochastic_depth"),
    "lora": (*_COMMON, "composition_mode", "use_dora", "vera_d", "vera_b", "dtype"),
    "prefix_tuning": (*_COMMON, "encoder_prefix", "cross_prefix", "shared_gating"),
    "prompt_tuning": ("architecture", "init_weights_seed", "prompt_init", "prompt_init_text"),
    "union": ("architecture",),
}


def _bottleneck(config: Mapping[str, Any], sizes: Sizes, reasons: list[str], *, versioned: bool) -> Iterable[PartSpec]:
    if config.get("phm_layer"):
        reasons.append("Compacter (phm_layer) is not served yet")
        return
    non_linearity = activation(config["non_linearity"], versioned=versioned)
    sites: dict[str, dict[str, int]] = {}
    for layer in _layers(config, sizes):
        held = {"width": bottleneck_width(sizes.hidden, _reduction(config["reduction_factor"], layer))}
        if config["mh_adapter"]:
            sites[f"{layer}/attn_junction"] = held
        if config["output_adapter"]:
            sites[f"{layer}/ffn_junction"] = held
    if sites:
        settings = {key: config.get(key, default) for key, default in _BOTTLENECK_DEFAULTS.items()}
        yield PartSpec("bottleneck", {"sites": sites, "non_linearity": non_linearity, **settings})
    kind, reduction = _invertible(config)
    if kind == "nice":
        half = sizes.embedding // 2
        yield PartSpec("invertible", {"kind": "nice", "non_linearity": non_linearity, "width": int(half // reduction)})
    elif kind is not None:
        reasons.append(f"the invertible adapter {kind!r} can not run in AdapterHub either; only 'nice' is served")


def _invertible(config: Mapping[str, Any]) -> tuple[Any, float]:
    """Kind and reduction factor; 1.x nested them."""
    old = config.get("invertible_adapter")
    if isinstance(old, Mapping):
        return old.get("block_type"), old.get("reduction_factor", 2)
    return config.get("inv_adapter") or None, config.get("inv_adapter_reduction_factor") or 2


def _lora(config: Mapping[str, Any], sizes: Sizes, reasons: list[str]) -> Iterable[PartSpec]:
    mode = config.get("composition_mode", "add")
    what = "(IA)3" if mode == "scale" else "LoRA"
    unserved = {
        f"{what} with gating (use_gating)": config.get("use_gating"),
        "DoRA (use_dora)": config.get("use_dora"),
        "VeRA (vera_d, vera_b)": config.get("vera_d") is not None or config.get("vera_b") is not None,
        f"composition_mode {mode!r}": mode not in ("add", "scale"),
        f"(IA)3 of rank {config['r']}": mode == "scale" and config["r"] != 1,
    }
    refused = [f"{feature} is not served yet" for feature, present in unserved.items() if present]
    refused += [f"attn_matrices names {m!r}" for m in config["attn_matrices"] if m not in _MATRICES]
    if refused:
        reasons.extend(refused)
        return
    names = [site for key, site in _MATRICES.items() if config["selfattn_lora"] and key in config["attn_matrices"]]
    names += ["ffn_in"] if config["intermediate_lora"] else []
    names += ["ffn_out"] if config["output_lora"] else []
    addresses = [f"{layer}/{site}" for layer in _layers(config, sizes) for site in names]
    if not addresses:
        return
    if mode == "scale":
        factor = {"at": "output", "scaling": float(config["alpha"])}
        yield PartSpec("ia3", {"sites": dict.fromkeys(addresses, factor)})
        return
    rank = config["r"]
    settings = {"rank": rank, "scaling": config["alpha"] / rank, "bias": False}
    yield PartSpec("lora", {"sites": dict.fromkeys(addresses, settings)})


def _prefix(config: Mapping[str, Any], sizes: Sizes, reasons: list[str]) -> Iterable[PartSpec]:
    if config.get("use_gating"):
        reasons.append("prefix tuning with gating (use_gating) is not served yet")
        return
    flat = config["flat"]
    if not flat and str(config["non_linearity"]).lower() != "tanh":
        reasons.append(f"a prefix reparametrised with {config['non_linearity']!r} is not served yet, only with tanh")
        return
    narrow = None if flat else config["bottleneck_size"]
    settings = {"length": config["prefix_length"], "flat": flat, "bottleneck": narrow}
    yield PartSpec("prefix_tuning", {**settings, "layers": _layers(config, sizes)})


def _layers(config: Mapping[str, Any], sizes: Sizes) -> list[int]:
    left_out = set(config.get("leave_out") or ())
    return [layer for layer in range(sizes.layers) if layer not in left_out]


def _reduction(value: Any, layer: int) -> float:
    """A number, or a map from layer (as text) to number with a `default`."""
    if isinstance(value, Mapping):
        value = value[str(layer)] if str(layer) in value else value.get("default")
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise ValueError(f"layer {layer} has no positive reduction factor")
    return float(value)


def _reject_shared_sites(parts: Iterable[PartSpec], reasons: list[str]) -> None:
    """Parts of a union act at sites of their own: what two methods at one site compute is not defined."""
    owner: dict[str, str] = {}
    for part in parts:
        everywhere = {
            "prefix_tuning": ["model/attn_kv"],
            "prompt_tuning": ["model/embed_out"],
            "invertible": ["model/embed_out"],
        }
        for site in part.config.get("sites", everywhere.get(part.method, ())):
            if site in owner:
                reasons.append(f"two parts ({owner[site]}, {part.method}) act at {site}, which is not served yet")
                return
            owner[site] = part.method
