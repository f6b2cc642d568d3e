"""Every ticket to a replica, and exactly one reply to every ticket, whatever dies."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from serving.affinity import Affinity
from serving.dispatch.budget import RetryBudget
from serving.dispatch.flights import Flight, Request
from serving.dispatch.lanes import End, Lanes
from serving.dispatch.ports import Claim, EnginePort, News, Peers
from serving.dispatch.quarantine import Quarantine
from serving.dispatch.suspects import Suspects
from serving.errors import BROKEN, DeadlineExceeded, EngineFailed, NotReady
from serving.metrics import GatewayMetrics
from serving.request import Holding, Refusal, Reply, Result, Ticket

ATTEMPTS = 3  # calls of one ticket that end in nothing: neither an answer nor a lost replica
SPREAD = 2  # replicas that the rows of one request are spread over: as many as a poisonous one may take down
RETRY_AFTER_S = 1.0
POISONOUS = "this row was on board of two engine replicas that died, and is not tried again: send no copy of it"
_ENDS: dict[str, End] = {NotReady.code: "left", BROKEN: "lost"}  # refusals that are none: the row goes elsewhere
_TOO_LATE = DeadlineExceeded.code  # also how an engine refuses a row that it was told to give back
_RAN = EngineFailed.code  # the one refusal of a row that an engine has run; whatever else may come says nothing of it


class Dispatcher:
    """Implements `serving.api.services.Submit` over an `EnginePort`; lives on one event loop.

    `name` stands in the refusals made here; at most `max_flights` tickets are on their way, more are refused, and as
    many retries are in reserve.
    """

    def __init__(self, port: EnginePort, peers: Peers, metrics: GatewayMetrics, *, name: str, max_flights: int) -> None:
        self._metrics = metrics
        self._name = name
        self._max_flights = max_flights
        self._loop = asyncio.get_running_loop()
        self._affinity = Affinity(self._loop.time)
        self._budget = RetryBudget(max_flights, self._loop.time)
        self._lanes = Lanes(port, metrics, answered=self._answered, returned=self._returned, gone=self._affinity.lose)
        self._suspects = Suspects(self._loop.time)
        self._quarantine = Quarantine(
            self._suspects,
            peers,
            name=name,
            place=self._send,
            condemn=self._condemn,
            under_way=lambda: self._lanes.under_way,
            recall=self._cancel,
        )
        self._questioning = False
        self._flights: dict[str, Flight] = {}
        self._homeless: list[Flight] = []  # no replica is alive
        self._waiting: Counter[str] = Counter()  # rows in a lane or on their way, by replica
        self._lost: set[str] = set()  # replicas that died, counted once each
        self._closed = False

    @property
    def replicas(self) -> tuple[str, ...]:
        """The replicas believed alive."""
        return self._affinity.replicas

    @property
    def flights(self) -> int:
        """Rows that were taken and not answered yet."""
        return len(self._flights)

    def observe(self, holdings: Mapping[str, Holding]) -> None:
        """Take over who is alive and what each replica holds; tickets that found no replica are sent now."""
        self._affinity.observe(holdings)
        self._lanes.keep(holdings)
        self._lost &= self._lanes.replicas
        self._waiting = +self._waiting
        homeless, self._homeless = self._homeless, []
        for flight in homeless:
            if flight is self._quarantine.asked:  # while it had nowhere to go it may have become grave: ask anew
                self._quarantine.landed(flight, proven=False)
            self._place(flight)
        self._question()

    async def consent(self, claim: Claim) -> frozenset[str]:
        """Another gateway's claim to question its suspects; returns when it may: which suspects are on board here."""
        self._quarantine.heed(claim)
        self._question()
        try:
            return await self._quarantine.consent(claim)
        finally:
            self._question()

    async def greet(self) -> None:
        """Hear of what the other gateways found out about suspects before this one was there."""
        await self._quarantine.greet()
        self._question()

    def hear(self, news: News) -> News:
        """What another gateway found out about suspects; a greeting is answered with who is convicted and suspected."""
        self._quarantine.hear(news)
        self._question()
        return self._quarantine.news if news.greets else News(self._name)

    async def submit(self, tickets: Sequence[Ticket], timeout_s: float) -> Sequence[Reply]:
        """One reply per ticket, in order; after `timeout_s` what is unanswered is refused as too late.

        Cancelling this call cancels the tickets in the engines. Raises `ValueError` for an id that is on its way.
        """
        refusal = self._full(len(tickets))
        if refusal is not None:
            return [replace(refusal, ticket=ticket.id) for ticket in tickets]
        request = Request(len(tickets))
        flights = self._admit(tickets, self._loop.time() + timeout_s, request)
        try:
            await request.over(timeout_s)
        finally:
            self._abandon(flights, "deadline_exceeded", "the deadline passed before the row was done")
        return [flight.answer.result() for flight in flights]

    async def close(self) -> None:
        """Refuse what is on its way and end all calls."""
        self._closed = True
        for flight in list(self._flights.values()):
            self._settle(flight, self._refusal(flight, "not_ready", "the gateway is shutting down"))
        await self._lanes.close()

    def check(self) -> None:
        """Assert that every flight is unanswered, and in exactly one place."""
        assert all(not flight.answer.done() for flight in self._flights.values()), "answered but still on its way"
        placed = Counter(flight.replica for flight in self._flights.values() if flight.replica is not None)
        assert placed == +self._waiting, f"{placed} are placed, {self._waiting} are counted"
        idle = [f.ticket.id for f in (*self._homeless, *self._quarantine.held) if not f.answer.done()]
        lost = Counter(key for key, flight in self._flights.items() if flight.replica is None)
        assert Counter(idle) == lost, f"{idle} wait, and {lost} are nowhere"
        assert self._closed or self._questioning or not self._quarantine.busy, "nobody will question the suspects"
        for part in (self._lanes, self._budget, self._suspects):
            part.check()

    def _full(self, rows: int) -> Refusal | None:
        if self._closed:
            return Refusal("", "not_ready", "the gateway is shutting down", self._name, RETRY_AFTER_S)
        if len(self._flights) + rows > self._max_flights:
            detail = f"{len(self._flights)} rows are on their way and {self._max_flights} may be; try again"
            return Refusal("", "overloaded", detail, self._name, RETRY_AFTER_S)
        return None

    def _admit(self, tickets: Sequence[Ticket], deadline: float, request: Request) -> list[Flight]:
        ids = {ticket.id for ticket in tickets}
        if len(ids) < len(tickets) or not ids.isdisjoint(self._flights):
            raise ValueError("a ticket with one of these ids is on its way already")
        flights = [Flight(ticket, self._loop.create_future(), deadline, request) for ticket in tickets]
        self._flights.update((flight.ticket.id, flight) for flight in flights)
        self._budget.earn(len(flights))
        if self._suspects:
            self._condemn([f.print_ for f in flights if self._suspects.convicted(f.print_)])
        for flight in flights:
            self._place(flight)
        return flights

    def _place(self, flight: Flight) -> None:
        """Send an unanswered flight on its way, or keep it where suspects wait."""
        if flight.answer.done():
            return
        if self._suspects and (self._suspects.suspected(flight.print_) or self._suspects.convicted(flight.print_)):
            self._quarantine.add(flight)
            self._question()
        else:
            self._send(flight)

    def _send(self, flight: Flight) -> None:
        """Put an unanswered flight into the lane of the best replica, or keep it until one is there."""
        if flight.answer.done():
            self._quarantine.landed(flight, proven=False)
            return
        spread = flight.request.replicas
        among = spread if len(spread) >= SPREAD else ()
        replica = self._affinity.choose(flight.ticket, self._waiting, avoid=flight.tried, among=among)
        flight.replica = replica
        if replica is None:
            self._homeless.append(flight)
            return
        spread.add(replica)
        flight.left = self._loop.time()
        self._waiting[replica] += 1
        self._affinity.expect(replica, flight.ticket)
        self._lanes.put(replica, flight)

    def _answered(self, flight: Flight, reply: Reply) -> None:
        """A replica replied; one that is leaving, or that the row's step has broken, has not answered."""
        code = reply.code if isinstance(reply, Refusal) else ""
        if code in _ENDS:
            self._returned([flight], reply.replica, _ENDS[code])
        elif code == _TOO_LATE and flight.recalled is not None and self._loop.time() < flight.deadline:
            self._given_back(flight)
        else:
            cleared = self._quarantine.landed(flight, proven=isinstance(reply, Result) or code == _RAN)
            self._settle(flight, reply)
            if cleared:
                self._quarantine.release()
                self._question()

    def _given_back(self, flight: Flight) -> None:
        """A replica has not run this suspect, as it was told: it is held, or travels again where it is none any more."""
        self._quarantine.landed(flight, proven=False)
        if not flight.answer.done():
            self._unplace(flight)
            self._place(flight)

    def _returned(self, flights: Sequence[Flight], replica: str, end: End) -> None:
        """A call ended without an answer for these: some wait no more, the others travel again."""
        if end != "failed":
            self._affinity.lose(replica)
        if end == "lost":
            self._metrics.replicas_lost.inc(replica not in self._lost)
            self._lost.add(replica)
            self._quarantine.lost(flights, replica)
        for flight in flights:
            self._quarantine.landed(flight, proven=False)
            if flight.answer.done():
                continue
            flight.tried.append(self._unplace(flight))
            flight.failures += end == "failed"
            self._again(flight, end)
        self._question()

    def _unplace(self, flight: Flight) -> str:
        """Take an unanswered flight from its replica; which that was."""
        replica, flight.replica = flight.replica, None
        assert replica is not None, f"{flight.ticket.id} is nowhere"
        self._waiting[replica] -= 1
        return replica

    def _again(self, flight: Flight, end: End) -> None:
        if self._suspects and self._suspects.convicted(flight.print_):
            self._quarantine.add(flight)  # refused there, once every gateway knows it
        elif flight.failures >= ATTEMPTS:
            self._settle(flight, self._refusal(flight, "not_ready", f"{ATTEMPTS} calls to engine replicas failed"))
        elif not self._budget.spend():
            self._metrics.retries_denied.inc()
            self._settle(flight, self._refusal(flight, "retries_exhausted", "too many rows are being retried"))
        else:
            self._metrics.retries.labels(f"replica_{end}" if end != "failed" else "call_failed").inc()
            self._place(flight)

    def _condemn(self, prints: Iterable[str]) -> None:
        """Refuse every flight of these rows, and the other rows of the same requests."""
        guilty = frozenset(prints)
        if not guilty:
            return
        requests = {id(flight.request) for flight in self._flights.values() if flight.print_ in guilty}
        flights = [flight for flight in self._flights.values() if id(flight.request) in requests]
        self._abandon(flights, "poisonous_request", POISONOUS)

    def _settle(self, flight: Flight, reply: Reply) -> None:
        """Hand a reply to its flight; one that nobody waits for any more is nobody's."""
        if flight.answer.done():
            return
        del self._flights[flight.ticket.id]
        if flight.replica is not None:
            self._waiting[flight.replica] -= 1
        flight.answer.set_result(reply)
        flight.request.settled()
        if not self._lanes.aboard(flight):
            self._quarantine.landed(flight, proven=False)

    def _abandon(self, flights: Sequence[Flight], code: str, detail: str) -> None:
        """Refuse what is still unanswered, and tell the replicas that nobody waits for it any more."""
        left = [flight for flight in flights if not flight.answer.done()]
        for flight in left:
            self._metrics.cancelled.inc(flight.replica is not None)
            self._settle(flight, self._refusal(flight, code, detail))
        self._cancel(left)

    def _cancel(self, flights: Iterable[Flight]) -> None:
        """Tell the replicas of these flights to refuse them where they wait."""
        rows: dict[str, list[str]] = {}
        for flight in flights:
            if flight.replica is not None:
                rows.setdefault(flight.replica, []).append(flight.ticket.id)
        for replica, ids in rows.items():
            self._lanes.cancel(replica, ids)

    def _refusal(self, flight: Flight, code: str, detail: str) -> Refusal:
        wait = RETRY_AFTER_S if code in {"not_ready", "retries_exhausted"} else None
        return Refusal(flight.ticket.id, code, detail, self._name, wait)

    def _question(self) -> None:
        """See to it that suspects are questioned."""
        if not self._questioning and self._quarantine.busy and not self._closed:
            self._questioning = True
            self._lanes.start(self._questions())
        elif self._quarantine.untold and not self._closed:
            self._lanes.start(self._quarantine.spread())

    async def _questions(self) -> None:
        try:
            await self._quarantine.run()
        finally:
            self._questioning = False
