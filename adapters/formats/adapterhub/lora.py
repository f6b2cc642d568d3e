"""LoRA and what AdapterHub builds on it: (IA)3 (`composition_mode: scale`), DoRA, VeRA, MTL-LoRA, and their gates.

Where a family has one map for queries, keys and values, a checkpoint holds the blocks of those that are adapted one
below the other; native packages have a site for each.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.adapterhub.host import Host, grid
from adapters.formats.adapterhub.keys import Key
from adapters.formats.adapterhub.wording import Layout, Wording, integral
from adapters.manifest import PartSpec
from adapters.methods import parts
from adapters.methods.parts import CROSSED, MATRICES
from adapters.methods.presets import LORA_CONFIG, MTL_CONFIG
from adapters.methods.settings import Settings, is_number
from adapters.methods.vera import SHARED

_REQUIRED = ("selfattn_lora", "intermediate_lora", "output_lora", "r", "alpha", "attn_matrices")
_VERA: Mapping[str, Any] = {"vera_d": None, "vera_b": None}
_TRAINING = ("dropout", "init_weights", "init_weights_seed", "dtype")


def read(settings: Settings, host: Host) -> Iterator[PartSpec]:
    """The part of a `lora` configuration: LoRA, (IA)3 or VeRA."""
    vera = _is_vera(settings)
    made = list((parts.vera if vera else parts.lora)(settings, host))
    scales, dora = settings.choice("composition_mode", ("add", "scale")) == "scale", settings.flag("use_dora")
    fused = _fused(made, host)
    partly = bool(fused) and not set(MATRICES.values()) <= fused
    refused = {
        "(IA)3 goes with neither DoRA nor VeRA": scales and vera,
        "AdapterHub itself computes no DoRA in a map for queries, keys and values together": bool(fused) and dora,
        "AdapterHub itself can not run VeRA in a map for queries, keys and values together": bool(fused) and vera,
        "(IA)3 with an alpha scales all of a map for queries, keys and values; adapt all three": (
            scales and partly and settings.get("alpha") != 1
        ),
    }
    yield from _but_for(refused, made, settings)


def read_mtl(settings: Settings, host: Host) -> Iterator[PartSpec]:
    """The part of an `mtl_lora` configuration."""
    made, kind = list(parts.mtl_lora(settings, host)), settings.get("task_specific_matrix_type")
    settings.choice("composition_mode", ("add",))
    refused = {
        "MTL-LoRA goes with neither DoRA nor VeRA": any((_is_vera(settings), settings.flag("use_dora"))),
        f"the task_specific_matrix_type {kind!r} can not run in AdapterHub either": kind != "singular_values",
        "AdapterHub itself can not run MTL-LoRA in a map for queries, keys and values together": bool(
            _fused(made, host)
        ),
    }
    yield from _but_for(refused, made, settings)


def keys_lora(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """Both matrices of every map, its magnitude and its gate."""
    yield from _keys(config["sites"], ("lora_A", "lora_B"), name, host)


def keys_ia3(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """The factors of every map, stored as a matrix of one column, and its gate."""
    yield from _keys(config["sites"], ("scale",), name, host)


def keys_vera(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """A map's own matrices, and the two that all of them share."""
    yield from _keys(config["sites"], ("vera_D", "vera_B"), name, host)
    shared = f"shared_parameters.{name}"
    yield from (Key(f"{shared}.{matrix}", (f"{SHARED}/{matrix}",)) for matrix in ("lora_A", "lora_B"))


def keys_mtl(config: Mapping[str, Any], name: str, host: Host) -> Iterator[Key]:
    """The matrices of every map, and what is the task's own."""
    yield from _keys(config["sites"], ("lora_A", "lora_B", "task", "weights"), name, host)


def write_lora(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    if "invocation" in config:
        raise Misfit(["AdapterHub has no activated LoRA"])
    held = _same(config["sites"], "rank, one scaling, and one kind of LoRA")
    if held.get("bias", False):
        raise Misfit(["AdapterHub's LoRA has no bias"])
    return {**_low_rank(config["sites"], host, held["rank"], held["scaling"]), **_words(held)}


def write_ia3(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    if {held.get("at", "output") for held in config["sites"].values()} != {"output"}:
        raise Misfit(["AdapterHub's (IA)3 scales outputs only"])
    held = _same(config["sites"], "alpha, and a gate or none,")
    return {**_low_rank(config["sites"], host, 1, held["scaling"]), **_words(held), "composition_mode": "scale"}


def write_vera(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A configuration that reads as the same part; where the matrices start is of no more interest."""
    held = _same(config["sites"], "kind of VeRA")
    starts = {"vera_d": 0.1, "vera_b": 0.0, "init_weights": "vera"}
    return {**_low_rank(config["sites"], host, config["rank"], config["scaling"]), **_words(held), **starts}


def write_mtl(config: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """A configuration that reads as the same part."""
    held = _same(config["sites"], "rank and one scaling")
    return {
        **_low_rank(config["sites"], host, held["rank"], held["scaling"]),
        **_words(held),
        "architecture": "mtl_lora",
        "n_up_projection": config["projections"],
        "weights_sharpness": config["sharpness"],
        "task_specific_matrix_type": "singular_values",
    }


# Native parameter -> what follows the adapter's name in a key.
_STORED: Mapping[str, str] = {"scale": "lora_B", "task": "task_specific.values", "magnitude": "m.weight"}
_COLUMNS = ("scale", "magnitude")


def _keys(sites: Mapping[str, Mapping[str, Any]], parameters: tuple[str, ...], name: str, host: Host) -> Iterator[Key]:
    """The keys of every map that holds one or more of the sites; the sites of one map agree in what they have."""
    by_path: dict[str, list[tuple[int, str]]] = {}
    for text in sites:
        address = Address.parse(text)
        index = host.family.fused(address)
        by_path.setdefault(host.family.linear_path(address), []).append((0 if index is None else index[0], text))
    for path, found in by_path.items():
        blocks = [text for _, text in sorted(found)]
        held = sites[blocks[0]]
        names = [*parameters]
        names += ["magnitude"] if held.get("dora", "none") != "none" else []
        names += ["gate.weight", "gate.bias"] if held.get("gated") else []
        for parameter in names:
            natives = tuple(f"{text}/{parameter}" for text in blocks)
            stored = f"{path}.loras.{name}.{_STORED.get(parameter, parameter)}"
            yield Key(stored, natives, column=parameter in _COLUMNS)


def _is_vera(settings: Settings) -> bool:
    """The library asks just this: a start that is an integer makes a plain LoRA."""
    starts = {key: settings.get(key) for key in _VERA}
    for key, value in starts.items():
        if value is not None and not is_number(value):
            settings.wrong(f"{key} must be a number or nothing, not {value!r}")
    return any(isinstance(value, float) for value in starts.values())


def _fused(made: Iterable[PartSpec], host: Host) -> set[str]:
    """The adapted sites that share a map."""
    addresses = [Address.parse(text) for part in made for text in part.config["sites"]]
    return {address.site for address in addresses if host.family.fused(address)}


def _but_for(refused: Mapping[str, bool], made: list[PartSpec], settings: Settings) -> Iterator[PartSpec]:
    for reason, present in refused.items():
        if present:
            settings.wrong(reason)
    yield from made


def _same(sites: Mapping[str, Mapping[str, Any]], what: str) -> Mapping[str, Any]:
    held = list(sites.values())
    if any(other != held[0] for other in held):
        raise Misfit([f"AdapterHub has one {what} for all modules"])
    return held[0]


def _low_rank(sites: Mapping[str, Any], host: Host, rank: int, scaling: float) -> dict[str, Any]:
    by_site, left_out = grid(sites, host)
    crossed = {site for site in by_site if site.startswith("cross_")}
    strange = by_site - crossed - {*MATRICES.values(), *host.feed_forward.values()}
    decodes = any(Address.parse(text).layer in host.crossing for text in sites)
    if decodes and crossed != {CROSSED[site] for site in by_site if site in CROSSED}:
        strange |= crossed or {CROSSED[site] for site in by_site if site in CROSSED}
    if strange:
        raise Misfit([f"AdapterHub has no LoRA at {', '.join(sorted(strange))}"])
    return {
        "architecture": "lora",
        "selfattn_lora": bool(by_site & set(MATRICES.values())),
        "attn_matrices": [letter for letter, site in MATRICES.items() if site in by_site],
        **{key: site in by_site for key, site in host.feed_forward.items()},
        "leave_out": left_out,
        "r": rank,
        "alpha": integral(scaling * rank),
        "composition_mode": "add",
        **_VERA,
        "dropout": 0.0,
    }


def _words(held: Mapping[str, Any]) -> dict[str, Any]:
    if held.get("dora", "none") not in ("none", "adapterhub"):
        raise Misfit(["AdapterHub's DoRA is not PEFT's: it takes another norm, and the bias with it"])
    return {"use_gating": bool(held.get("gated")), "use_dora": held.get("dora", "none") == "adapterhub"}


_ANY = {**LORA_CONFIG, **_VERA}
_MTL = {**_ANY, **MTL_CONFIG, "task_specific_matrix_type": "singular_values"}
WORDING = Wording("LoRA", _REQUIRED, _ANY, _TRAINING, read)
WORDING_MTL = Wording("MTL-LoRA", _REQUIRED, _MTL, _TRAINING, read_mtl)
LAYOUT = Layout(keys_lora, write_lora)
LAYOUT_IA3 = Layout(keys_ia3, write_ia3)
LAYOUT_VERA = Layout(keys_vera, write_vera)
LAYOUT_MTL = Layout(keys_mtl, write_mtl)
