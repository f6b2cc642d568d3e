"""Send a trace open loop: every request leaves at its own time, whether or not earlier ones have been answered.

Latency counts from the time at which a request was due, so that a stalled sender can not hide a stalled service.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from loadtests.trace import Trace

RIGHT, WRONG, ERROR = "right", "wrong", "error"


@dataclass(frozen=True)
class Outcome:
    """What came of one request. `tier` is "hit" or "miss" where an answer came; `status` 0 where no HTTP answer came."""

    verdict: str
    status: int
    tier: str | None
    detail: str = ""


@dataclass(frozen=True)
class Sample:
    """One request: seconds after the start at which it was due, sent and done."""

    index: int
    adapter: int
    due: float
    sent: float
    done: float
    outcome: Outcome

    @property
    def latency(self) -> float:
        """Seconds from due to done."""
        return self.done - self.due


async def drive(
    trace: Trace,
    send: Callable[[int], Awaitable[Outcome]],
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> tuple[Sample, ...]:
    """Send every request of the trace at its time and wait for the last answer; `send` gets the request's number."""
    start = clock()

    async def one(index: int, due: float) -> Sample:
        sent = clock() - start
        outcome = await send(index)
        return Sample(index, int(trace.adapter[index]), due, sent, clock() - start, outcome)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for index in range(len(trace)):
            due = float(trace.at[index])
            ahead = due - (clock() - start)
            await sleep(max(ahead, 0.0))  # also when late: the event loop must read answers
            tasks.append(group.create_task(one(index, due)))
    return tuple(task.result() for task in tasks)
