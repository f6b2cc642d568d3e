"""A batch of padded tensors as rows: what is a row's own, and back again to where it lay."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.batch.rows import Pixels, image_ids
from adapters.batch.targets import moved
from adapters.errors import InvalidRow
from adapters.losses import IGNORED


@dataclass(frozen=True, eq=False)
class Given:
    """Rows of a batch [rows, length]; `choices` where each question came with so many rows."""

    ids: tuple[NDArray[np.int64], ...]
    types: tuple[NDArray[np.int64], ...] | None
    own: Tensor  # [rows, length], true at a row's own tokens
    choices: int | None
    pixels: Pixels | None = None  # [rows, channels, height, width] where rows are images

    @property
    def questions(self) -> int:
        """Entries of the batch as it was given."""
        return len(self.ids) // (self.choices or 1)

    def goals(self, values: Tensor) -> tuple[Tensor, ...]:
        """A tensor [rows, length] of the batch, at each row's own tokens."""
        flat = self._flat(values, "labels")
        return tuple(row[own] for row, own in zip(flat, self.own.to(flat.device), strict=True))

    def padded(self, values: Sequence[Tensor], rows: Sequence[int], fill: float = 0.0) -> Tensor:
        """Values [own tokens, ...] of some rows, at their places of [rows, length, ...]."""
        own = self.own[list(rows)].to(values[0].device)
        found = values[0].new_full((*own.shape, *values[0].shape[1:]), fill)
        return found.index_put(torch.nonzero(own, as_tuple=True), torch.cat(list(values)))

    def _flat(self, values: Tensor, what: str) -> Tensor:
        flat = values.reshape(-1, values.shape[-1])
        if flat.shape != self.own.shape:
            raise InvalidRow(f"{what} are {list(values.shape)}, but the batch is {list(self.own.shape)}")
        return flat


def given(
    input_ids: Tensor | None,
    attention_mask: Tensor | None,
    token_type_ids: Tensor | None,
    pixel_values: Tensor | None,
    geometry: Geometry,
) -> Given:
    """Read a batch of what the backbone sees, texts or images; raises `InvalidRow` for the other, and as `read` does."""
    if geometry.image is None:
        if pixel_values is not None or input_ids is None:
            raise InvalidRow(f"this backbone ({geometry.model_type}) reads text: give input_ids, and no pixel_values")
        return read(input_ids, attention_mask, token_type_ids)
    if pixel_values is None or any(text is not None for text in (input_ids, attention_mask, token_type_ids)):
        raise InvalidRow(f"this backbone ({geometry.model_type}) reads images: give pixel_values, and nothing of texts")
    if pixel_values.dim() != 4 or not pixel_values.is_floating_point() or not len(pixel_values):
        shape = f"{pixel_values.dtype} {list(pixel_values.shape)}"
        raise InvalidRow(f"pixel_values must be floating point [rows, channels, height, width], not {shape}")
    pixels: Pixels = pixel_values.detach().float().cpu().numpy()
    ids = image_ids(geometry)
    own = torch.ones(len(pixels), len(ids), dtype=torch.bool)
    return Given((ids,) * len(pixels), None, own, None, pixels)


def read(input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Given:
    """Read a batch [rows, length] or [questions, choices, length]; padding is where the mask is 0.

    A row is its tokens under the mask, wherever they lie, on its own: padding on either side changes nothing. Raises
    `InvalidRow` for an empty batch, for ids that are no integers, where shapes differ, and for masks with holes, which no row on its own has.
    """
    if not isinstance(input_ids, Tensor) or input_ids.dim() not in (2, 3):
        raise InvalidRow(
            "input_ids must be a tensor [rows, length] or, for multiple choice, [questions, choices, length]"
        )
    for what, given in (("input_ids", input_ids), ("token_type_ids", token_type_ids)):
        if given is not None and (given.is_floating_point() or given.dtype is torch.bool):
            raise InvalidRow(f"{what} must be integers, not {given.dtype}: call .long() if they are whole")
    if not input_ids.numel():
        raise InvalidRow(f"input_ids are {list(input_ids.shape)}: a batch has at least one row, and a row one token")
    choices = input_ids.shape[1] if input_ids.dim() == 3 else None
    for what, other in (("attention_mask", attention_mask), ("token_type_ids", token_type_ids)):
        if other is not None and other.shape != input_ids.shape:
            raise InvalidRow(f"{what} is {list(other.shape)}, but input_ids are {list(input_ids.shape)}")
    ids = _flat(input_ids)
    own = np.ones(ids.shape, np.bool_) if attention_mask is None else _flat(attention_mask) != 0
    edges = np.diff(np.pad(own, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    if bool(((edges == 1).sum(axis=1) > 1).any()):
        raise InvalidRow("attention_mask has holes: what a row is must lie in one piece")
    types = None if token_type_ids is None else _rows(_flat(token_type_ids), own)
    return Given(_rows(ids, own), types, torch.from_numpy(own), choices)


def targets(given: Given, ids: Tensor | None, mask: Tensor | None, labels: Tensor | None, geometry: Geometry) -> Given:
    """The decoder's rows of a batch: as they are given, else the labels, else the rows themselves, moved by one place.

    `labels` [rows, length] are those of a head over the vocabulary, None for another one. Raises `InvalidRow`.
    """
    if not geometry.encoder_layers:
        if ids is not None or mask is not None:
            raise InvalidRow(f"this backbone ({geometry.model_type}) has no decoder: give no decoder_input_ids")
        return given
    if given.choices is not None:
        raise InvalidRow("an encoder-decoder takes input_ids [rows, length]")
    if ids is not None:
        found = read(ids, mask, None)
        if len(found.ids) != len(given.ids):
            raise InvalidRow(f"there are {len(given.ids)} rows, and {len(found.ids)} of decoder_input_ids")
        return found
    if labels is None:
        return replace(given, ids=tuple(moved(row, geometry) for row in given.ids))
    words = torch.where(labels == IGNORED, max(geometry.pad_token_id, 0), labels)
    own = read(words, mask, None)
    return replace(own, ids=tuple(moved(row, geometry) for row in own.ids))


def word_starts(values: Tensor | Sequence[Sequence[int]], row: int) -> tuple[int, ...]:
    """Where the words of a row start, and the end of the last one; what is not above 0 after them is padding.

    Raises `InvalidRow` where they do not rise, as they do not where the padding is another number.
    """
    starts = [int(value) for value in values[row]]
    while starts and starts[-1] <= 0:
        starts.pop()
    if any(one >= other for one, other in pairwise(starts)):
        raise InvalidRow(f"word_starts of row {row} do not rise: {starts}; pad them with 0, or with -1")
    return tuple(starts)


def _flat(values: Tensor) -> NDArray[np.int64]:
    flat: NDArray[np.int64] = values.detach().cpu().numpy().astype(np.int64)
    return flat.reshape(-1, flat.shape[-1])


def _rows(values: NDArray[np.int64], own: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    return tuple(row[mask] for row, mask in zip(values, own, strict=True))
