"""The decoder's side of a row of an encoder-decoder: which tokens it has, where they stand, and what heads read of them."""

from typing import Any

import numpy as np

from adapters.architectures.geometry import Geometry
from adapters.batch.rows import Ids, Row, own_tokens
from adapters.errors import InvalidRow
from adapters.manifest import ENCODER_TOKENS


def target_ids(row: Row, geometry: Geometry) -> Ids:
    """The decoder's token ids: those of the row, or its own ones moved by one place, by the family's rule."""
    if row.decoder_ids is not None:
        return row.decoder_ids
    return moved(row.input_ids, geometry)


def moved(ids: Ids, geometry: Geometry) -> Ids:
    """Token ids [tokens] behind the token that the family's decoders begin with; the last one falls out."""
    decoder = geometry.architecture.decoder
    assert decoder is not None
    start = geometry.decoder_start
    if decoder.start == "last":
        real = ids[ids != geometry.pad_token_id]
        start = int(real[-1] if len(real) else ids[-1])
    return np.concatenate([[start], ids[:-1]]).astype(np.int64)


def answered_tokens(row: Row, geometry: Geometry, *, scores: bool) -> Ids:
    """Places of the tokens that a row's states (or its head's scores) are of, among all that it has any for.

    They are the row's own; of an encoder-decoder the decoder's, among which nothing is inserted, unless its head reads
    the encoder.
    """
    head = None if row.head is None or not scores else row.head.adapter.head
    if not geometry.encoder_layers or (head is not None and head.pooling == ENCODER_TOKENS):
        return own_tokens(row)
    return np.arange(len(target_ids(row, geometry)))


def target_positions(row: Row, ids: Ids) -> Ids:
    """Positions of the decoder's tokens: behind a prefix that has positions of its own, and behind those that have been."""
    first = _first(row)
    return np.arange(first, first + len(ids))


def source_length(row: Row, geometry: Geometry) -> int:
    """Tokens of the first row that a pass runs: none of an encoder-decoder's behind a past, which has what is read of them."""
    return 0 if geometry.encoder_layers and row.past is not None else row.length


def row_positions(row: Row) -> Ids:
    """Positions of the encoder's tokens, those of a prompt in front of them included."""
    return np.arange(row.first_position, row.first_position + row.length)


def is_whole(row: Row, ids: Ids, pooling: str) -> bool:
    """Whether a head that reads the last `eos` reads every state: the decoder's tokens are not the row's own."""
    return pooling == "last_eos" and len(ids) != len(row.input_ids)


def eos_place(row: Row, geometry: Geometry) -> int:
    """Place of the row's last end of a text, at which the decoder's state stands for the row; raises `InvalidRow`."""
    places = np.flatnonzero(row.input_ids == geometry.eos_token_id)
    if not len(places):
        raise InvalidRow(f"the row has no end of a text (token {geometry.eos_token_id}), whose state its head reads")
    return int(places[-1])


def check_target(row: Row, geometry: Geometry) -> None:
    """Raise `InvalidRow` where the decoder's side of a row can not run."""
    if not geometry.encoder_layers:
        if row.decoder_ids is not None:
            raise InvalidRow(f"the row has tokens for a decoder, and the backbone ({geometry.model_type}) has none")
        return
    ids, shift = target_ids(row, geometry), _first(row)
    if not len(ids):
        raise InvalidRow("a row without tokens for the decoder")
    if row.past is not None and len(ids) > 1:
        raise InvalidRow(f"a row behind a past is one token, not {len(ids)}")
    if shift + len(ids) > geometry.max_tokens:
        raise InvalidRow(f"{len(ids)} tokens for the decoder; the backbone takes {geometry.max_tokens - shift}")
    head = None if row.head is None else row.head.adapter.head
    if head is not None and head.pooling == ENCODER_TOKENS and row.past is not None:
        raise InvalidRow("the row's head reads its encoder, which does not run behind a past")
    if head is not None and head.pooling == "last_eos" and not is_whole(row, ids, head.pooling):
        eos_place(row, geometry)
    if len(ids) != len(row.input_ids) and row.first is not None and _acts_on_decoder(row.first, geometry):
        raise InvalidRow(
            "a ReFT in the decoder takes its places from the encoder's row in AdapterHub, so both must be equally long"
        )
    if row.encoded is not None and tuple(row.encoded.shape) != (row.length, geometry.hidden_size):
        raise InvalidRow("the encoder's states that a row brings must be [tokens, hidden]")


def _first(row: Row) -> int:
    """The position of the first of the decoder's tokens; a prompt stands in front of the encoder's."""
    prefix = 0 if row.insertion is None or row.insertion.count else row.insertion.shift
    return prefix + (0 if row.past is None else row.past.tokens)


def _acts_on_decoder(first: Any, geometry: Geometry) -> bool:
    return any(
        address.site == "layer_out" and address.layer is not None and address.layer >= geometry.encoder_layers
        for address in first.adapter.blocks
    )
