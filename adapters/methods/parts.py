"""From a configuration in AdapterHub's words (adapters 1.3.0) to the parts of a package.

Each function is one kind of configuration, for presets and for saved folders alike: every member is there, those that
were not said with their defaults. What is wrong is noted in `settings` under AdapterHub's own names; what only a method
can judge (its limits, and names of activations) it says when the part is checked. A part does not say what is as usual.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Protocol

from adapters.manifest import PartSpec
from adapters.methods.prompt_tuning import PLACES
from adapters.methods.settings import MAX_COUNT, Settings, is_number

JUNCTIONS: Mapping[str, str] = {
    "mh_adapter": "attn_junction",
    "cross_adapter": "cross_junction",
    "output_adapter": "ffn_junction",
}
MATRICES: Mapping[str, str] = {"q": "attn_q", "k": "attn_k", "v": "attn_v"}
# What they are in a decoder's attention to its encoder, which AdapterHub adapts along with its own.
CROSSED: Mapping[str, str] = {"attn_q": "cross_q", "attn_k": "cross_k", "attn_v": "cross_v"}
# AdapterHub's member -> the part's.
PHM_NUMBERS: Mapping[str, str] = {"phm_dim": "phm_dim", "phm_rank": "phm_rank"}
PHM_FLAGS: Mapping[str, str] = {
    "phm_bias": "phm_bias",
    "factorized_phm_W": "factorized_W",
    "factorized_phm_rule": "factorized_rule",
    "shared_W_phm": "shared_W",
    "shared_phm_rule": "shared_rule",
}
_NUMBER = re.compile("0|[1-9][0-9]{0,5}")
_ALWAYS = ("mh_adapter", "output_adapter")
_FLAGS = (
    "is_parallel",
    "ln_before",
    "ln_after",
    "adapter_residual_before_ln",
    "original_ln_before",
    "original_ln_after",
    "use_gating",
)


class Sizes(Protocol):
    """What a configuration does not say of its backbone."""

    @property
    def layers(self) -> int:
        """Modules of layers."""
        ...

    @property
    def numbered(self) -> int | None:
        """How many layers may be named; None: any number, of which those mean nothing that there are no modules for."""
        ...

    @property
    def hidden_size(self) -> int:
        """Width of the states."""
        ...

    @property
    def embedding_size(self) -> int:
        """Width of the word vectors."""
        ...

    @property
    def crossing(self) -> range:
        """The layers that attend to an encoder's states."""
        ...

    @property
    def feed_forward(self) -> Mapping[str, str]:
        """Site by member of LoRA configurations: which maps these mean depends on the family."""
        ...


def bottleneck(settings: Settings, sizes: Sizes) -> Iterator[PartSpec]:
    """`BnConfig`: a bottleneck or a Compacter, and an invertible adapter where one goes with it."""
    named = {key: settings.flag(key) for key in JUNCTIONS}
    names = [site for key, site in JUNCTIONS.items() if named[key] and (key in _ALWAYS or sizes.crossing)]
    widths = _widths(settings, sizes).items()
    members = {key: settings.get(key) for key in ("residual_before_ln", "scaling")}
    members |= {key: settings.flag(key) for key in _FLAGS} | {"non_linearity": _activation(settings)}
    phm = _phm(settings) if settings.flag("phm_layer") else {}
    sites = {f"{layer}/{name}": {"width": width} for layer, width in widths for name in _held(names, layer, sizes)}
    if sites:
        yield PartSpec("compacter" if phm else "bottleneck", {"sites": sites, **members, **phm})
    yield from _invertible(settings, sizes)


def lora(settings: Settings, sizes: Sizes) -> Iterator[PartSpec]:
    """`LoRAConfig`: LoRA or DoRA, or (IA)3 where the mode is `scale`."""
    rank, alpha, flags = settings.count("r"), settings.number("alpha"), {**_gate(settings), **_dora(settings)}
    addresses = _linear_sites(settings, sizes)
    if settings.choice("composition_mode", ("add", "scale")) == "scale":
        if rank != 1 or "dora" in flags:
            settings.wrong("composition_mode 'scale' needs r 1, and has no use_dora")
        yield from _part("ia3", addresses, {"at": "output", "scaling": alpha, **flags})
    else:
        yield from _part("lora", addresses, {"rank": rank, "scaling": alpha / rank, "bias": False, **flags})


def vera(settings: Settings, sizes: Sizes) -> Iterator[PartSpec]:
    """`LoRAConfig` with VeRA's matrices; how they start is the method's own."""
    rank, alpha, flags = settings.count("r"), settings.number("alpha"), {**_gate(settings), **_dora(settings)}
    yield from _part("vera", _linear_sites(settings, sizes), flags, rank=rank, scaling=alpha / rank)


def mtl_lora(settings: Settings, sizes: Sizes) -> Iterator[PartSpec]:
    """`MTLLoRAConfig`, with a diagonal as the task's own matrix."""
    rank, alpha = settings.count("r"), settings.number("alpha")
    count, sharpness = settings.count("n_up_projection"), settings.number("weights_sharpness", positive=True)
    held = {"rank": rank, "scaling": alpha / rank, **_gate(settings)}
    yield from _part("mtl_lora", _linear_sites(settings, sizes), held, projections=count, sharpness=sharpness)


def prefix(settings: Settings, sizes: Sizes) -> Iterator[PartSpec]:
    """`PrefixTuningConfig`."""
    flat, gated, shared = (settings.flag(key) for key in ("flat", "use_gating", "shared_gating"))
    layers, function = _layers(settings, sizes), _activation(settings)
    members = {"length": settings.count("prefix_length"), "flat": flat, "layers": layers}
    members["bottleneck"] = None if flat else settings.count("bottleneck_size")
    members |= {"non_linearity": function} if function != "tanh" and not flat else {}
    members |= {"gating": "shared" if shared else "separate"} if gated else {}
    encoder, cross = settings.flag("encoder_prefix"), settings.flag("cross_prefix")
    if not sizes.crossing:
        yield from _prefix(members, layers)
        return
    decoder = [layer for layer in layers if layer in sizes.crossing]
    if encoder:
        yield from _prefix(members, [layer for layer in layers if layer not in sizes.crossing])
    yield from _prefix(members, decoder)
    if cross:
        yield from _prefix({**members, "site": "cross_kv"}, decoder)


def prompt(settings: Settings, _: Sizes) -> Iterator[PartSpec]:
    """`PromptTuningConfig`."""
    place = settings.choice("combine", PLACES)
    yield PartSpec("prompt_tuning", {"length": settings.count("prompt_length"), "at": place})


def reft(settings: Settings, sizes: Sizes) -> Iterator[PartSpec]:
    """`ReftConfig`."""
    everywhere = settings.get("layers") == "all"
    layers = list(range(sizes.layers)) if everywhere else sorted(_numbers(settings, "layers", sizes, "'all', or "))
    members = {
        "layers": layers,
        "rank": settings.count("r"),
        "prefix_positions": settings.count("prefix_positions", at_least=0),
        "suffix_positions": settings.count("suffix_positions", at_least=0),
        "tied": settings.flag("tied_weights"),
        "orthogonal": settings.flag("orthogonality"),
        "subtract_projection": settings.flag("subtract_projection"),
        "non_linearity": None if settings.get("non_linearity") is None else _activation(settings),
    }
    if layers:
        yield PartSpec("reft", members)


def _prefix(members: Mapping[str, Any], layers: list[int]) -> Iterator[PartSpec]:
    if layers:
        yield PartSpec("prefix_tuning", {**members, "layers": layers})


def _held(names: list[str], layer: int, sizes: Sizes) -> list[str]:
    """The sites of a kind of layer: not all attend to an encoder."""
    return [name for name in names if layer in sizes.crossing or not name.startswith("cross_")]


def _part(method: str, addresses: list[str], site: Mapping[str, Any], **members: Any) -> Iterator[PartSpec]:
    if addresses:
        yield PartSpec(method, {**members, "sites": {address: dict(site) for address in addresses}})


def _gate(settings: Settings) -> dict[str, Any]:
    return {"gated": True} if settings.flag("use_gating") else {}


def _dora(settings: Settings) -> dict[str, Any]:
    return {"dora": "adapterhub"} if settings.flag("use_dora") else {}


def _phm(settings: Settings) -> dict[str, Any]:
    if settings.flag("shared_W_phm") and isinstance(settings.get("reduction_factor"), Mapping):
        settings.wrong("shared_W_phm needs one reduction_factor for all layers, as a number")
    numbers = {ours: settings.count(theirs) for theirs, ours in PHM_NUMBERS.items()}
    return numbers | {ours: settings.flag(theirs) for theirs, ours in PHM_FLAGS.items()}


def _invertible(settings: Settings, sizes: Sizes) -> Iterator[PartSpec]:
    kind, factor, half = settings.get("inv_adapter"), settings.get("inv_adapter_reduction_factor"), sizes.embedding_size
    if kind is None:
        return
    if kind != "nice":
        settings.wrong(f"inv_adapter must be 'nice' or nothing, not {kind!r}: 'glow' can not run in AdapterHub either")
    narrow = _narrowed(settings, "inv_adapter_reduction_factor", 2 if factor is None else factor, half // 2)
    if narrow < 1:
        settings.wrong(f"inv_adapter_reduction_factor {factor!r} leaves no width: give {half // 2} at most")
    yield PartSpec("invertible", {"kind": "nice", "non_linearity": _activation(settings), "width": narrow})


def _linear_sites(settings: Settings, sizes: Sizes) -> list[str]:
    """Every adapted map, layer by layer."""
    matrices = settings.get("attn_matrices")
    if not isinstance(matrices, list | tuple) or any(matrix not in [*MATRICES] for matrix in matrices):
        settings.wrong(f"attn_matrices must be a list of {', '.join(map(repr, MATRICES))}, not {matrices!r}")
        matrices = ()
    attention = settings.flag("selfattn_lora")
    names = [site for key, site in MATRICES.items() if attention and key in matrices]
    names += [site for key, site in sizes.feed_forward.items() if settings.flag(key)]
    names = [both for name in names for both in (name, CROSSED.get(name)) if both is not None]
    return [f"{layer}/{name}" for layer in _layers(settings, sizes) for name in _held(names, layer, sizes)]


def _layers(settings: Settings, sizes: Sizes) -> list[int]:
    """The layers that are not left out."""
    left_out = () if settings.get("leave_out") is None else _numbers(settings, "leave_out", sizes)
    return [layer for layer in range(sizes.layers) if layer not in left_out]


def _numbers(settings: Settings, key: str, sizes: Sizes, other: str = "") -> Collection[int]:
    """A member that lists layers."""
    value, most = settings.get(key), sizes.numbered
    if not isinstance(value, list | tuple) or any(type(x) is not int or not _is_named(x, most) for x in value):
        bound = "" if most is None else f" to {most - 1}"
        settings.wrong(f"{key} must be {other}a list of layers from 0{bound}, not {value!r}")
        return ()
    return {layer for layer in value if layer < sizes.layers}


def _is_named(layer: int, most: int | None) -> bool:
    return layer >= 0 and (most is None or layer < most)


def _widths(settings: Settings, sizes: Sizes) -> dict[int, int]:
    """The width of the bottlenecks in every layer, by a number, or numbers of layers (as text) with a `default`."""
    value = settings.get("reduction_factor")
    factors = value if isinstance(value, Mapping) else {"default": value}
    most = sizes.numbered
    for name in factors:
        if name != "default" and not (_NUMBER.fullmatch(name) and _is_named(int(name), most)):
            bound = "" if most is None else f" to '{most - 1}'"
            settings.wrong(f"reduction_factor names {name!r}, which is no layer from '0'{bound}")
    return {
        layer: max(1, _narrowed(settings, "reduction_factor", _of_layer(factors, layer), sizes.hidden_size))
        for layer in _layers(settings, sizes)
    }


def _of_layer(factors: Mapping[str, Any], layer: int) -> Any:
    return factors[str(layer)] if str(layer) in factors else factors.get("default")


def _narrowed(settings: Settings, key: str, factor: Any, size: int) -> int:
    """A width that is divided by a factor, which has to be a number above zero, and no tiny one."""
    if not is_number(factor) or factor <= 0 or size / factor > MAX_COUNT:
        settings.wrong(f"{key} must be a number above zero, for every layer, not {factor!r}")
        return 1
    return int(size // factor)


def _activation(settings: Settings) -> str:
    value = settings.get("non_linearity")
    if not isinstance(value, str):
        settings.wrong(f"non_linearity must be the name of an activation, not {value!r}")
        return "relu"
    return value.lower()
