"""A steady stream of requests, each at its own time whatever became of the ones before, and what came of each."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

Ask = Callable[[int], Awaitable[str]]  # the number of a request to what was wrong with its answer, "" for nothing


@dataclass(frozen=True)
class Sample:
    """One request: when it was due (seconds, monotonic), how long it took from then on, and what was wrong."""

    due: float
    seconds: float
    fault: str

    @property
    def done(self) -> float:
        """When it was answered."""
        return self.due + self.seconds


class Steady:
    """Asks at a rate from `start` on until `stop`; belongs to one event loop."""

    def __init__(self, ask: Ask, rate: float) -> None:
        self.samples: list[Sample] = []
        self._ask = ask
        self._rate = rate
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ask no more, and wait for every answer; raises what `ask` raised."""
        self._over.set()
        if self._task is not None:
            await self._task

    def between(self, began: float, ended: float) -> list[Sample]:
        """What was due between two times."""
        return [sample for sample in self.samples if began <= sample.due < ended]

    def during(self, began: float, ended: float) -> list[Sample]:
        """What was under way at any time between two others; whole only after `stop`."""
        return [sample for sample in self.samples if sample.due < ended and began <= sample.done]

    async def _run(self) -> None:
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            number = 0
            while not self._over.is_set():
                due = start + number / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self._one(number, due))
                number += 1

    async def _one(self, number: int, due: float) -> None:
        fault = await self._ask(number)
        self.samples.append(Sample(due, time.monotonic() - due, fault))


def faults(samples: Iterable[Sample]) -> Counter[str]:
    """What was wrong, and how often."""
    return Counter(sample.fault for sample in samples if sample.fault)
