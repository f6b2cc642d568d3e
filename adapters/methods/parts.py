"""From a configuration in AdapterHub's words (adapters 1.3.0) to the parts of a package.

Each function is one kind of configuration. What is wrong is noted in `settings`; what only a method can judge (its own
numbers and names) it says when the part is checked.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.manifest import PartSpec
from adapters.methods.base import Fitting
from adapters.methods.bottleneck import MEMBERS
from adapters.methods.settings import Settings, number_in

_PHM = {  # AdapterHub's member -> the part's
    "phm_dim": "phm_dim",
    "phm_rank": "phm_rank",
    "phm_bias": "phm_bias",
    "factorized_phm_W": "factorized_W",
    "factorized_phm_rule": "factorized_rule",
    "shared_W_phm": "shared_W",
    "shared_phm_rule": "shared_rule",
}
_MATRICES = {"q": "attn_q", "k": "attn_k", "v": "attn_v"}


def bottleneck(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> Iterator[PartSpec]:
    """`BnConfig`: a bottleneck or a Compacter, and an invertible adapter where one goes with it."""
    places = {"mh_adapter": "attn_junction", "output_adapter": "ffn_junction"}
    names = [site for key, site in places.items() if settings.flag(key)]
    sites: dict[str, Any] = {}
    for layer in _layers(settings, config, fitting):
        reduction = _reduction(settings, config["reduction_factor"], layer)
        width = max(1, int(fitting.geometry.hidden_size // reduction))
        sites |= {f"{layer}/{name}": {"width": width} for name in names}
    phm = {ours: config[theirs] for theirs, ours in _PHM.items()} if settings.flag("phm_layer") else {}
    if sites:
        members = {key: config[key] for key in MEMBERS if key != "sites"}
        yield PartSpec("compacter" if phm else "bottleneck", {**members, **phm, "sites": sites})
    if config["inv_adapter"] is not None:
        kind = settings.choice("inv_adapter", ("nice",))
        narrow = _positive(settings, config, "inv_adapter_reduction_factor")
        width = max(1, int(fitting.geometry.embedding_size // 2 // narrow))
        yield PartSpec("invertible", {"kind": kind, "non_linearity": config["non_linearity"], "width": width})


def lora(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> Iterator[PartSpec]:
    """`LoRAConfig`: LoRA or DoRA, or (IA)3 where the mode is `scale`."""
    rank, alpha, gated = settings.count("r"), _positive(settings, config, "alpha"), settings.flag("use_gating")
    dora = settings.flag("use_dora")
    addresses = _linear_sites(settings, config, fitting)
    if settings.choice("composition_mode", ("add", "scale")) == "scale":
        if rank != 1 or dora:
            settings.wrong("composition_mode 'scale' needs r 1, and has no use_dora")
        factor = {"at": "output", "scaling": alpha, "gated": gated}
        yield from _part("ia3", addresses, factor)
    else:
        held = {"rank": rank, "scaling": alpha / rank, "bias": False, "gated": gated, "dora": _flavour(dora=dora)}
        yield from _part("lora", addresses, held)


def vera(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> Iterator[PartSpec]:
    """`LoRAConfig` with VeRA's matrices; how they start is the method's own."""
    rank, alpha = settings.count("r"), _positive(settings, config, "alpha")
    held = {"gated": settings.flag("use_gating"), "dora": _flavour(dora=settings.flag("use_dora"))}
    addresses = _linear_sites(settings, config, fitting)
    yield from _part("vera", addresses, held, rank=rank, scaling=alpha / rank)


def mtl_lora(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> Iterator[PartSpec]:
    """`MTLLoRAConfig`, with a diagonal as the task's own matrix."""
    rank, alpha = settings.count("r"), _positive(settings, config, "alpha")
    held = {"rank": rank, "scaling": alpha / rank, "gated": settings.flag("use_gating")}
    count, sharpness = settings.count("n_up_projection"), _positive(settings, config, "weights_sharpness")
    addresses = _linear_sites(settings, config, fitting)
    yield from _part("mtl_lora", addresses, held, projections=count, sharpness=sharpness)


def prefix(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> Iterator[PartSpec]:
    """`PrefixTuningConfig`."""
    flat, gated, shared = (settings.flag(key) for key in ("flat", "use_gating", "shared_gating"))
    gating = ("shared" if shared else "separate") if gated else "none"
    narrow = {} if flat else {"bottleneck": config["bottleneck_size"], "non_linearity": config["non_linearity"]}
    layers = _layers(settings, config, fitting)
    if layers:
        length = config["prefix_length"]
        yield PartSpec("prefix_tuning", {"length": length, "flat": flat, **narrow, "layers": layers, "gating": gating})


def prompt(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> Iterator[PartSpec]:
    """`PromptTuningConfig`."""
    yield PartSpec("prompt_tuning", {"length": config["prompt_length"], "at": config["combine"]})


def reft(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> Iterator[PartSpec]:
    """`ReftConfig`."""
    layers = list(range(fitting.geometry.layers)) if config["layers"] == "all" else config["layers"]
    same = ("prefix_positions", "suffix_positions", "subtract_projection", "non_linearity")
    named = {"layers": layers, "rank": config["r"], "tied": config["tied_weights"]}
    yield PartSpec("reft", {**named, "orthogonal": config["orthogonality"], **{key: config[key] for key in same}})


def _part(method: str, addresses: list[str], site: Mapping[str, Any], **members: Any) -> Iterator[PartSpec]:
    if addresses:
        yield PartSpec(method, {**members, "sites": {address: dict(site) for address in addresses}})


def _flavour(*, dora: bool) -> str:
    return "adapterhub" if dora else "none"


def _linear_sites(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> list[str]:
    matrices = config["attn_matrices"]
    if not isinstance(matrices, list | tuple) or any(m not in _MATRICES for m in matrices):
        settings.wrong(f"attn_matrices must be a list of {', '.join(map(repr, _MATRICES))}, not {matrices!r}")
        matrices = ()
    names = [site for key, site in _MATRICES.items() if settings.flag("selfattn_lora") and key in matrices]
    names += [site for key, site in (("intermediate_lora", "ffn_in"), ("output_lora", "ffn_out")) if settings.flag(key)]
    return [f"{layer}/{name}" for layer in _layers(settings, config, fitting) for name in names]


def _layers(settings: Settings, config: Mapping[str, Any], fitting: Fitting) -> list[int]:
    present, left_out = range(fitting.geometry.layers), config["leave_out"]
    if not isinstance(left_out, list | tuple) or any(type(x) is not int or x not in present for x in left_out):
        settings.wrong(f"leave_out must be a list of layers below {len(present)}, not {left_out!r}")
        return []
    return [layer for layer in present if layer not in left_out]


def _reduction(settings: Settings, value: Any, layer: int) -> float:
    """A number, or a map from layer (as text) to number with a `default`."""
    if isinstance(value, Mapping):
        value = value.get(str(layer), value.get("default"))
    return _positive(settings, {"reduction_factor": value}, "reduction_factor")


def _positive(settings: Settings, config: Mapping[str, Any], key: str) -> float:
    value = number_in(settings, "config", config, key)
    if value <= 0:
        settings.wrong(f"{key} must be above zero, not {value!r}")
        return 1.0
    return value
