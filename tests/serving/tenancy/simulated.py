"""A service in virtual time: gateways with the real admission, engines with the real fair queue and a fixed rate.

Requests arrive by a schedule that waits for nobody (open loop), are tokenized by a worker of their gateway, wait in the
queue of the engine with the shorter line, and are answered with their step. Engines say once a second what waits, which
the gateways hear a little later, and they say a rate that leaves out what a step costs beside its rows.
"""

import asyncio
import random
from dataclasses import dataclass, field, replace

from serving.errors import Congested, DeadlineExceeded, Overloaded, ServiceError
from serving.registry.records import Quota
from serving.request import Holding, Refusal
from serving.scheduler.batcher import Budget
from serving.scheduler.queue import FairQueue
from serving.scheduler.waiting import Waiting
from serving.tenancy.admission import Admission, Scale, Size
from serving.tenancy.forecast import Work
from tests.serving.scheduler.machine import ticket
from tests.serving.tenancy.doors import result

LAYERS = 6
RATE = 6_000.0  # cost units per second of one engine
STEP_S = 0.01  # what a step costs beside its rows
BUDGET = Budget(rows=16, tokens=100, device_bytes=1 << 40)
TOKENIZE_S = 0.001
HEARD_AFTER_S = 0.08
TOKENS = (8, 32)


@dataclass
class Outcome:
    """One attempt: how it ended, and when."""

    tenant: str
    code: str  # "ok", or that of the refusal
    cost: float
    arrived: float
    ended: float
    retry_after: float | None = None


class Engine:
    """Steps while something waits; every ticket has a future."""

    def __init__(self, name: str, weights: dict[str, float]) -> None:
        self.name = name
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue(LAYERS, 2000, self._loop.time, weights)
        self._answers: dict[str, asyncio.Future] = {}
        self._came = asyncio.Event()
        self._rate = 0.0
        self.task = asyncio.create_task(self._run())

    @property
    def rows(self) -> int:
        return len(self._answers)

    def submit(self, row, deadline_s: float) -> asyncio.Future:
        now, future = self._loop.time(), self._loop.create_future()
        self._answers[row.id] = future
        try:
            displaced = self._queue.put(Waiting(row, (), lambda _: None, now, now + deadline_s))
        except Overloaded:
            self._answer(row.id, Refusal(row.id, "overloaded", "full", self.name))
        else:
            if displaced is not None:
                self._answer(displaced.ticket.id, Refusal(displaced.ticket.id, "overloaded", "full", self.name))
            self._came.set()
        return future

    def cancel(self, ids) -> None:
        for row in self._queue.remove(ids):
            self._answers.pop(row.ticket.id).cancel()

    def says(self) -> Holding:
        lines = tuple((line.tenant, float(line.cost)) for line in self._queue.told(64))
        return Holding(
            self.name,
            frozenset(),
            queued_cost=float(self._queue.cost),
            cost_per_s=self._rate,
            lines=lines,
            free_rows=2000 - len(self._queue),
        )

    async def _run(self) -> None:
        while self.task:
            for row in self._queue.expire():
                self._answer(row.ticket.id, Refusal(row.ticket.id, "deadline_exceeded", "late", self.name))
            picked = self._queue.take(BUDGET, lambda refs: {})
            if not picked:
                self._came.clear()
                await self._came.wait()
                continue
            cost = sum(LAYERS * row.waiting.tokens for row in picked)
            await asyncio.sleep(STEP_S + cost / RATE)
            self._rate = RATE
            for row in picked:
                done = result(queue_s=row.queue_s, forward_s=STEP_S + cost / RATE)
                self._answer(row.waiting.ticket.id, replace(done, ticket=row.waiting.ticket.id))

    def _answer(self, ticket_id: str, reply) -> None:
        future = self._answers.pop(ticket_id, None)
        if future is not None and not future.done():
            future.set_result(reply)


class Gateway:
    """Admission, a worker that tokenizes, and the shorter line."""

    def __init__(self, engines: list[Engine], quotas: dict[str, Quota], gateways: int, seed: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._engines = engines
        self._worker = asyncio.Semaphore(2)
        self.held: dict[str, Holding] = {}
        self.door = Admission(
            Scale(LAYERS, 512),
            quota=lambda tenant: quotas.get(tenant, Quota()),
            gateways=lambda: gateways,
            holdings=lambda: self.held,
            clock=self._loop.time,
            jitter=random.Random(seed).random,
        )
        self._count = 0

    async def predict(self, tenant: str, tokens: list[int], timeout_s: float) -> Outcome:
        """What became of a request whose rows have so many tokens."""
        arrived, cost = self._loop.time(), float(LAYERS * sum(tokens))
        outcome = Outcome(tenant, "ok", cost, arrived, arrived)
        try:
            size = Size(len(tokens), 4 * sum(tokens))
            with self.door.enter(tenant, size, timeout_s) as grant:
                async with asyncio.timeout(timeout_s):
                    async with self._worker:
                        await asyncio.sleep(TOKENIZE_S)
                    left_s = arrived + timeout_s - self._loop.time()
                    grant.pay(Work(cost, len(tokens)), left_s)
                    replies = await self._submit(tenant, tokens, left_s)
                    grant.settle([float(LAYERS * count) for count in tokens], replies)
            refused = [reply for reply in replies if isinstance(reply, Refusal)]
            outcome.code = refused[0].code if refused else "ok"
            outcome.retry_after = 1.0 if refused else None
        except TimeoutError:
            outcome.code = DeadlineExceeded.code
        except ServiceError as error:
            outcome.code, outcome.retry_after = error.code, error.retry_after
        outcome.ended = self._loop.time()
        return outcome

    async def _submit(self, tenant: str, tokens: list[int], left_s: float):
        sent: list[tuple[Engine, str, asyncio.Future]] = []
        for count in tokens:
            self._count += 1
            engine = min(self._engines, key=lambda e: e.rows)
            row = ticket(f"{id(self)}-{self._count}", tenant, tokens=count)
            sent.append((engine, row.id, engine.submit(row, left_s)))
        try:
            return await asyncio.gather(*(future for _, _, future in sent))
        finally:
            for engine, name, _ in sent:
                engine.cancel([name])


@dataclass
class Service:
    """Engines and gateways that run, and everything that became of the requests."""

    engines: int = 1
    gateways: int = 1
    quotas: dict[str, Quota] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    seed: int = 0

    async def __aenter__(self):
        weights = {tenant: quota.weight for tenant, quota in self.quotas.items()}
        self._engines = [Engine(f"e{i}", weights) for i in range(self.engines)]
        self._doors = [Gateway(self._engines, self.quotas, self.gateways, i) for i in range(self.gateways)]
        self._work = {asyncio.create_task(self._report())}
        self._random = random.Random(self.seed)
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_):
        tasks = [*self._work, *(engine.task for engine in self._engines)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for gateway in self._doors:
            gateway.door.check()

    async def flood(self, tenant, rate, seconds, *, timeouts=(0.5, 1.0, 2.0), rows=(1, 4), retries=0, retry_s=None):
        """Requests of `rate` cost units per second for so long, whatever becomes of them.

        A client tries again `retries` times: after `retry_s`, or when it was told to.
        """
        until = self._loop.time() + seconds
        mean = LAYERS * sum(rows) / 2 * sum(TOKENS) / 2
        while self._loop.time() < until:
            tokens = [self._random.randint(*TOKENS) for _ in range(self._random.randint(*rows))]
            client = self._client(tenant, tokens, self._random.choice(timeouts), retries, retry_s)
            task = asyncio.create_task(client)
            self._work.add(task)
            task.add_done_callback(self._work.discard)
            await asyncio.sleep(self._random.expovariate(rate / mean))

    def goodput(self, tenant, begin, end) -> float:
        """Cost units per second that were answered in time, between two moments."""
        done = [o for o in self.outcomes if o.tenant == tenant and o.code == "ok" and begin <= o.ended < end]
        return sum(outcome.cost for outcome in done) / (end - begin)

    @property
    def refused(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.code in (Congested.code, "rate_limited", "too_many_concurrent")]

    async def _client(self, tenant, tokens, timeout_s, retries, retry_s) -> None:
        for _ in range(retries + 1):
            outcome = await self._random.choice(self._doors).predict(tenant, tokens, timeout_s)
            self.outcomes.append(outcome)
            if outcome.code == "ok":
                return
            await asyncio.sleep(retry_s if retry_s is not None else outcome.retry_after or 0.0)

    async def _report(self) -> None:
        while self._engines:
            said = {engine.name: engine.says() for engine in self._engines}
            await asyncio.sleep(HEARD_AFTER_S)
            for gateway in self._doors:
                gateway.held = said
            await asyncio.sleep(1.0 - HEARD_AFTER_S)
