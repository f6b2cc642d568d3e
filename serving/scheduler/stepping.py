"""One batch through the machine: late rows are dropped before it, and a batch that raises is run again in halves.

A step refuses the rows that can not run and answers the others. One that raises all the same is halved until the row at
fault fails alone. Where the machine can compute nothing at all after it, nobody can tell which row it was: all of them
are given back as those of an engine that died. Whatever happens, every row of the batch has one outcome: an answer, or
None to wait again.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.errors import AdapterError
from adapters.refs import AdapterRef
from serving.errors import BROKEN, DeadlineExceeded, ServiceError
from serving.logs import log
from serving.request import Refusal, Reply, Result
from serving.scheduler.complaints import Complaints
from serving.scheduler.prefetch import Store
from serving.scheduler.replies import Answer, failed, refused
from serving.scheduler.waiting import Picked

Measure = Callable[[Sequence[Picked], float], None]
"""Told of the rows of a step that ran, and its seconds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a picked row: an answer, or None to wait again; `dropped` where it was not even tried."""

    picked: Picked
    answer: Answer | None
    dropped: bool = False


class Begun(Protocol):
    """A batch in the machine. `seconds`: how long it took there, where the machine tells, once it is finished."""

    seconds: float | None

    def finish(self) -> Sequence[Reply | None]:
        """Wait for it; one reply per row, in order, refusals of rows that can not run among them.

        None where the row's adapters left between the look and the lease.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """A batch between `Stepper.begin` and `Stepper.finish`: the rows in the machine, or what it raised at once."""

    rows: Sequence[Picked]
    dropped: tuple[Outcome, ...]
    began: float
    begun: Begun | Exception | None  # None where all rows were dropped


class Machine(Store, Protocol):
    """What runs a batch; the scheduler knows nothing else of the engine."""

    def failure(self, refs: tuple[AdapterRef, ...]) -> ServiceError | None:
        """Why these adapters can not be had for now, if that is known."""
        ...

    @property
    def overlaps(self) -> bool:
        """Whether a batch computes by itself once it has begun: the next is then begun before it is finished."""
        ...

    def begin(self, rows: Sequence[Picked], meanwhile: Callable[[], None]) -> Begun:
        """Have a batch computed, behind those that began before it.

        `meanwhile` is called once the batch holds its leases: what it starts can not take the batch's adapters away.
        """
        ...

    def sound(self) -> bool:
        """Whether it can still compute; asked after a step that raised, for an accelerator's errors may be there to stay."""
        ...


class Stepper:
    """Runs batches; on the forward thread only."""

    def __init__(self, machine: Machine, clock: Callable[[], float], replica: str, measure: Measure) -> None:
        self._machine = machine
        self._clock = clock
        self._replica = replica
        self._measure = measure
        self._complaints = Complaints(clock)
        self._broken = False

    @property
    def broken(self) -> bool:
        """Whether the machine can compute nothing more: no batch may follow."""
        return self._broken

    def run(self, rows: Sequence[Picked], meanwhile: Callable[[], None]) -> list[Outcome]:
        """The outcome of every row, those that were dropped first."""
        return self.finish(self.begin(rows, meanwhile))

    def begin(self, rows: Sequence[Picked], meanwhile: Callable[[], None]) -> Flight:
        """Drop the rows that are late, and have the others computed; flights are finished in the order they began."""
        began = self._clock()
        dropped = tuple(Outcome(picked, self._late(picked), dropped=True) for picked in rows if _is_late(picked, began))
        rows = [picked for picked in rows if not _is_late(picked, began)]
        begun: Begun | Exception | None = None
        if rows and not self._broken:
            try:
                begun = self._machine.begin(rows, meanwhile)
            except Exception as error:  # what began before it is to be finished first
                begun = error
        return Flight(rows, dropped, began, begun)

    def finish(self, flight: Flight) -> list[Outcome]:
        """The outcome of every row of a flight, those that were dropped first."""
        rows, dropped = flight.rows, list(flight.dropped)
        if not rows:
            return dropped
        if self._broken:  # by the other half of this batch, or by the one before it
            return dropped + self._given_back(rows)
        try:
            begun, replies = _landed(flight)
        except Exception as error:  # a row's weights, or a bug: either way the other rows must be answered
            if self._breaks(error):
                return dropped + self._given_back(rows)
            if len(rows) == 1:
                return [*dropped, Outcome(rows[0], failed(rows[0].waiting, error, self._replica))]
            self._complaints.step_failed(error, len(rows))
            half = len(rows) // 2
            return dropped + self.run(rows[:half], _nothing) + self.run(rows[half:], _nothing)
        self._complaints.rows_refused([reply for reply in replies if isinstance(reply, Refusal)])
        ran = [picked for picked, reply in zip(rows, replies, strict=True) if isinstance(reply, Result)]
        if ran:
            self._measure(ran, self._clock() - flight.began if begun.seconds is None else begun.seconds)
        return dropped + [
            Outcome(picked, None if reply is None else Answer(picked.waiting, reply))
            for picked, reply in zip(rows, replies, strict=True)
        ]

    def _breaks(self, error: Exception) -> bool:
        """Whether the machine is lost with the step that raised this, in an `except` clause."""
        if isinstance(error, ServiceError | AdapterError) or self._machine.sound():
            return False
        self._broken = True
        log("scheduler", "the engine can compute nothing more, and ends", level=logging.ERROR, error=True)
        return True

    def _given_back(self, rows: Sequence[Picked]) -> list[Outcome]:
        detail = "the engine broke in the step of this row"
        return [
            Outcome(picked, Answer(picked.waiting, Refusal(picked.waiting.ticket.id, BROKEN, detail, self._replica)))
            for picked in rows
        ]

    def _late(self, picked: Picked) -> Answer:
        late = DeadlineExceeded("the deadline passed before the step that the row was picked for")
        return refused(picked.waiting, late, self._replica)


def _landed(flight: Flight) -> tuple[Begun, Sequence[Reply | None]]:
    """What was begun, and its replies; raises what it raised."""
    if isinstance(flight.begun, Exception):
        raise flight.begun
    assert flight.begun is not None
    replies = flight.begun.finish()
    assert len(replies) == len(flight.rows), "a step must answer every row"
    return flight.begun, replies


def _is_late(picked: Picked, now: float) -> bool:
    return picked.waiting.deadline <= now


def _nothing() -> None:
    pass
