"""LoRA and what AdapterHub builds on it: (IA)3 (`composition_mode: scale`), DoRA, VeRA, MTL-LoRA, and their gates.

Where a family has one map for queries, keys and values, a checkpoint holds the blocks of those that are adapted one
below the other; native packages have a site for each.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.adapterhub.host import Host, grid, layers_of
from adapters.formats.adapterhub.keys import Key
from adapters.formats.adapterhub.wording import Layout, Wording, integral
from adapters.manifest import PartSpec

SHARED = "model/vera"
_MATRICES: Mapping[str, str] = {"q": "attn_q", "k": "attn_k", "v": "attn_v"}
_SITES = {*_MATRICES.values(), "ffn_in", "ffn_out"}
_REQUIRED = ("selfattn_lora", "intermediate_lora", "output_lora", "r", "alpha", "attn_matrices")
_TRAINING = ("dropout", "init_weights", "init_weights_seed", "dtype")
_MODES = ("composition_mode", "leave_out", "use_gating", "use_dora", "vera_d", "vera_b")
_MTL = ("n_up_projection", "task_specific_matrix_type", "weights_sharpness")


def read(config: Mapping[str, Any], host: Host) -> Iterator[PartSpec]:
    """The part of a `lora` configuration: LoRA, (IA)3 or VeRA."""
    mode, addresses, rank = config.get("composition_mode", "add"), _addresses(config, host), config["r"]
    vera = _is_vera(config)
    fused = any(host.family.fused(Address.parse(text)) for text in addresses)
    refused = {
        f"composition_mode {mode!r} is not served": mode not in ("add", "scale"),
        f"(IA)3 of rank {rank} can not run in AdapterHub either": mode == "scale" and rank != 1,
        "(IA)3 goes with neither DoRA nor VeRA": mode == "scale" and (vera or bool(config.get("use_dora"))),
        "AdapterHub itself computes no DoRA in a map for queries, keys and values together": bool(
            fused and config.get("use_dora")
        ),
        "AdapterHub itself can not run VeRA in a map for queries, keys and values together": fused and vera,
        "(IA)3 with an alpha scales all of a map for queries, keys and values; adapt all three": (
            fused and mode == "scale" and config["alpha"] != 1 and not set(_MATRICES) <= set(config["attn_matrices"])
        ),
    }
    _refuse(config, refused)
    if not addresses:
        return
    if mode == "scale":
        factor = {"at": "output", "scaling": float(config["alpha"])} | _flags(config)
        yield PartSpec("ia3", {"sites": dict.fromkeys(addresses, factor)})
    elif vera:
        scaling = config["alpha"] / rank
        yield PartSpec("vera", {"rank": rank, "scaling": scaling, "sites": dict.fromkeys(addresses, _flags(config))})
    else:
        held = {"rank": rank, "scaling": config["alpha"] / rank, "bias": False} | _flags(config)
        yield PartSpec("lora", {"sites": dict.fromkeys(addresses, held)})


def read_mtl(config: Mapping[str, Any], host: Host) -> Iterator[PartSpec]:
    """The part of an `mtl_lora` configuration."""
    mode, addresses, rank = config.get("composition_mode", "add"), _addresses(config, host), config["r"]
    kind = config.get("task_specific_matrix_type", "singular_values")
    refused = {
        f"MTL-LoRA with composition_mode {mode!r} is not served": mode != "add",
        "MTL-LoRA goes with neither DoRA nor VeRA": _is_vera(config) or bool(config.get("use_dora")),
        f"MTL-LoRA's task matrix {kind!r} can not run in AdapterHub either": kind != "singular_values",
        "AdapterHub itself can not run MTL-LoRA in a map for queries, keys and values together": any(
            host.family.fused(Address.parse(text)) for text in addresses
        ),
    }
    _refuse(config, refused)
    if addresses:
        held = {"rank": rank, "scaling": config["alpha"] / rank} | _flags(config)
        members = {
            "projections": config.get("n_up_projection", 1),
            "sharpness": float(config.get("weights_sharpness", 0.05)),
        }
        yield PartSpec("mtl_lora", {**members, "sites": dict.fromkeys(addresses, held)})


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


def _addresses(config: Mapping[str, Any], host: Host) -> list[str]:
    """Every adapted site, layer by layer."""
    names = [site for key, site in _MATRICES.items() if config["selfattn_lora"] and key in config["attn_matrices"]]
    names += ["ffn_in"] if config["intermediate_lora"] else []
    names += ["ffn_out"] if config["output_lora"] else []
    return [f"{layer}/{site}" for layer in layers_of(config, host) for site in names]


def _is_vera(config: Mapping[str, Any]) -> bool:
    """The library asks just this: a start that is an integer makes a plain LoRA."""
    return isinstance(config.get("vera_d"), float) or isinstance(config.get("vera_b"), float)


def _flags(config: Mapping[str, Any]) -> dict[str, Any]:
    gated: dict[str, Any] = {"gated": True} if config.get("use_gating") else {}
    return gated | ({"dora": "adapterhub"} if config.get("use_dora") else {})


def _refuse(config: Mapping[str, Any], refused: Mapping[str, bool]) -> None:
    reasons = [reason for reason, present in refused.items() if present]
    reasons += [f"attn_matrices names {m!r}" for m in config["attn_matrices"] if m not in _MATRICES]
    if reasons:
        raise Misfit(reasons)


def _same(sites: Mapping[str, Mapping[str, Any]], what: str) -> Mapping[str, Any]:
    held = list(sites.values())
    if any(other != held[0] for other in held):
        raise Misfit([f"AdapterHub has one {what} for all modules"])
    return held[0]


def _low_rank(sites: Mapping[str, Any], host: Host, rank: int, scaling: float) -> dict[str, Any]:
    by_site, left_out = grid(sites, host)
    if not by_site <= _SITES:
        raise Misfit([f"AdapterHub has no LoRA at {', '.join(sorted(by_site - _SITES))}"])
    return {
        "architecture": "lora",
        "selfattn_lora": bool(by_site & set(_MATRICES.values())),
        "attn_matrices": [letter for letter, site in _MATRICES.items() if site in by_site],
        "intermediate_lora": "ffn_in" in by_site,
        "output_lora": "ffn_out" in by_site,
        "leave_out": left_out,
        "r": rank,
        "alpha": integral(scaling * rank),
        "composition_mode": "add",
        "vera_d": None,
        "vera_b": None,
        "dropout": 0.0,
    }


def _words(held: Mapping[str, Any]) -> dict[str, Any]:
    if held.get("dora", "none") not in ("none", "adapterhub"):
        raise Misfit(["AdapterHub's DoRA is not PEFT's: it takes another norm, and the bias with it"])
    return {"use_gating": bool(held.get("gated")), "use_dora": held.get("dora", "none") == "adapterhub"}


WORDING = Wording("LoRA", _REQUIRED, (*_MODES, *_TRAINING), read)
WORDING_MTL = Wording("MTL-LoRA", _REQUIRED, (*_MODES, *_TRAINING, *_MTL), read_mtl)
LAYOUT = Layout(keys_lora, write_lora)
LAYOUT_IA3 = Layout(keys_ia3, write_ia3)
LAYOUT_VERA = Layout(keys_vera, write_vera)
LAYOUT_MTL = Layout(keys_mtl, write_mtl)
