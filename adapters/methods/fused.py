"""A map that is several sites at once: what is folded for the whole becomes a block at each of its parts.

A part is some rows of W, and so of everything that has a row per output; what reads the input is the same for all.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.errors import Misfit
from adapters.methods.base import Fitting
from adapters.weights import Folded

# Of each method at linear sites: its folded tensors that have a row per output.
ROWS: Mapping[str, frozenset[str]] = {
    "biases": frozenset(("shift",)),
    "lora": frozenset(("up", "bias", "gain", "shift")),
    "delta": frozenset(("delta", "shift")),
    "road": frozenset(("first", "second")),
    "ia3": frozenset(("scale",)),
    "lily": frozenset(("up",)),
}


def at_parts(address: Address, folded: Folded, fitting: Fitting) -> dict[Address, Folded]:
    """The block at its own address, or, of a map that is several sites, a block at each; raises `Misfit`."""
    parts = fitting.architecture.parts(address)
    if len(parts) == 1:
        return {address: folded}
    sizes = [fitting.widths(part.site)[1] for part in parts]
    rows = ROWS[folded.method] if folded.variant != "input" else frozenset[str]()
    if any(name.startswith("gate.") for name in folded.tensors):
        raise Misfit([f"{folded.method}: a map that is several sites has no gate ({address})"])
    if folded.method == "road" and any(size % int(str(folded.variant)) for size in sizes):
        raise Misfit([f"road: a group of channels must lie in one of the parts of {address}"])
    pieces: dict[str, tuple[Tensor, ...]] = {
        name: torch.split(tensor, sizes) if name in rows else (tensor,) * len(parts)
        for name, tensor in folded.tensors.items()
    }
    return {
        part: Folded(folded.method, folded.variant, {name: held[i] for name, held in pieces.items()})
        for i, part in enumerate(parts)
    }
