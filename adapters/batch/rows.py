"""One row of a batch: what it names, all of it resident, and its tokens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.architectures.profile import Geometry
from adapters.embeddings import TokenEmbedding
from adapters.errors import InvalidRow
from adapters.weights import Insertion, Resident

Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Row:
    """A stack (bottom first), a head, a vocabulary and token ids [tokens], special tokens included.

    `head` is the resident package that holds the head. `embedding` None is the backbone's own vocabulary. Adapters do
    not act in `skip_layers`.
    """

    members: tuple[Resident, ...]
    head: Resident | None
    embedding: TokenEmbedding | None
    input_ids: Ids
    type_ids: Ids | None = None
    skip_layers: frozenset[int] = frozenset()

    @property
    def insertion(self) -> Insertion | None:
        """The tokens that the bottom member's prompt puts in."""
        return self.members[0].adapter.insertion if self.members else None

    @property
    def length(self) -> int:
        """Tokens of the row as the backbone sees it, inserted ones included."""
        return len(self.input_ids) + (self.insertion.count if self.insertion else 0)


def check_row(row: Row, geometry: Geometry) -> None:
    """Raise `InvalidRow` for a row that the backbone can not run."""
    tokens = len(row.input_ids)
    if tokens == 0:
        raise InvalidRow("a row without tokens")
    if tokens > geometry.max_tokens:
        raise InvalidRow(f"{tokens} tokens; the backbone takes {geometry.max_tokens}")
    if row.type_ids is not None:
        if len(row.type_ids) != tokens:
            raise InvalidRow("token ids and segment ids differ in number")
        if row.type_ids.min() < 0 or row.type_ids.max() >= max(1, geometry.type_vocabulary):
            raise InvalidRow(f"a segment id is outside of the {geometry.type_vocabulary} that the backbone has")
    if row.head is not None and row.head.adapter.head is None:
        raise InvalidRow("the package named as head holds none")


def positions(row: Row, geometry: Geometry, *, after_pad: bool) -> Ids:
    """Position ids [length] by the family's rule, for the row's own tokens; inserted tokens get the first position.

    RoBERTa counts ids that differ from the configuration's pad id, whatever vocabulary the row uses.
    """
    if after_pad:
        counted = (row.input_ids != geometry.pad_token_id).astype(np.int64)
        return _spread(np.cumsum(counted) * counted + geometry.pad_token_id, row.insertion)
    return _spread(np.arange(len(row.input_ids)), row.insertion)


def segment_ids(row: Row) -> Ids:
    """Segment ids [length]; inserted tokens belong to the first segment."""
    own = np.zeros(len(row.input_ids), np.int64) if row.type_ids is None else row.type_ids
    return _spread(own, row.insertion)


def own_tokens(row: Row) -> Ids:
    """Places of the row's own tokens among its `length` tokens."""
    places = np.arange(row.length)
    if row.insertion is None:
        return places
    at, count = row.insertion.at, row.insertion.count
    return np.concatenate([places[:at], places[at + count :]])


def _spread(own: Ids, insertion: Insertion | None) -> Ids:
    if insertion is None:
        return own.astype(np.int64)
    filler = np.full(insertion.count, own[0], np.int64)
    return np.concatenate([own[: insertion.at], filler, own[insertion.at :]]).astype(np.int64)
