"""Packed attention of a decoder's rows to their encoders' rows: every row sees all of its own, and nothing else.

Rows that agree in both lengths and in the number of prefix tokens run in one call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from adapters.batch.segments import RowLayout
from adapters.kernels.upload import upload

_Shape = tuple[int, int, int]  # the decoder's tokens, the encoder's tokens, tokens of the prefix


@dataclass(eq=False)
class Crossing:
    """Where the queries and the keys of the rows lie; the groups are found once for all layers with the same prefixes."""

    queries: RowLayout
    keys: RowLayout
    device: torch.device
    _known: dict[tuple[int, ...], dict[_Shape, tuple[int, ...]]] = field(default_factory=dict)
    _places: dict[tuple[int, tuple[int, ...]], Tensor] = field(default_factory=dict)

    def groups(self, more: tuple[int, ...]) -> Mapping[_Shape, tuple[int, ...]]:
        """Rows by their lengths; `more[row]` is the number of prefix tokens that a row sees."""
        if more not in self._known:
            found: dict[_Shape, list[int]] = {}
            for row, count in enumerate(more):
                (first, last), (start, end) = self.queries.bounds(row), self.keys.bounds(row)
                found.setdefault((last - first, end - start, count), []).append(row)
            self._known[more] = {shape: tuple(rows) for shape, rows in found.items()}
        return self._known[more]

    def places(self, layout: RowLayout, rows: tuple[int, ...]) -> Tensor:
        """The tokens of some rows, one after another."""
        key = (id(layout), rows)
        if key not in self._places:
            own = [torch.arange(*layout.bounds(row)) for row in rows]
            self._places[key] = upload(torch.cat(own), self.device)
        return self._places[key]


def attend_across(
    q: Tensor, k: Tensor, v: Tensor, crossing: Crossing, prefixes: Mapping[int, Tensor], scaling: float
) -> Tensor:
    """Attention [target tokens, heads, width] of q to k, v [source tokens, heads, width], of which nothing is hidden.

    `prefixes[row]` [2, more, heads * width] stand in front of a row's keys and values.
    """
    more = tuple(prefixes[row].shape[1] if row in prefixes else 0 for row in range(crossing.queries.rows))
    parts, places = [], []
    for (length, source, count), rows in crossing.groups(more).items():
        at = crossing.places(crossing.queries, rows)
        held = crossing.places(crossing.keys, rows)
        own, keys, values = (
            x.index_select(0, index).view(len(rows), each, *x.shape[1:]).transpose(1, 2)
            for x, index, each in ((q, at, length), (k, held, source), (v, held, source))
        )
        if count:
            before = (
                torch.stack([prefixes[row] for row in rows]).view(len(rows), 2, count, *k.shape[1:]).transpose(2, 3)
            )
            keys, values = torch.cat([before[:, 0], keys], dim=2), torch.cat([before[:, 1], values], dim=2)
        out = functional.scaled_dot_product_attention(own, keys, values, scale=scaling)
        parts.append(out.transpose(1, 2).reshape(-1, *q.shape[1:]))
        places.append(at)
    if len(parts) == 1:
        return torch.zeros_like(q).index_copy(0, places[0], parts[0])
    return torch.zeros_like(q).index_copy(0, torch.cat(places), torch.cat(parts))
