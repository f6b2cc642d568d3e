"""One adapter of a map that is several sites in one (GPT-2's c_attn), out of those of its sites: PEFT adapts it whole.

What was read from PEFT is stored for the whole map already; AdapterHub adapts the sites.

W' = [W_1; W_2; ...]     LoRA: A of all parts below one another, B block by block     (IA)3: ones where no part is
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.formats.peft.host import Host

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Module:
    """A map's path, and what is to be said and stored of it: settings, and tensors by native parameter."""

    path: str
    settings: Mapping[str, Any]
    tensors: Tensors


def modules(sites: Mapping[str, Mapping[str, Any]], tensors: Tensors, host: Host) -> list[Module]:
    """Every map that a part adapts, in the order of its sites; raises `Misfit` where its sites do not go together."""
    wide = {address: path for path, parts in host.fused_modules().items() for address in parts}
    found: list[Module] = []
    for site, settings in sites.items():
        address = Address.parse(site)
        if address not in wide:
            found.append(Module(host.whole_path(address), settings, _of(tensors, site)))
        elif wide[address] not in [module.path for module in found]:
            parts = [str(part) for part in host.fused_modules()[wide[address]]]
            held = {part: sites[part] for part in parts if part in sites}
            found.append(_together(wide[address], parts, held, tensors))
    return found


def _together(path: str, parts: Sequence[str], sites: Mapping[str, Mapping[str, Any]], tensors: Tensors) -> Module:
    own = {part: _of(tensors, part) for part in sites}
    first = next(iter(sites.values()))
    if "scale" in next(iter(own.values())):
        return Module(path, first, {"scale": _scales(path, parts, sites, own)})
    if any(settings.get("dora", "none") != "none" for settings in sites.values()) and len(own) < len(parts):
        raise Misfit([f"PEFT's DoRA stretches all of {path}, of which only {', '.join(own)} are adapted"])
    apart = {key: {str(s.get(key)) for s in sites.values()} for key in ("bias", "dora", "gated")}
    if any(len(values) > 1 for values in apart.values()):
        raise Misfit([f"PEFT has one kind of LoRA for all of {path}"])
    downs = [held["lora_A"] for held in own.values()]
    if len(own) == len(parts) and _alike(downs, [s["scaling"] for s in sites.values()]):
        return Module(path, first, {"lora_A": downs[0], **_stacked(parts, own, ("lora_B", "lora_bias", "magnitude"))})
    ups = {part: held["lora_B"] * (sites[part]["scaling"] / first["scaling"]) for part, held in own.items()}
    rank, out = sum(len(down) for down in downs), len(next(iter(ups.values())))
    whole, column = downs[0].new_zeros(len(parts) * out, rank), 0
    for number, part in enumerate(parts):
        if part in ups:
            width = ups[part].shape[1]
            whole[number * out : (number + 1) * out, column : column + width] = ups[part]
            column += width
    biases = {p: {"lora_bias": h["lora_bias"] * (sites[p]["scaling"] / first["scaling"])} for p, h in own.items() if "lora_bias" in h}  # fmt: skip
    rest = {**_stacked(parts, biases, ("lora_bias",)), **_stacked(parts, own, ("magnitude",))}
    return Module(path, {**first, "rank": rank}, {"lora_A": torch.cat(downs), "lora_B": whole, **rest})


def _alike(downs: Sequence[Tensor], scalings: Sequence[float]) -> bool:
    return len(set(scalings)) == 1 and all(torch.equal(down, downs[0]) for down in downs)


def _stacked(parts: Sequence[str], own: Mapping[str, Tensors], names: Sequence[str]) -> dict[str, Tensor]:
    """Parameters of rows, one below the other; zeros where a part has none."""
    found: dict[str, Tensor] = {}
    for name in names:
        held = {part: tensors[name] for part, tensors in own.items() if name in tensors}
        if held:
            empty = torch.zeros_like(next(iter(held.values())))
            found[name] = torch.cat([held.get(part, empty) for part in parts])
    return found


def _scales(
    path: str, parts: Sequence[str], sites: Mapping[str, Mapping[str, Any]], own: Mapping[str, Tensors]
) -> Tensor:
    """The factors of a whole map, each part's scaling in them but for that of the first, which follows."""
    inner = {str(settings.get("at", "output")) for settings in sites.values()}
    if inner == {"output"}:
        first = next(iter(sites.values()))["scaling"]
        ones = torch.ones_like(next(iter(own.values()))["scale"]) / first
        held = {part: tensors["scale"] * (sites[part]["scaling"] / first) for part, tensors in own.items()}
        return torch.cat([held.get(part, ones) for part in parts])
    factors = [tensors["scale"] * sites[part]["scaling"] for part, tensors in own.items()]
    if inner != {"input"} or len(own) < len(parts) or not _alike(factors, (1.0,)):
        raise Misfit([f"PEFT has one vector of factors for the inputs of all of {path}"])
    return next(iter(own.values()))["scale"]


def _of(tensors: Tensors, site: str) -> dict[str, Tensor]:
    head = f"{site}/"
    return {name.removeprefix(head): tensor for name, tensor in tensors.items() if name.startswith(head)}
