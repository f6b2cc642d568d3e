"""One row of a batch: what it names, all of it resident, and its tokens."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.architectures.sites import Address
from adapters.batch.past import Past
from adapters.composition import Average, Block, Composition, Fuse, Leaf, Split, Stack, Sum
from adapters.embeddings import TokenEmbedding
from adapters.errors import InvalidArrangement, InvalidRow, UnsupportedComposition
from adapters.manifest import ENCODER_TOKENS, HeadSpec
from adapters.methods.table import INVERSE
from adapters.weights import Insertion, Resident

Ids = NDArray[np.int64]
Pixels = NDArray[np.float32]


EMBED_OUT = Address(None, "embed_out")
ForkKind = Literal["fuse", "average", "split", "sum"]


@dataclass(frozen=True, eq=False)
class Fork:
    """Arms that run side by side on the same state and are combined: by attention, mean, position, or addition.

    An arm is a chain of its own; one adapter alone is an arm of length 1 that is not `chained` (AdapterHub prepares
    the input of every member of a chain, but that of an adapter alone only once, for all arms).
    """

    kind: ForkKind
    arms: tuple[tuple["Member", ...], ...]
    chained: tuple[bool, ...]  # per arm
    weights: tuple[float, ...] | None = None  # average: per arm, of sum 1
    splits: tuple[int, ...] | None = None  # split: tokens per arm
    fusion: Resident | None = None  # fuse


Member = Resident | Fork


@dataclass(frozen=True, eq=False)
class Row:
    """A stack (bottom first), a head, a vocabulary and token ids [tokens], special tokens included; or an image.

    `head` is the resident package that holds the head. `embedding` None is the backbone's own vocabulary. Adapters do
    not act in `skip_layers`. `word_starts`: first token of every word, and one past the last word (dependency
    parsing). `positions`: the own tokens for which a per-token head is wanted; None for all.
    `first_position`: that of the first token, above 0 where others are counted before it that the row does not see, as
    transformers' models count padding on the left. `pixels` [channels, height, width] are those of an image, of the
    backbone's own size; its tokens are the class token and the patches, and their ids (`image_ids`) mean nothing.
    `past`: keys and values that the row's one token sees in front of its own (see `continuation`); an
    encoder-decoder's one token is of `decoder_ids`, and its encoder is not run again. `called`: the token from which an
    adapter that waits for a call acts; None: see `invocation`.
    `decoder_ids` [tokens] are an encoder-decoder's second row (None: made of the first, see `targets`), which its answers
    are of; `encoded` [tokens, hidden] what its encoder made of the first before, which is then not run again.
    """

    members: tuple[Member, ...]
    head: Resident | None
    embedding: TokenEmbedding | None
    input_ids: Ids
    type_ids: Ids | None = None
    skip_layers: frozenset[int] = frozenset()
    word_starts: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None
    first_position: int = 0
    pixels: Pixels | None = None
    past: Past | None = None
    decoder_ids: Ids | None = None
    encoded: Tensor | None = None
    called: int | None = None

    @property
    def first(self) -> Resident | None:
        """The adapter written first: what acts on embeddings and layers comes from it alone (as in AdapterHub)."""
        return next(leaves(self.members), None)

    @property
    def route(self) -> tuple[int, ...] | None:
        """The backbone's layers in the order in which the row visits them; None: each once."""
        first = self.first
        return None if first is None else first.adapter.manifest.route

    @property
    def insertion(self) -> Insertion | None:
        """The tokens that the first adapter's prompt puts in."""
        first = self.first
        return None if first is None else first.adapter.insertion

    @property
    def length(self) -> int:
        """Tokens of the row as the backbone sees it, inserted ones included."""
        return len(self.input_ids) + (self.insertion.count if self.insertion else 0)


def members_of(composition: Composition, resident: Callable[[Any], Resident]) -> tuple[Member, ...]:
    """The members of a row from a composition without `Parallel` and `MultiTask`; `resident` finds what a name means.

    Raises `UnsupportedComposition` for those two: they stand for several rows (see `adapters.composition.branches`).
    """
    block = composition.block
    return tuple(_member(child, resident) for child in (block.children if isinstance(block, Stack) else (block,)))


def leaves(members: Sequence[Member]) -> Iterator[Resident]:
    """Every adapter in the order written; fusions are not among them."""
    for member in members:
        if isinstance(member, Fork):
            for arm in member.arms:
                yield from leaves(arm)
        else:
            yield member


def _member(block: Block, resident: Callable[[Any], Resident]) -> Member:
    match block:
        case Leaf(ref):
            return resident(ref)
        case Average(children, weights):
            total = sum(weights) if weights else 1.0
            each = tuple(w / total for w in weights) if weights else (1 / len(children),) * len(children)
            return _fork("average", children, resident, weights=each)
        case Split(children, splits):
            return _fork("split", children, resident, splits=splits)
        case Sum(children):
            return _fork("sum", children, resident)
        case Fuse(children, name) if name is not None:
            return _fork("fuse", children, resident, fusion=resident(name))
        case Fuse():
            raise UnsupportedComposition("Fuse needs the `name` of its fusion package")
    raise UnsupportedComposition(f"{type(block).__name__} stands for several rows and can not be inside of one")


def _fork(kind: ForkKind, children: tuple[Block, ...], resident: Callable[[Any], Resident], **more: Any) -> Fork:
    arms = tuple(
        tuple(_member(b, resident) for b in (child.children if isinstance(child, Stack) else (child,)))
        for child in children
    )
    chained = tuple(not isinstance(child, Leaf) for child in children)
    return Fork(kind, arms, chained, **more)


def check_row(row: Row, geometry: Geometry) -> None:
    """Raise `InvalidRow` for a row that the backbone can not run, `InvalidArrangement` for splits that are too short."""
    tokens = len(row.input_ids)
    if tokens == 0:
        raise InvalidRow("a row without tokens")
    past = row.insertion is not None and bool(geometry.encoder_layers) and not row.insertion.count  # of the decoder
    shift = 0 if row.insertion is None or past else row.insertion.shift
    if row.first_position < 0 or row.first_position + shift + tokens > geometry.max_tokens:
        counted = f" from position {row.first_position} on" if row.first_position else ""
        behind = f"; behind the adapter's {shift}" if shift else ";"
        raise InvalidRow(f"{tokens} tokens{counted}{behind} the backbone takes {geometry.max_tokens - shift}")
    _check_image(row, geometry)
    if row.type_ids is not None:
        if len(row.type_ids) != tokens:
            raise InvalidRow("token ids and segment ids differ in number")
        if row.type_ids.min() < 0 or row.type_ids.max() >= max(1, geometry.type_vocabulary):
            raise InvalidRow(f"a segment id is outside of the {geometry.type_vocabulary} that the backbone has")
    if row.past is not None and row.length > 1 and not geometry.encoder_layers:
        raise InvalidRow(f"a row behind a past is one token, not {row.length}")
    head = None if row.head is None else row.head.adapter.head
    if row.head is not None:
        _check_head(row, head, geometry)
    ahead = head is not None and head.pooling == ENCODER_TOKENS
    read = tokens if row.decoder_ids is None or ahead else len(row.decoder_ids)
    if row.positions is not None and not all(0 <= place < read for place in row.positions):
        raise InvalidRow(f"positions must lie within the row's {read} tokens")
    if row.word_starts is not None:
        starts = row.word_starts
        if len(starts) < 2 or starts[0] < 0 or starts[-1] > tokens or list(starts) != sorted(set(starts)):
            raise InvalidRow(f"word starts must rise within the row's {tokens} tokens; the last one ends the last word")
    _check_splits(row.members, row.length)


def image_ids(geometry: Geometry) -> Ids:
    """The token ids [1 + patches] of an image's row."""
    return np.zeros(geometry.max_tokens, np.int64)


def _check_image(row: Row, geometry: Geometry) -> None:
    if geometry.image is None:
        if row.pixels is not None:
            raise InvalidRow(
                f"the row is an image, and the backbone ({geometry.model_type}) reads text: send token ids"
            )
        return
    if row.pixels is None:
        raise InvalidRow(f"the row has no pixels, and the backbone ({geometry.model_type}) reads images")
    if row.pixels.shape != geometry.image:
        raise InvalidRow(
            f"the image is {[*row.pixels.shape]}; the backbone takes [channels, height, width] {[*geometry.image]}"
        )
    if len(row.input_ids) != geometry.max_tokens or row.first_position:
        raise InvalidRow(f"an image is a row of {geometry.max_tokens} tokens: the class token and its patches")
    if row.embedding is not None:
        raise InvalidRow("a vocabulary means nothing for an image")


def _check_splits(members: Sequence[Member], tokens: int) -> None:
    """Every one of the tokens must belong to an arm; an arm of a split sees its own share only."""
    for member in members:
        if not isinstance(member, Fork):
            continue
        shares = [tokens] * len(member.arms)
        if member.splits is not None:
            ends = list(accumulate(member.splits, initial=0))
            if tokens > ends[-1]:
                raise InvalidArrangement(
                    f"the row has {tokens} tokens, but the splits {list(member.splits)} add up to {ends[-1]}"
                )
            shares = [min(end, tokens) - start for start, end in pairwise(ends)]
        for arm, share in zip(member.arms, shares, strict=True):
            if share > 0:
                _check_splits(arm, share)


def _check_head(row: Row, spec: HeadSpec | None, geometry: Geometry) -> None:
    if spec is None:
        raise InvalidRow("the package named as head holds none")
    if spec.type == "dependency_parsing" and row.word_starts is None:
        raise InvalidRow("a dependency parsing head needs the row's word starts")
    blocks = () if row.first is None else row.first.adapter.blocks.get(EMBED_OUT, ())
    inverted = any(block.method in INVERSE for block in blocks)
    if spec.vocabulary is not None and spec.inverse and inverted and spec.width != geometry.embedding_size:
        raise InvalidRow(
            f"the head undoes the row's invertible adapter, which is {geometry.embedding_size} wide, in states of {spec.width}"
        )


def positions(row: Row, geometry: Geometry, *, after_pad: bool) -> Ids:
    """Position ids [length] by the family's rule, for the row's own tokens; inserted tokens get the first position.

    RoBERTa counts ids that differ from the configuration's pad id, whatever vocabulary the row uses. Where a prompt or a
    prefix has positions of its own (see `Insertion.shift`), the row's begin behind them.
    """
    if row.insertion is not None and row.insertion.shift:
        return _shifted(row, row.insertion, geometry.pad_token_id if after_pad else None)
    if after_pad:
        counted = (row.input_ids != geometry.pad_token_id).astype(np.int64)
        return _spread(np.cumsum(counted) * counted + geometry.pad_token_id, row.insertion)
    return _spread(np.arange(row.first_position, row.first_position + len(row.input_ids)), row.insertion)


def pooled_token(row: Row, geometry: Geometry, pooling: str) -> int:
    """Place among the row's `length` tokens of the state that a head reads; `pooling`: see `HeadSpec`, but `pooler`."""
    if pooling == "first_token":
        return 0
    real = row.input_ids != geometry.pad_token_id
    place = int(real.sum()) - 1 if pooling == "counted_token" else int(np.flatnonzero(real)[-1]) if real.any() else 0
    return int(own_tokens(row)[place])


def _shifted(row: Row, insertion: Insertion, pad: int | None) -> Ids:
    """Positions of a row behind a prompt, counted along with it, or behind a prefix.

    A model that is given word vectors instead of ids (as with a prompt) can not tell which are pads, and counts all.
    """
    if insertion.count:
        return np.arange(row.length, dtype=np.int64) + (0 if pad is None else pad + 1)
    if pad is None:
        return np.arange(len(row.input_ids), dtype=np.int64) + insertion.shift
    counted = (row.input_ids != pad).astype(np.int64)
    shifted: Ids = (np.cumsum(counted) + insertion.shift) * counted + pad
    return shifted


def segment_ids(row: Row) -> Ids:
    """Segment ids [length]; inserted tokens belong to the first segment, and all do where they do not count."""
    own = np.zeros(len(row.input_ids), np.int64) if row.type_ids is None or not _heeds_segments(row) else row.type_ids
    return _spread(own, row.insertion)


def _heeds_segments(row: Row) -> bool:
    head = None if row.head is None else row.head.adapter.head
    return (head is None or head.segments) and (row.insertion is None or row.insertion.segments)


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
