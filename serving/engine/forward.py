"""Rows through the backbone: what the engine hands over, and what it gets back, behind one protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from adapters.backbone import Backbone, Want
from adapters.batch.rows import Pixels, Row, members_of
from adapters.batch.targets import answered_tokens
from adapters.cache.host import Entry
from adapters.embeddings import TokenEmbedding
from adapters.errors import AdapterError, InvalidRow, InvalidRows
from adapters.refs import AdapterRef
from adapters.weights import Resident
from serving.engine.reduce import reduce
from serving.images.preprocessing import Picture, Preprocessing
from serving.request import Reduced, Ticket


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A ticket, and all that it names, resident for as long as the step lasts."""

    ticket: Ticket
    resident: Mapping[AdapterRef, Resident | Entry]


class Forward(Protocol):
    """One pass for many rows."""

    def run(self, rows: Sequence[Work]) -> list[Reduced | AdapterError]:
        """Each row's reduced output, in order, or why this row has none: it costs the others nothing."""
        ...


class BackboneForward:
    """`Forward` over the library's backbone."""

    def __init__(self, backbone: Backbone, preprocessing: Preprocessing | None = None) -> None:
        """`preprocessing` tells what the pixels of images are as numbers; None where rows are text."""
        self._backbone = backbone
        self._preprocessing = preprocessing

    def run(self, rows: Sequence[Work]) -> list[Reduced | AdapterError]:
        """See `Forward.run`."""
        made: dict[int, Row] = {}
        found: dict[int, Reduced | AdapterError] = {}
        for i, work in enumerate(rows):
            try:
                made[i] = _row(work, self._preprocessing)
            except AdapterError as error:
                found[i] = error
        wants: dict[int, Want] = {i: rows[i].ticket.reduction.output for i in made}
        try:
            outputs = self._pass(made, wants)
        except InvalidRows as error:  # found before the model ran
            places = list(made)
            found |= {places[at]: fault for at, fault in error.faults.items()}
            outputs = self._pass({i: row for i, row in made.items() if i not in found}, wants)
        geometry = self._backbone.profile.geometry
        for i, output in outputs.items():
            try:
                own = answered_tokens(made[i], geometry, scores=wants[i] == "logits")
                found[i] = reduce(output.numpy(), rows[i].ticket.reduction, own)
            except InvalidRow as error:
                found[i] = error
        return [found[i] for i in range(len(rows))]

    def _pass(self, rows: Mapping[int, Row], wants: Mapping[int, Want]) -> dict[int, Tensor]:
        """Outputs by the row's place in the batch; raises `InvalidRows` in terms of the rows given."""
        if not rows:
            return {}
        outputs = self._backbone.run(list(rows.values()), [wants[i] for i in rows])
        return dict(zip(rows, outputs, strict=True))


def _row(work: Work, preprocessing: Preprocessing | None) -> Row:
    ticket = work.ticket
    logits = ticket.reduction.output == "logits"
    if logits and ticket.head is None:
        raise InvalidRow("logits need a head, and the row names none")
    return Row(
        members=members_of(ticket.composition, lambda ref: _adapter(work, ref)),
        head=None if ticket.head is None else _adapter(work, ticket.head),
        embedding=None if ticket.embedding is None else _embedding(work, ticket.embedding),
        input_ids=ticket.input_ids.astype(np.int64),
        type_ids=None if ticket.type_ids is None else ticket.type_ids.astype(np.int64),
        skip_layers=ticket.composition.skip_layers,
        word_starts=ticket.word_starts,
        positions=ticket.reduction.positions if logits else None,
        pixels=None if ticket.pixels is None else _numbers(ticket.pixels, preprocessing),
    )


def _numbers(picture: Picture, preprocessing: Preprocessing | None) -> Pixels:
    if preprocessing is None:
        raise InvalidRow("the row is an image, and the backbone reads text")
    return preprocessing.numbers(picture)


def _adapter(work: Work, ref: AdapterRef) -> Resident:
    held = work.resident[ref]
    if not isinstance(held, Resident):
        raise InvalidRow(f"{ref} is a token embedding and not an adapter")
    return held


def _embedding(work: Work, ref: AdapterRef) -> TokenEmbedding:
    held = work.resident[ref]
    if not isinstance(held, TokenEmbedding):
        raise InvalidRow(f"{ref} is an adapter and not a token embedding")
    return held
