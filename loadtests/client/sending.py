"""Keep to the times: every request leaves at its own, whatever became of the ones before it.

Waits are counted from the time at which a request should have left, so that neither a stalled service nor a stalled client
hides anything (no coordinated omission). A ticker beside it measures how long the loop is busy elsewhere, which is how late
an answer may have been read.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from loadtests.client.connection import Pool
from loadtests.client.judging import RAW, Judged, judge
from loadtests.client.plan import FAILED, LATE, RIGHT, Lag, Plan, Sample

TICK_S = 0.01
AT_ONCE = 128  # requests that leave, where they are late, before an answer is read
BACK_OFF_S = 0.05  # of a closed loop, after a refusal
GRACE_S = 5.0  # beyond the deadline that the service is told


class Sender:
    """Sends one plan, and remembers what came of it."""

    def __init__(
        self,
        plan: Plan,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.samples: list[Sample] = []
        self.ticks: list[float] = []  # seconds that the loop came late to a tick
        self.pool = Pool(plan.place, plan.most)
        self._plan = plan
        self._clock = clock
        self._sleep = sleep
        self._start = 0.0
        self._patience = plan.timeout_ms / 1000 + GRACE_S
        self._quoted = [json.dumps(text) for text in plan.texts]
        self._next = 0

    async def send(self, start: float) -> None:
        """The whole plan, from `start` (of the clock) on; ends with the last answer."""
        self._start = start
        ticking = asyncio.create_task(self._tick())
        try:
            await (self._closed() if self._plan.closed else self._open())
        finally:
            ticking.cancel()
            self.pool.close()

    def lag(self) -> Lag:
        """How well it kept up; in a closed loop nothing is ever due."""
        late = _percentiles([sample.sent - sample.intended for sample in self.samples])
        loop = _percentiles(self.ticks)
        return Lag(*late, *loop, self.pool.opened, self.pool.again)

    async def _open(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number, (due, known, texts) in enumerate(self._plan.requests):
                ahead = self._start + due - self._clock()
                # All that is due leaves at once, but between them answers have to be read.
                if ahead > 0 or number % AT_ONCE == 0:
                    await self._sleep(max(0.0, ahead))
                group.create_task(self._ask(known, texts, due))

    async def _closed(self) -> None:
        await asyncio.gather(*(self._keep() for _ in range(self._plan.closed)))

    async def _keep(self) -> None:
        await asyncio.sleep(max(0.0, self._start - self._clock()))
        while (now := self._clock() - self._start) < self._plan.seconds:
            _, known, texts = self._plan.requests[self._next % len(self._plan.requests)]
            self._next += 1
            if (await self._ask(known, texts, now)).verdict != RIGHT:
                await asyncio.sleep(BACK_OFF_S)

    async def _ask(self, number: int, texts: Sequence[int], due: float) -> Sample:
        plan, known = self._plan, self._plan.known[number]
        tenant = plan.tenants[known.tenant]
        raw = plan.place.request("POST", "/v1/predict", tenant.key, self._body(number, texts))
        sent, status = self._clock(), 0
        try:
            answer = await self.pool.ask(raw, self._patience)
            done, status = self._clock(), answer.status
            judged = judge(answer, known, texts, plan.tolerance)
        except TimeoutError:
            done, judged = self._clock(), Judged(LATE, "no answer in time")
        except OSError as error:
            done, judged = self._clock(), Judged(FAILED, f"{type(error).__name__}: {error}"[:200])
        sample = Sample(
            due,
            sent - self._start,
            done - self._start,
            status,
            judged.verdict,
            judged.detail,
            tenant.name,
            known.name,
            judged.tiers,
            len(texts),
            judged.tokens,
            judged.queue_ms,
            judged.load_ms,
            judged.forward_ms,
        )
        self.samples.append(sample)
        return sample

    def _body(self, number: int, texts: Sequence[int]) -> bytes:
        known = self._plan.known[number]
        inputs = ",".join(self._quoted[known.texts[text]] for text in texts)
        asked = json.dumps({"adapters": [f"{known.name}@{known.digest}"], "parameters": RAW})
        return f'{{"inputs":[{inputs}],"timeout_ms":{self._plan.timeout_ms},{asked[1:]}'.encode()

    async def _tick(self) -> None:
        due = max(self._clock(), self._start)
        for _ in itertools.count():
            due += TICK_S
            await asyncio.sleep(max(0.0, due - self._clock()))
            booked = lates(self._clock() - due)
            self.ticks += booked
            due += TICK_S * (len(booked) - 1)


def lates(late_s: float) -> list[float]:
    """How late each tick is where the first of them is so late: all that fell due meanwhile, so that a stall weighs what it lasts."""
    missed = int(max(0.0, late_s) / TICK_S)
    return [max(0.0, late_s - number * TICK_S) for number in range(missed + 1)]


def _percentiles(seconds: Sequence[float]) -> tuple[float, float]:
    """The 99th percentile and the most, in milliseconds."""
    return (1e3 * float(np.percentile(seconds, 99)), 1e3 * max(seconds)) if seconds else (0.0, 0.0)
