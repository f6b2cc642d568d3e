"""Rows through the backbone: what the engine hands over, and what it gets back, behind one protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from adapters.backbone import Backbone
from adapters.batch.rows import Row, members_of, own_tokens
from adapters.cache.host import Entry
from adapters.embeddings import TokenEmbedding
from adapters.errors import InvalidRow
from adapters.refs import AdapterRef
from adapters.weights import Resident
from serving.engine.reduce import reduce
from serving.request import Reduced, Ticket


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A ticket, and all that it names, resident for as long as the step lasts."""

    ticket: Ticket
    resident: Mapping[AdapterRef, Resident | Entry]


class Forward(Protocol):
    """One pass for many rows."""

    def run(self, rows: Sequence[Work]) -> list[Reduced]:
        """Each row's reduced output, in order. Raises `InvalidRow` where a row of the batch can not run."""
        ...


class BackboneForward:
    """`Forward` over the library's backbone."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    def run(self, rows: Sequence[Work]) -> list[Reduced]:
        """See `Forward.run`."""
        made = [_row(work) for work in rows]
        outputs = self._backbone.run(made, [work.ticket.reduction.output for work in rows])
        return [
            reduce(output.numpy(), work.ticket.reduction, own_tokens(row))
            for output, work, row in zip(outputs, rows, made, strict=True)
        ]


def _row(work: Work) -> Row:
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
    )


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
