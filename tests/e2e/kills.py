"""Engines killed under load: what clients saw, and how long they waited, apart for quiet times and for losses."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx2

RECOVERED_S = 120.0  # a new engine loads its backbone on a loaded machine


@dataclass
class Seen:
    """Outcomes of requests ("right", or what went wrong), and seconds until they came."""

    outcomes: Counter[str] = field(default_factory=Counter)
    quiet: list[float] = field(default_factory=list)  # while all engines lived
    troubled: list[float] = field(default_factory=list)  # from a kill until there are as many as before

    @property
    def failed(self) -> dict[str, int]:
        return {outcome: number for outcome, number in self.outcomes.items() if outcome != "right"}


async def kill_engines(
    url: str,
    bodies: Sequence[dict[str, Any]],
    engines: Callable[[], Sequence[int]],
    recovered: Callable[[], bool],
    *,
    kills: int,
    rate: float,
    between: int,
) -> Seen:
    """`kill -9` one engine after another, each after `between` more answers and once the last loss is made good.

    `bodies` are asked in turn, `rate` a second, however long answers take; `engines` tells the process ids, `recovered`
    whether all engines answer. An answer is right if it is a 200 for the adapters that were asked for.
    """
    seen, over, troubled = Seen(), asyncio.Event(), asyncio.Event()

    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=httpx2.Limits(max_connections=256)) as client:

        async def ask(body: dict[str, Any]) -> None:
            begun = time.monotonic()
            outcome = await _outcome(client, body)
            seen.outcomes[outcome] += 1
            (seen.troubled if troubled.is_set() else seen.quiet).append(time.monotonic() - begun)

        async def load() -> None:
            begun, asked = time.monotonic(), []
            for number in count():
                if over.is_set():
                    break
                asked.append(asyncio.create_task(ask(bodies[number % len(bodies)])))
                await asyncio.sleep(max(0.0, begun + (number + 1) / rate - time.monotonic()))
            await asyncio.gather(*asked)

        loading = asyncio.create_task(load())
        for number in range(kills):
            await _more(seen, between)
            troubled.set()
            pids = engines()
            os.kill(pids[number % len(pids)], signal.SIGKILL)
            await _more(seen, between)
            await _until(recovered)
            troubled.clear()
        await _more(seen, between)
        over.set()
        await loading
    return seen


async def _outcome(client: httpx2.AsyncClient, body: dict[str, Any]) -> str:
    try:
        answer = await client.post("/v1/predict", json=body)
    except httpx2.HTTPError as error:
        return repr(error)
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text}"
    named = [adapter["name"] for adapter in answer.json()["target"]["adapters"]]
    asked = body["adapters"] if isinstance(body["adapters"], list) else [body["adapters"]]
    return "right" if named == asked else f"{named} instead of {asked}"


async def _more(seen: Seen, answers: int) -> None:
    before = seen.outcomes.total()
    await _until(lambda: seen.outcomes.total() >= before + answers)


async def _until(event: Callable[[], bool]) -> None:
    deadline = time.monotonic() + RECOVERED_S
    while not await asyncio.to_thread(event):
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.05)
