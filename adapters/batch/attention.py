"""Packed attention: every row attends to itself (and its prefixes) alone, without padding and without masks.

Registered with transformers' attention interface under `PACKED`; the mask interface knows no such name and returns
none. Rows of equal length run in one call; no value of a row enters another row's arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from adapters.batch.segments import RowLayout

PACKED = "chorus_packed"


@dataclass(frozen=True, eq=False)
class LengthGroup:
    """Rows of one length, and their tokens as one index [rows * length]."""

    rows: tuple[int, ...]
    length: int
    tokens: Tensor


def length_groups(layout: RowLayout, device: torch.device) -> tuple[LengthGroup, ...]:
    """Rows by length."""
    groups: dict[int, list[int]] = {}
    for row in range(layout.rows):
        start, end = layout.bounds(row)
        groups.setdefault(end - start, []).append(row)
    return tuple(
        LengthGroup(
            tuple(rows),
            length,
            torch.cat([torch.arange(*layout.bounds(row), device=device) for row in rows]),
        )
        for length, rows in groups.items()
    )


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: RowLayout,
    groups: Sequence[LengthGroup],
    prefixes: dict[int, Tensor],
    scaling: float,
) -> Tensor:
    """Attention [tokens, heads, width] of q, k, v of the same shape; `prefixes[row]` is [2, more, heads * width]."""
    pieces: list[tuple[Tensor, Tensor]] = []
    for group in groups:
        plain = group.tokens
        if prefixes:
            rows = [row for row in group.rows if row not in prefixes]
            pieces += [_with_prefix(q, k, v, layout.bounds(row), prefixes[row], scaling) for row in group.rows if row in prefixes]  # fmt: skip
            if not rows:
                continue
            if len(rows) < len(group.rows):
                plain = torch.cat([torch.arange(*layout.bounds(row), device=q.device) for row in rows])
        pieces.append((plain, _alone(q, k, v, plain, group.length, scaling)))
    if len(pieces) == 1 and len(groups) == 1 and len(groups[0].rows) == 1:
        return pieces[0][1]
    out = torch.empty_like(q) if not torch.is_grad_enabled() else torch.zeros_like(q)
    for tokens, values in pieces:
        out = out.index_copy_(0, tokens, values) if not torch.is_grad_enabled() else out.index_copy(0, tokens, values)
    return out


def _alone(q: Tensor, k: Tensor, v: Tensor, tokens: Tensor, length: int, scaling: float) -> Tensor:
    heads, width = q.shape[1:]
    rows = [t.index_select(0, tokens).view(-1, length, heads, width).transpose(1, 2) for t in (q, k, v)]
    out = functional.scaled_dot_product_attention(rows[0], rows[1], rows[2], scale=scaling)
    return out.transpose(1, 2).reshape(-1, heads, width)


def _with_prefix(
    q: Tensor, k: Tensor, v: Tensor, bounds: tuple[int, int], prefix: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    heads, width = q.shape[1:]
    more = prefix.view(2, -1, heads, width)
    own = slice(*bounds)
    keys, values = torch.cat([more[0], k[own]]), torch.cat([more[1], v[own]])
    row = [t.transpose(0, 1).unsqueeze(0) for t in (q[own], keys, values)]
    out = functional.scaled_dot_product_attention(row[0], row[1], row[2], scale=scaling)
    return torch.arange(*bounds, device=q.device), out.squeeze(0).transpose(0, 1)
