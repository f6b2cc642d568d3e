"""Rows through the backbone: what the engine hands over, and what it gets back, behind one protocol.

A pass is begun and finished, and may compute in between while the next one is planned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from adapters.architectures.geometry import Geometry
from adapters.backbone import Backbone, Want
from adapters.batch.answers import NOTHING, Answers
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


Share = Reduced | AdapterError
"""A row's reduced output, or why this row has none: it costs the others nothing."""


class Pending(Protocol):
    """A pass that was asked for. `seconds`: how long the device took, where it tells, once it is finished."""

    seconds: float | None

    def finish(self) -> list[Share]:
        """Wait until it is computed; each row's share, in order. What the rows named must be resident until then."""
        ...


class Forward(Protocol):
    """One pass for many rows."""

    @property
    def overlaps(self) -> bool:
        """Whether a pass goes on by itself once it has begun, so that the next can be begun meanwhile."""
        ...

    def begin(self, rows: Sequence[Work]) -> Pending:
        """Ask for a pass; those that were begun compute one after another."""
        ...

    def run(self, rows: Sequence[Work]) -> list[Share]:
        """`begin`, and wait."""
        ...


class BackboneForward:
    """`Forward` over the library's backbone."""

    def __init__(self, backbone: Backbone, preprocessing: Preprocessing | None = None) -> None:
        """`preprocessing` tells what the pixels of images are as numbers; None where rows are text."""
        self._backbone = backbone
        self._preprocessing = preprocessing

    @property
    def overlaps(self) -> bool:
        """See `Forward`: an accelerator computes by itself, a CPU on the thread that asks."""
        return self._backbone.device.type != "cpu"

    def begin(self, rows: Sequence[Work]) -> "Begun":
        """See `Forward.begin`."""
        made: dict[int, Row] = {}
        found: dict[int, Share] = {}
        for i, work in enumerate(rows):
            try:
                made[i] = _row(work, self._preprocessing)
            except AdapterError as error:
                found[i] = error
        wants: dict[int, Want] = {i: rows[i].ticket.reduction.output for i in made}
        try:
            answers = self._pass(made, wants)
        except InvalidRows as error:  # found before the model ran
            places = list(made)
            found |= {places[at]: fault for at, fault in error.faults.items()}
            made = {i: row for i, row in made.items() if i not in found}
            answers = self._pass(made, wants)
        return Begun(rows, made, found, answers, self._backbone.profile.geometry)

    def run(self, rows: Sequence[Work]) -> list[Share]:
        """See `Forward.run`."""
        return self.begin(rows).finish()

    def _pass(self, rows: Mapping[int, Row], wants: Mapping[int, Want]) -> Answers:
        """Answers in the order of the rows; raises `InvalidRows` in terms of the rows given."""
        return self._backbone.begin(list(rows.values()), [wants[i] for i in rows]) if rows else NOTHING


class Begun:
    """`Pending` over the library's answers: those of the rows that were `made`; the others' faults are known."""

    def __init__(
        self,
        rows: Sequence[Work],
        made: Mapping[int, Row],
        faults: Mapping[int, Share],
        answers: Answers,
        geometry: Geometry,
    ) -> None:
        self._rows = rows
        self._made = made
        self._faults = faults
        self._answers = answers
        self._geometry = geometry
        self.seconds: float | None = None

    def finish(self) -> list[Share]:
        """See `Pending.finish`."""
        outputs = dict(zip(self._made, self._answers.wait(), strict=True))
        self.seconds = self._answers.seconds
        shares = {**self._faults, **{i: self._share(i, output) for i, output in outputs.items()}}
        return [shares[i] for i in range(len(self._rows))]

    def _share(self, i: int, output: Tensor) -> Share:
        reduction = self._rows[i].ticket.reduction
        try:
            own = answered_tokens(self._made[i], self._geometry, scores=reduction.output == "logits")
            return reduce(output.numpy(), reduction, own)
        except InvalidRow as error:
            return error


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
