"""Packed attention: every row attends to itself (and its prefixes) alone, without padding and without masks.

Registered with transformers' attention interface under `PACKED`; the mask interface knows no such name and returns
none. Rows of equal length (and equally long prefixes) run in one call; no value of a row enters another row's arithmetic.
A layer may have a window: a token then sees the tokens of its row that are fewer than `window` places away. Causal
families see no token behind their own. Heads of queries may share keys and values (Ainslie et al. 2023, arXiv:2305.13245).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.batch.segments import RowLayout
from adapters.kernels.interface import Kernels
from adapters.kernels.upload import upload

PACKED = "chorus_packed"
# What is added to the scaled scores of a group's own tokens, [rows, heads, length, length], or of all that they see,
# [rows or 1, heads, length, more + length], from its q and k [rows, length, heads, width].
Bias = Callable[[Tensor, Tensor, "LengthGroup"], Tensor]


@dataclass(frozen=True, eq=False)
class LengthGroup:
    """Rows of one length that see equally many prefix tokens, and their own tokens as one index [rows * length]."""

    rows: tuple[int, ...]
    length: int
    more: int
    tokens: Tensor


@dataclass(eq=False)
class Packing:
    """Which rows of a pass attend in one call; the groups are found once for all layers with the same prefixes."""

    layout: RowLayout
    device: torch.device
    kernels: Kernels | None = None
    causal: bool = False
    _known: dict[tuple[int, ...], tuple[LengthGroup, ...]] = field(default_factory=dict)
    _windows: dict[tuple[int, int, int | None], Tensor] = field(default_factory=dict)

    @cached_property
    def starts(self) -> Tensor:
        """The layout's starts as kernels take them: int32 [rows + 1]."""
        return upload(torch.tensor(self.layout.starts, dtype=torch.int32), self.device)

    def groups(self, more: tuple[int, ...]) -> tuple[LengthGroup, ...]:
        """Rows by length and prefix; `more[row]` is the number of prefix tokens that a row sees."""
        known = self._known.get(more)
        if known is None:
            known = self._known[more] = self._find(more)
        return known

    def visible(self, group: LengthGroup, window: int | None) -> Tensor | None:
        """Which keys a query sees, [length, more + length]: all prefixes, and own tokens near it; None for all.

        A causal family's query sees none that come after it, which this leaves unsaid where it is all there is to say.
        """
        window = None if window is None or group.length <= window else window
        if window is None and not (self.causal and group.more and group.length > 1):
            return None
        key = (group.length, group.more, window)
        if key not in self._windows:
            place = torch.arange(group.length, device=self.device)
            ahead = place[None, :] - place[:, None]
            near = ahead <= 0 if self.causal else torch.ones_like(ahead, dtype=torch.bool)
            if window is not None:
                near &= ahead.abs() < window
            self._windows[key] = functional.pad(near, (group.more, 0), value=True)
        return self._windows[key]

    def _find(self, more: tuple[int, ...]) -> tuple[LengthGroup, ...]:
        found: dict[tuple[int, int], list[int]] = {}
        for row in range(self.layout.rows):
            start, end = self.layout.bounds(row)
            found.setdefault((end - start, more[row]), []).append(row)
        return tuple(
            LengthGroup(
                tuple(rows),
                length,
                count,
                upload(torch.cat([torch.arange(*self.layout.bounds(row)) for row in rows]), self.device),
            )
            for (length, count), rows in found.items()
        )


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packing: Packing,
    prefixes: Mapping[int, Tensor],
    scaling: float,
    window: int | None = None,
    bias: Bias | None = None,
) -> Tensor:
    """Attention [tokens, heads, width] of q; k, v [tokens, key heads, width]; `prefixes[row]` is [2, more, key heads * width].

    `window` 1 is a token alone, and None the whole row. `bias` adds to the scores, and has to hide itself
    what a causal row must not see.
    """
    kernels = packing.kernels
    if kernels is not None and bias is None and q.dtype in kernels.dtypes and not torch.is_grad_enabled():
        limits: Mapping[str, Any] = {"window": window, "prefixes": prefixes, "causal": packing.causal}
        return kernels.attention(q, k, v, packing.starts, scaling, **limits).view(q.shape)
    more = tuple(prefixes[row].shape[1] if row in prefixes else 0 for row in range(packing.layout.rows))
    groups = packing.groups(more)
    out = torch.empty_like(q) if not torch.is_grad_enabled() else torch.zeros_like(q)
    for group in groups:
        own = [_of(t, group, packing.layout).reshape(-1, group.length, *t.shape[1:]) for t in (q, k, v)]
        mask = packing.visible(group, window)
        if bias is not None:
            scores = bias(own[0], own[1], group)
            if scores.shape[-1] == group.length:
                scores = functional.pad(scores, (group.more, 0))
            mask = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
        causal = packing.causal and mask is None and group.length > 1
        values = _together(own[0], own[1], own[2], group, prefixes, scaling, mask, causal=causal)
        if len(groups) == 1 and len(group.rows) == 1:
            return values
        if torch.is_grad_enabled():
            out = out.index_copy(0, group.tokens, values)
        elif len(group.rows) == 1:
            _of(out, group, packing.layout).copy_(values)
        else:
            out.index_copy_(0, group.tokens, values)
    return out


def _of(x: Tensor, group: LengthGroup, layout: RowLayout) -> Tensor:
    """A group's tokens of x [tokens, ...]; a view for a single row."""
    if len(group.rows) == 1:
        start, end = layout.bounds(group.rows[0])
        return x[start:end]
    return x.index_select(0, group.tokens)


def _together(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    group: LengthGroup,
    prefixes: Mapping[int, Tensor],
    scaling: float,
    mask: Tensor | None,
    *,
    causal: bool = False,
) -> Tensor:
    """One group in one call: q [rows, length, heads, width], k and v with their own heads -> [rows * length, heads, width]."""
    heads, width = q.shape[2:]
    if group.more:
        before = torch.stack([prefixes[row] for row in group.rows]).view(-1, 2, group.more, *k.shape[2:])
        k, v = torch.cat([before[:, 0], k], dim=1), torch.cat([before[:, 1], v], dim=1)
    split = [t.transpose(1, 2) for t in (q, k, v)]
    if k.shape[2] != heads:
        split[1:] = [t.repeat_interleave(heads // k.shape[2], dim=1) for t in split[1:]]
    out = functional.scaled_dot_product_attention(
        split[0], split[1], split[2], attn_mask=mask, is_causal=causal, scale=scaling
    )
    return out.transpose(1, 2).reshape(-1, heads, width)
