"""An adapter's own positions, segments or distances: a table of vectors in the place of the backbone's.

    x' = x + (R'[i] - R[i])      x = words + R[i] + ...

Of distances x is the table itself. The difference is folded once. So is that of the bias of images' patches
(`adapters.methods.biases`). Word vectors: `adapters.methods.word_rows`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import TABLES, Address
from adapters.kernels.ragged import looked_up
from adapters.methods.base import Fitting, Operand, Shapes, prefixed, wide_at
from adapters.methods.settings import Settings, known_in
from adapters.weights import Block, Folded, Insertion

ADDED = tuple(site for site in TABLES if not site.endswith("words"))
ROWS = "rows"


@dataclass(frozen=True)
class TableRows:
    """The method."""

    name: str = "tables"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per site: rows [entries, width]."""
        found: Shapes = {}
        for address in _read(config, fitting):
            found |= prefixed(address, {ROWS: fitting.widths(address.site)})
        return found

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """The frozen tables: the adapter starts as the identity."""
        return {f"{address}/{ROWS}": fitting.weight(address).T.float().clone() for address in _read(config, fitting)}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """What is added to the vectors of the frozen table."""
        folded: dict[Address, Folded] = {}
        for address in _read(config, fitting):
            folded[address] = changed_rows(wide_at(tensors, address)[ROWS], fitting.weight(address).T)
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens."""
        return None

    def chains(self, block: Block, *, first: bool = False) -> bool:
        """Never: what stands in the place of the frozen table is no change that another adapter could build on."""
        return False

    def change(self, h: Tensor | None, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: each token's difference."""
        return looked_up(operand.params[ROWS], x[:, 0], operand.runs)

    def apply(self, h: Tensor, y: Tensor, x: Tensor, weight: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnLinear`: the sum."""
        return y + h

    def settle(self, x: Tensor, y: Tensor, operand: Operand) -> bool:
        """See `ActsOnLinear`: no kernel."""
        return False


TABLE_ROWS = TableRows()


def changed_rows(rows: Tensor, frozen: Tensor) -> Folded:
    """The block of a table [entries, width] in the place of the frozen one."""
    return Folded(TABLE_ROWS.name, None, {ROWS: rows - frozen.to(rows)})


def _read(config: Mapping[str, Any], fitting: Fitting) -> list[Address]:
    settings = Settings("tables", config, ("sites",))
    found = settings.sites(fitting, ADDED)
    for address, held in found.items():
        known_in(settings, f"sites.{address}", held, ())
    settings.done()
    return list(found)
