"""What adapters make of a table of distances, and of what is made of it: a copy for every unit of rows.

Unit u has the entries u * length .. (u + 1) * length - 1 of what is handed on here; see `batch.plan.Relative`.
"""

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.batch.linears import run_linear
from adapters.batch.norms import run_norm
from adapters.batch.plan import Relative
from adapters.kernels.norms import FrozenNorm


def own_tables(relative: Relative, address: Address, table: Tensor) -> Tensor:
    """The units' tables [units * length, width] in the place of one [length, width]."""
    program, copies = relative.programs.get(address), table.repeat(relative.units, 1)
    if program is None:
        return copies
    entries = torch.arange(relative.length, device=table.device).repeat(relative.units)[:, None]
    return run_linear(program, entries, copies, table.T)


def own_norms(relative: Relative, address: Address, tables: Tensor, norm: FrozenNorm) -> Tensor:
    """The norm of the units' tables [units * length, width]."""
    program, normed = relative.programs.get(address), norm(tables)
    return normed if program is None else run_norm(program, tables, normed, norm)


def own_maps(relative: Relative, address: Address, tables: Tensor, mapped: Tensor, weight: Tensor) -> Tensor:
    """What the map of a layer, whose weight is [out, width], makes of the units' tables; the frozen one made `mapped`."""
    program = relative.programs.get(address)
    return mapped if program is None else run_linear(program, tables, mapped, weight)
