"""The loop: take, step, reply. It owns the forward thread, and answers every ticket exactly once.

The thread sleeps on a condition until a ticket, a deadline or the end of a load gives it something to look at.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from serving.errors import BROKEN, Conflict, DeadlineExceeded, NotReady, Overloaded, ServiceError
from serving.metrics import EngineMetrics
from serving.request import Refusal, TenantLine, Ticket
from serving.scheduler.batcher import Budget
from serving.scheduler.measuring import Measuring
from serving.scheduler.pace import Pace
from serving.scheduler.prefetch import Prefetcher
from serving.scheduler.queue import FairQueue
from serving.scheduler.replies import Answer, refused, send
from serving.scheduler.stepping import Flight, Machine, Outcome, Stepper
from serving.scheduler.stride import Stride
from serving.scheduler.waiting import Picked, Sink, Waiting

SWITCH_SECONDS = 2e-4  # a busy Python thread would otherwise hold the forward thread up by 5 ms at every kernel call
ASK_AGAIN_SECONDS = 0.5  # a cache keeps what it loaded for a while only, and then wants to be asked again
LOOK_AHEAD_ROWS = 256
LOOK_AHEAD_LOADS = 16
BESIDE = 0.5  # of a step, for a tenant with more than a step's work, where another waits for less
AHEAD = 1  # batches that are begun while one computes: enough that the machine never waits for the next
_RETRY_SECONDS = (0.1, 30.0)


class Loop:
    """One queue, one machine, one thread."""

    def __init__(
        self,
        machine: Machine,
        queue: FairQueue,
        budget: Budget,
        pace: Pace,
        *,
        metrics: EngineMetrics,
        replica: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._machine = machine
        self._queue = queue
        self._budget = budget
        self._pace = pace
        self._stride = Stride(pace, clock)
        self._metrics = metrics
        self._replica = replica
        self._clock = clock
        self._prefetcher = Prefetcher(machine, LOOK_AHEAD_LOADS)
        self._measuring = Measuring(queue, budget, pace, metrics)
        self._stepper = Stepper(machine, clock, replica, self._measuring.stepped)
        self._guard = threading.Lock()  # queue, prefetcher and running; never held while a sink or a step runs
        self._wake = threading.Condition()  # the two flags below and nothing else: any thread may poke at any time
        self._dirty = False
        self._closing = False
        self._draining = False
        self._flights: deque[Flight] = deque()  # the oldest first; of the forward thread
        self._running: dict[str, Picked] = {}  # by ticket: not answered yet, and in no queue
        self._cancelled: set[str] = set()  # of those that run
        self._empty = threading.Event()  # nothing waits, nothing runs, everything is answered
        self._empty.set()
        self._thread: threading.Thread | None = None

    @property
    def load(self) -> tuple[int, int]:
        """Rows that wait, and rows of the batches that run."""
        return len(self._queue), len(self._running)

    @property
    def alive(self) -> bool:
        """Whether the forward thread runs."""
        return self._thread is not None and self._thread.is_alive() and not self._closing

    @property
    def draining(self) -> bool:
        """Whether new tickets are refused: those that are here are finished first, or nothing runs any more."""
        return self._draining or self._closing

    @property
    def rate(self) -> float:
        """Layers x tokens per second; 0 while it is not known."""
        return self._pace.rate

    def lines(self, limit: int) -> tuple[int, int, tuple[TenantLine, ...]]:
        """The cost of all that waits, how many tenants wait, and the costliest lines."""
        with self._guard:
            return self._queue.cost, self._queue.tenants, self._queue.told(limit)

    def share(self, weights: Mapping[str, float]) -> None:
        """Serve tenants by these weights from now on; one that is not named has 1."""
        with self._guard:
            self._queue.share(weights)

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
            if not self._closing:
                self._empty.clear()
            for ticket in tickets:
                row = Waiting(ticket, ticket.refs, sink, now, now + ticket.deadline_ms / 1000)
                try:
                    displaced = self._admit(row)
                except ServiceError as error:
                    answers.append(refused(row, error, self._replica))
                    continue
                self._prefetcher.came(row)
                if displaced is not None:
                    full = Overloaded("the queue is full, and this line is the longest", retry_after=self._wait())
                    answers.append(refused(displaced, full, self._replica))
        self.poke()
        self._send(answers)

    def cancel(self, ids: Iterable[str]) -> None:
        """Refuse tickets that wait; one that runs is answered as usual, or refused where it would have to wait again."""
        tickets = tuple(ids)
        with self._guard:
            rows = self._queue.remove(tickets)
            self._cancelled |= self._running.keys() & tickets
        self._send([self._gone(row) for row in rows])
        self.poke()

    def poke(self) -> None:
        """Look again: something changed (a ticket, a load that ended)."""
        with self._wake:
            self._dirty = True
            self._wake.notify()

    def turn(self) -> bool:
        """One round: expire, take, prefetch, step, reply. False where there was nothing to do.

        A machine that computes by itself gets the next batch before the last one is finished.
        """
        with self._guard:
            answers = self._expire()
            for tenant, moved in self._prefetcher.arrived().items():
                self._queue.charge(tenant, moved)
            guests = self._queue.guests(self._pace.cost)
            step = min(self._budget.tokens, self._stride.tokens(self._queue.cost, guests=guests))
            rows = self._queue.take(replace(self._budget, tokens=step), self._machine.ready, int(step * BESIDE))
            self._running |= {picked.waiting.ticket.id: picked for picked in rows}
            self._measuring.gauge(len(self._running))
        self._send(answers)
        if rows:
            self._flights.append(self._stepper.begin(rows, self._look_ahead))
        else:
            self._look_ahead()
        landed = self._land(AHEAD if rows and self._machine.overlaps else 0)
        self._rest()
        return bool(answers or rows or landed)

    def drain(self, timeout_s: float) -> bool:
        """Refuse new tickets as not ready, and wait until those that are here are answered; False where time ran out."""
        with self._guard:
            self._draining = True
        self.poke()
        return self._empty.wait(timeout_s)

    def close(self, timeout_s: float = 10.0) -> None:
        """Stop after the batches that run; what still waits is refused as not ready."""
        with self._wake:
            self._closing = self._dirty = True
            self._wake.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        self._refuse_all()

    def check(self) -> tuple[str, ...]:
        """Every breach of the books; empty when sound."""
        with self._guard:
            twice = [ticket for ticket in self._running if ticket in self._queue]
            return (*self._queue.check(), *(f"loop: {ticket} waits and runs" for ticket in twice))

    def _run(self) -> None:
        try:
            while True:
                if self._closing or self._stepper.broken:
                    return
                if not self.turn():
                    self._sleep()
        finally:  # also when the thread dies of a bug: nobody may wait for an answer that can not come
            self._closing = True
            try:
                self._land(0)
            finally:
                self._give_back()
                self._refuse_all()

    def _rest(self) -> None:
        with self._guard:
            if not len(self._queue) and not self._running:
                self._empty.set()

    def _sleep(self) -> None:
        with self._guard:
            deadline = self._queue.next_deadline()
        timeout = None if deadline is None else min(max(deadline - self._clock(), 0.0), ASK_AGAIN_SECONDS)
        with self._wake:
            if not self._dirty:
                self._wake.wait(timeout)
            self._dirty = False

    def _admit(self, row: Waiting) -> Waiting | None:
        if self._closing or self._draining:
            raise NotReady("this replica is shutting down", retry_after=1.0)
        if row.ticket.id in self._running:
            raise Conflict(f"ticket {row.ticket.id} runs already")
        return self._queue.put(row, self._wait())

    def _wait(self) -> float:
        """Seconds until what waits now should be done: a refused caller may come back then."""
        low, high = _RETRY_SECONDS
        seconds = self._pace.seconds(self._queue.cost)
        return 1.0 if seconds is None else min(max(seconds, low), high)

    def _expire(self) -> list[Answer]:
        late = DeadlineExceeded("the deadline passed while the row waited")
        return [refused(row, late, self._replica) for row in self._queue.expire()]

    def _look_ahead(self) -> None:
        """Refuse the rows whose adapters can not be had, and bring in what the next ones miss."""
        answers: list[Answer] = []
        with self._guard:
            upcoming = self._queue.upcoming(LOOK_AHEAD_ROWS)
            errors = {refs: self._machine.failure(refs) for refs in {row.refs for row in upcoming}}
            for row in upcoming:
                error = errors[row.refs]
                if error is not None:
                    self._queue.remove([row.ticket.id])
                    self._prefetcher.forget(row.refs)
                    answers.append(refused(row, error, self._replica))
            self._prefetcher.ask(row for row in upcoming if errors[row.refs] is None)
        self._send(answers)

    def _land(self, left: int) -> bool:
        """Finish and answer the oldest flights until so many are left; whether there were any."""
        landed = False
        while len(self._flights) > left:
            self._finish(self._stepper.finish(self._flights.popleft()))
            landed = True
        return landed

    def _finish(self, outcomes: Sequence[Outcome]) -> None:
        tickets = {outcome.picked.waiting.ticket.id for outcome in outcomes}
        again = {outcome.picked.waiting.ticket.id: outcome.picked for outcome in outcomes if outcome.answer is None}
        with self._guard:
            gone = [again.pop(ticket) for ticket in self._cancelled & again.keys()]
            self._queue.restore(list(again.values()))
            for picked in (*gone, *(outcome.picked for outcome in outcomes if outcome.dropped)):
                self._queue.refund(picked)
            self._running = {ticket: picked for ticket, picked in self._running.items() if ticket not in tickets}
            self._cancelled -= tickets
            self._measuring.gauge(len(self._running))
        answers = [outcome.answer for outcome in outcomes if outcome.answer is not None]
        self._send([*answers, *(self._gone(picked.waiting) for picked in gone)])

    def _give_back(self) -> None:
        """The rows of a step that the thread did not survive go elsewhere, as those of any engine that died."""
        with self._guard:
            rows = [picked.waiting for ticket, picked in self._running.items() if ticket not in self._queue]
            self._running = {}
        broken = NotReady("the engine broke in the step of this row", code=BROKEN)
        self._send([refused(row, broken, self._replica) for row in rows])

    def _refuse_all(self) -> None:
        with self._guard:
            rows = self._queue.clear()
        down = NotReady("this replica is shutting down", retry_after=1.0)
        self._send([refused(row, down, self._replica) for row in rows])
        self._rest()

    def _gone(self, row: Waiting) -> Answer:
        return refused(row, DeadlineExceeded("the caller cancelled this row"), self._replica)

    def _send(self, answers: Sequence[Answer]) -> None:
        try:
            for answer in answers:
                if isinstance(answer.reply, Refusal):
                    self._metrics.refusals.labels(answer.reply.code).inc()
        finally:
            send(answers)
