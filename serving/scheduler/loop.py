"""The loop: take, step, reply. It owns the forward thread, and answers every ticket exactly once.

A step refuses the rows that can not run and answers the others. One that raises all the same is run again in halves,
so that only the row at fault fails. The thread sleeps on a condition until
a ticket, a deadline or the end of a load gives it something to look at.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from adapters.refs import AdapterRef
from serving.errors import Conflict, DeadlineExceeded, NotReady, Overloaded, ServiceError
from serving.metrics import EngineMetrics
from serving.request import Refusal, Reply, Result, Ticket
from serving.scheduler.batcher import Budget
from serving.scheduler.complaints import Complaints
from serving.scheduler.prefetch import Prefetcher, Store
from serving.scheduler.queue import FairQueue
from serving.scheduler.replies import Answer, failed, refused, send
from serving.scheduler.waiting import Picked, Sink, Waiting

SWITCH_SECONDS = 2e-4  # a busy Python thread would otherwise hold the forward thread up by 5 ms at every kernel call
ASK_AGAIN_SECONDS = 0.5  # a cache keeps what it loaded for a while only, and then wants to be asked again
LOOK_AHEAD_ROWS = 256
LOOK_AHEAD_LOADS = 8


class Machine(Store, Protocol):
    """What runs a batch; the loop knows nothing else of the engine."""

    def failure(self, refs: tuple[AdapterRef, ...]) -> ServiceError | None:
        """Why these adapters can not be had for now, if that is known."""
        ...

    def step(self, rows: Sequence[Picked], meanwhile: Callable[[], None]) -> Sequence[Reply | None]:
        """One reply per row, in order, refusals of rows that can not run among them; None where the row's adapters left between the look and the lease.

        `meanwhile` is called once the batch holds its leases: what it starts can not take the batch's adapters away.
        """
        ...


class Loop:
    """One queue, one machine, one thread."""

    def __init__(
        self,
        machine: Machine,
        queue: FairQueue,
        budget: Budget,
        *,
        metrics: EngineMetrics,
        replica: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._machine = machine
        self._queue = queue
        self._budget = budget
        self._metrics = metrics
        self._replica = replica
        self._clock = clock
        self._prefetcher = Prefetcher(machine, LOOK_AHEAD_LOADS)
        self._complaints = Complaints(clock)
        self._guard = threading.Lock()  # queue, prefetcher and running; never held while a sink or a step runs
        self._wake = threading.Condition()  # the two flags below and nothing else: any thread may poke at any time
        self._dirty = False
        self._closing = False
        self._running: frozenset[str] = frozenset()
        self._thread: threading.Thread | None = None

    @property
    def load(self) -> tuple[int, int]:
        """Rows that wait, and rows of the present batch."""
        return len(self._queue), len(self._running)

    @property
    def alive(self) -> bool:
        """Whether the forward thread runs."""
        return self._thread is not None and self._thread.is_alive() and not self._closing

    def start(self) -> None:
        """Start the forward thread."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)
        self._thread.start()

    def submit(self, tickets: Sequence[Ticket], sink: Sink) -> None:
        """Queue tickets; each is answered once through `sink`, refusals at once and on this thread."""
        now = self._clock()
        answers: list[Answer] = []
        with self._guard:
            for ticket in tickets:
                row = Waiting(ticket, ticket.refs, sink, now, now + ticket.deadline_ms / 1000)
                try:
                    displaced = self._admit(row)
                except ServiceError as error:
                    answers.append(refused(row, error, self._replica))
                    continue
                if displaced is not None:
                    wait = self._queue.retry_after()
                    full = Overloaded("the queue is full, and this line is the longest", retry_after=wait)
                    answers.append(refused(displaced, full, self._replica))
        self.poke()
        self._send(answers)

    def cancel(self, ids: Iterable[str]) -> None:
        """Refuse tickets that still wait; a row that runs already is answered as usual."""
        with self._guard:
            rows = self._queue.remove(ids)
        gone = DeadlineExceeded("the caller cancelled this row")
        self._send([refused(row, gone, self._replica) for row in rows])

    def poke(self) -> None:
        """Look again: something changed (a ticket, a load that ended)."""
        with self._wake:
            self._dirty = True
            self._wake.notify()

    def turn(self) -> bool:
        """One round: expire, take, prefetch, step, reply. False where there was nothing to do."""
        with self._guard:
            answers = self._expire()
            for tenant, nbytes in self._prefetcher.arrived().items():
                self._queue.charge(tenant, nbytes)
            rows = self._queue.take(self._budget, self._machine.ready)
            self._running = frozenset(picked.waiting.ticket.id for picked in rows)
            self._gauge()
        self._send(answers)
        if rows:
            self._finish(rows, self._step(rows, self._look_ahead))
        else:
            self._look_ahead()
        return bool(answers or rows)

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop after the present step; what still waits is refused as not ready."""
        with self._wake:
            self._closing = self._dirty = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        self._drain()

    def check(self) -> tuple[str, ...]:
        """Every breach of the books; empty when sound."""
        with self._guard:
            twice = [ticket for ticket in self._running if ticket in self._queue]
            return (*self._queue.check(), *(f"loop: {ticket} waits and runs" for ticket in twice))

    def _run(self) -> None:
        try:
            while True:
                if self._closing:
                    return
                if not self.turn():
                    self._sleep()
        finally:  # also when the thread dies of a bug: nobody may wait for an answer that can not come
            self._closing = True
            self._drain()

    def _sleep(self) -> None:
        with self._guard:
            deadline = self._queue.next_deadline()
        timeout = None if deadline is None else min(max(deadline - self._clock(), 0.0), ASK_AGAIN_SECONDS)
        with self._wake:
            if not self._dirty:
                self._wake.wait(timeout)
            self._dirty = False

    def _admit(self, row: Waiting) -> Waiting | None:
        if self._closing:
            raise NotReady("this replica is shutting down", retry_after=1.0)
        if row.ticket.id in self._running:
            raise Conflict(f"ticket {row.ticket.id} runs already")
        return self._queue.put(row)

    def _expire(self) -> list[Answer]:
        late = DeadlineExceeded("the deadline passed while the row waited")
        return [refused(row, late, self._replica) for row in self._queue.expire()]

    def _look_ahead(self) -> None:
        """Refuse the rows whose adapters can not be had, and bring in what the next ones miss."""
        answers: list[Answer] = []
        with self._guard:
            for row in self._queue.upcoming(LOOK_AHEAD_ROWS):
                error = self._machine.failure(row.refs)
                if error is not None:
                    self._queue.remove([row.ticket.id])
                    self._prefetcher.forget(row.refs)
                    answers.append(refused(row, error, self._replica))
            self._prefetcher.ask(self._queue.upcoming(LOOK_AHEAD_ROWS))
        self._send(answers)

    def _step(self, rows: Sequence[Picked], meanwhile: Callable[[], None]) -> list[tuple[Picked, Answer | None]]:
        """Answers of a batch; in halves where it raises, so that the row at fault fails alone."""
        began = self._clock()
        try:
            replies = self._machine.step(rows, meanwhile)
            assert len(replies) == len(rows), "a step must answer every row"
        except Exception as error:  # a row's weights, or a bug: either way the other rows must be answered
            if len(rows) == 1:
                return [(rows[0], failed(rows[0].waiting, error, self._replica))]
            self._complaints.step_failed(error, len(rows))
            half = len(rows) // 2
            return self._step(rows[:half], _nothing) + self._step(rows[half:], _nothing)
        self._complaints.rows_refused([reply for reply in replies if isinstance(reply, Refusal)])
        ran = [picked for picked, reply in zip(rows, replies, strict=True) if isinstance(reply, Result)]
        self._measure(ran, self._clock() - began)
        return [
            (picked, None if reply is None else Answer(picked.waiting, reply))
            for picked, reply in zip(rows, replies, strict=True)
        ]

    def _finish(self, rows: Sequence[Picked], outcome: Iterable[tuple[Picked, Answer | None]]) -> None:
        answers: list[Answer] = []
        with self._guard:
            self._running = frozenset()
            for picked, answer in outcome:
                if answer is None:
                    self._queue.restore(picked)
                else:
                    answers.append(answer)
            self._gauge()
        self._send(answers)

    def _drain(self) -> None:
        with self._guard:
            rows = self._queue.clear()
        down = NotReady("this replica is shutting down", retry_after=1.0)
        self._send([refused(row, down, self._replica) for row in rows])

    def _send(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if isinstance(answer.reply, Refusal):
                self._metrics.refusals.labels(answer.reply.code).inc()
        send(answers)

    def _gauge(self) -> None:
        self._metrics.queued.set(len(self._queue))
        self._metrics.running.set(len(self._running))

    def _measure(self, rows: Sequence[Picked], seconds: float) -> None:
        if not rows:
            return
        with self._guard:
            self._queue.served(rows, seconds)
        self._metrics.stepped(
            rows=len(rows),
            tokens=sum(picked.waiting.tokens for picked in rows),
            adapters=len({ref for picked in rows for ref in picked.waiting.refs}),
            stacks=len({picked.waiting.ticket.composition for picked in rows}),
            seconds=seconds,
        )
        for picked in rows:
            self._metrics.queue_seconds.observe(picked.queue_s)


def _nothing() -> None:
    pass
