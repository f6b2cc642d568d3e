"""Keys and values of tokens that have been: what a causal row's next token has to see of those in front of it.

A causal family's token never sees what comes after it, so its keys and values are what they were when it was the last
one (Pope et al. 2022, arXiv:2211.05102). They go where prefixes go: in front of the row's own, and are seen by all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapters.batch.segments import RowLayout


@dataclass(frozen=True, eq=False)
class Past:
    """Per layer, the keys and values [2, tokens, key width] of a row's tokens; of a window, only those still in sight.

    `tokens` counts all of them, inserted ones included. Of an encoder-decoder they are its decoder's, and `crossed` per
    layer of the decoder the keys and values [2, tokens, key width] of the encoder's row.
    """

    layers: tuple[Tensor, ...]
    tokens: int
    crossed: tuple[Tensor, ...] = ()


class Recorder:
    """Reads the pasts of the rows of one pass, and writes those that they leave to rows that `kept` names."""

    def __init__(self, pasts: Sequence[Past | None], layout: RowLayout, kept: Sequence[bool]) -> None:
        self._pasts, self._layout = tuple(pasts), layout
        self._left: dict[int, list[Tensor]] = {row: [] for row, keeps in enumerate(kept) if keeps}
        self._crossed: dict[int, list[Tensor]] = {row: [] for row in self._left}

    def seen(
        self, layer: int, k: Tensor, v: Tensor, prefixes: dict[int, Tensor], window: int | None
    ) -> dict[int, Tensor]:
        """What every row sees in front of its own k, v [tokens, key heads, width]: its prefix, then its past."""
        both = torch.stack((k, v)).flatten(2)
        found = dict(prefixes)
        for row, past in enumerate(self._pasts):
            if past is None and row not in self._left:
                continue
            start, end = self._layout.bounds(row)
            own = both[:, start:end]
            if past is not None:
                before = past.layers[layer]
                found[row] = torch.cat([prefixes[row], before], dim=1) if row in prefixes else before
                own = torch.cat([before, own], dim=1)
            if row in self._left:
                sight = own.shape[1] if window is None else min(window - 1, own.shape[1])
                self._left[row].append(own[:, own.shape[1] - sight :].contiguous())
        return found

    def crossed(
        self, layer: int, k: Tensor, v: Tensor, prefixes: dict[int, Tensor], keys: RowLayout
    ) -> dict[int, Tensor]:
        """What every row sees in front of its encoder's k, v, which are none for rows with a past: theirs are in it.

        `keys` is where the encoder's rows lie, `layer` counts the decoder's.
        """
        found = dict(prefixes)
        for row, past in enumerate(self._pasts):
            if past is not None:
                before = past.crossed[layer]
                found[row] = torch.cat([prefixes[row], before], dim=1) if row in prefixes else before
            elif row in self._left:
                start, end = keys.bounds(row)
                self._crossed[row].append(torch.stack((k[start:end], v[start:end])).flatten(2))
        return found

    def left(self, row: int) -> Past | None:
        """What a row leaves behind the pass; None where it was not to be kept."""
        if row not in self._left:
            return None
        start, end = self._layout.bounds(row)
        before = self._pasts[row]
        layers, crossed = tuple(self._left[row]), tuple(self._crossed[row])
        if before is None:
            return Past(layers, end - start, crossed)
        return Past(layers, end - start + before.tokens, before.crossed)
