"""Engines on a virtual clock, and gateways that hear each other: what a `Dispatcher` stands on, without Ray."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from serving.dispatch.dispatcher import Dispatcher
from serving.dispatch.ports import ReplicaLeft, ReplicaLost
from serving.dispatch.suspects import fingerprint
from serving.metrics import GatewayMetrics
from serving.request import Holding, Refusal, Result, Timing
from tests.serving.test_affinity import ticket

NEVER = float("inf")
POISON = 666  # the content of rows that kill


def holding(replica: str, keys=frozenset(), *, warm: bool = True) -> Holding:
    return Holding(replica, frozenset(keys), warm=warm)


def rows(*ids, adapter="x"):
    return [ticket(adapter, ident=ident) for ident in ids]


@dataclass
class Engines:
    """Replicas that answer each ticket after its delay, and die when they are told to, or of a row that kills."""

    delays: dict[str, float] = field(default_factory=dict)  # ticket -> seconds; 0.01 where none is named
    deaths: dict[str, float] = field(default_factory=dict)  # replica -> time of death
    unnoticed: dict[str, float] = field(default_factory=dict)  # ticket -> how much later its gateway hears of a death
    refuse: dict[str, str] = field(default_factory=dict)  # replica -> the code it refuses every ticket with
    poison: set[int] = field(default_factory=set)  # first id of rows that kill the replica which runs them
    fatal: set[int] = field(default_factory=set)  # the same of rows that leave it alive, and unable to compute
    broken: set[str] = field(default_factory=set)  # replicas to which that happened
    away: set[str] = field(default_factory=set)  # replicas that no call reaches any more
    queued: set[str] = field(default_factory=set)  # tickets that wait in line for their delay; others run
    cancel_s: float = 0.0  # how long a cancel is on its way
    stirs: dict[str, asyncio.Event] = field(default_factory=dict)  # replica -> that it was killed, or gives rows back
    lines: dict[tuple[str, str], bool] = field(default_factory=dict)  # replica and ticket -> whether it is cancelled
    error: Exception | None = None
    deaf: set[str] = field(default_factory=set)  # replicas that end a call without answering
    calls: list[tuple[float, str, list[str]]] = field(default_factory=list)
    sent: list[object] = field(default_factory=list)
    cancelled: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def dead(self) -> set[str]:
        now = asyncio.get_running_loop().time()
        return {replica for replica, death in self.deaths.items() if death <= now}

    async def call(self, replica, tickets):
        clock = asyncio.get_running_loop().time
        if replica in self.away:
            raise ReplicaLeft(replica)
        self.calls.append((clock(), replica, [t.id for t in tickets]))
        self.sent.extend(tickets)
        if self.error is not None:
            raise self.error
        if replica in self.deaf:
            return
        due = {t.id: clock() + self.delays.get(t.id, 0.01) for t in tickets}
        self.lines.update({(replica, t.id): False for t in tickets})
        while due:
            when = min(due.values())
            await self._until(replica, min(when, self.deaths.get(replica, NEVER)))
            if replica not in self.dead and (back := [ident for ident in due if self.lines[replica, ident]]):
                yield tuple(Refusal(i, "deadline_exceeded", "the caller cancelled this row", replica) for i in back)
            elif replica in self.dead or clock() > when - 1e-6:  # a timer may be early by what a float can not tell
                back = [ident for ident in due if due[ident] == when]
                yield await self._step(replica, tickets, [t for t in tickets if t.id in back])
            else:
                continue  # another call's row was cancelled
            for ident in back:
                del due[ident], self.lines[replica, ident]

    async def _step(self, replica, tickets, batch):
        """What the batch is answered, if it leaves the replica alive."""
        run = {int(t.input_ids[0]) for t in batch} if replica not in self.refuse else set()
        if run & self.poison and replica not in self.dead:
            self.kill(replica)
        if replica in self.dead:
            await asyncio.sleep(max(self.unnoticed.get(t.id, 0.0) for t in tickets))
            raise ReplicaLost(replica)
        if run & self.fatal and replica not in self.broken:
            self.broken.add(replica)
            return tuple(Refusal(t.id, "engine_broken", "no", replica) for t in batch)
        return tuple(self.answer(replica, t) for t in batch)

    def kill(self, replica) -> None:
        """The replica dies now, and every call to it ends."""
        self.deaths[replica] = asyncio.get_running_loop().time()
        self._stir(replica)

    def _stir(self, replica) -> None:
        self.stirs.pop(replica, asyncio.Event()).set()

    async def _until(self, replica, when) -> None:
        stirred = self.stirs.setdefault(replica, asyncio.Event())
        left = when - asyncio.get_running_loop().time()
        with suppress(TimeoutError):
            await asyncio.wait_for(stirred.wait(), max(left, 0.0))

    async def cancel(self, replica, ids):
        self.cancelled.append((replica, list(ids)))
        await asyncio.sleep(self.cancel_s)
        if replica in self.dead:
            raise ReplicaLost(replica)
        waiting = {(replica, ident) for ident in ids if ident in self.queued} & self.lines.keys()
        if waiting:
            self.lines.update(dict.fromkeys(waiting, True))
            self._stir(replica)

    def answer(self, replica, t):
        if replica in self.broken:
            return Refusal(t.id, "not_ready", "no", replica)
        if replica in self.refuse:
            return Refusal(t.id, self.refuse[replica], "no", replica)
        return Result(t.id, np.zeros(1, np.float32), Timing(0, 0, 0), {}, replica, 1)


@dataclass
class Gateways:
    """Every gateway hears every other, itself included, a little later; `broken` ones answer nothing."""

    members: list[Dispatcher] = field(default_factory=list)
    broken: set[Dispatcher] = field(default_factory=set)
    lag: float = 0.002  # seconds from what is said to what is heard
    told: list[object] = field(default_factory=list)
    claims: list[object] = field(default_factory=list)

    @property
    def hearing(self) -> list[Dispatcher]:
        return [member for member in self.members if member not in self.broken]

    async def claim(self, claim):
        self.claims.append(claim)
        await asyncio.sleep(self.lag)
        return frozenset().union(*await asyncio.gather(*(member.consent(claim) for member in self.hearing)))

    async def tell(self, news):
        self.told.append(news)
        await asyncio.sleep(self.lag)
        return [member.hear(news) for member in self.hearing]


def dispatcher(engines, *replicas, metrics=None, max_flights=1000, gateways=None, name="gateway"):
    """A gateway that believes these replicas alive."""
    peers = gateways or Gateways()
    made = Dispatcher(engines, peers, metrics or GatewayMetrics(), name=name, max_flights=max_flights)
    peers.members.append(made)
    made.observe({replica: holding(replica) for replica in replicas})
    return made


def row(ident: str, number: int):
    """A row whose content is a number; the rows of `rows` are all the same."""
    return replace(ticket("x", ident=ident), input_ids=np.array([number, 2], np.int32))


def mark(number: int) -> str:
    return fingerprint(row("any", number))


def see(made, replicas: str) -> None:
    made.observe({replica: holding(replica) for replica in replicas})


def codes(replies) -> set[str]:
    return {getattr(reply, "code", "right") for reply in replies}


async def replies_of(tasks) -> list:
    return [reply for replies in await asyncio.gather(*tasks) for reply in replies]
