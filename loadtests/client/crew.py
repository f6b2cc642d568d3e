"""The processes of one step: start them, give the word, follow them, and take home what they found."""

import asyncio
import json
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from loadtests.client.plan import Lag, Plan, Published, Publishes, Sample

LEAD_S = 0.5  # from the word to the first request
LINE = 1 << 26  # bytes
ROOT = Path(__file__).resolve().parents[2]
T = TypeVar("T")


class CrewFailed(Exception):
    """A client process died; the message holds the end of what it said."""


@dataclass(frozen=True)
class Sent:
    """What came of one step: all samples and publishes, the processes' lags, and the start by the machine's clock."""

    start: float  # monotonic seconds
    samples: tuple[Sample, ...]
    published: tuple[Published, ...]
    lags: tuple[Lag, ...]


def split(plan: Plan, processes: int, folder: Path) -> tuple[Plan, ...]:
    """The plan of each process: every n-th request of n processes, and its part of a closed loop."""
    parts = []
    for number in range(min(processes, plan.closed or processes)):
        closed = len(range(number, plan.closed, processes))
        requests = plan.requests[number::processes]
        parts.append(replace(plan, requests=requests, closed=closed, written=str(folder / f"samples-{number}.jsonl")))
    return tuple(part for part in parts if part.requests)


async def send(
    plans: Sequence[Plan],
    publishes: Publishes | None,
    heard: Callable[[Counter[str]], None],
    begun: Callable[[float, Sequence[int]], None],
) -> Sent:
    """Run the plans to their end, all from the same time on.

    `begun` is told that time and the process ids, `heard` gets the verdicts so far. Raises `CrewFailed`.
    """
    crew = [await _start("process") for _ in plans]
    publisher = None if publishes is None else await _start("publisher")
    every = [*crew, *([] if publisher is None else [publisher])]
    try:
        plans_told = [json.dumps(asdict(plan)) for plan in plans]
        told = [*plans_told, *([] if publishes is None else [json.dumps(asdict(publishes))])]
        await asyncio.gather(*(_prepare(process, text) for process, text in zip(every, told, strict=True)))
        start = time.monotonic() + LEAD_S
        begun(start, [process.pid for process in every])
        for process in every:
            assert process.stdin is not None
            process.stdin.write(f"{start}\n".encode())
        so_far = [Counter[str]() for _ in every]

        def hear(number: int, done: Counter[str]) -> None:
            so_far[number] = done
            heard(sum(so_far, Counter()))

        lags = await asyncio.gather(*(_follow(process, number, hear) for number, process in enumerate(every)))
    finally:
        for process in every:
            if process.returncode is None:
                process.kill()
            await process.wait()
    return Sent(
        start,
        tuple(sorted((sample for plan in plans for sample in read(Path(plan.written), Sample)), key=_when)),
        () if publishes is None else tuple(read(Path(publishes.written), Published)),
        tuple(lag for lag in lags if lag is not None),
    )


def read(path: Path, kind: type[T]) -> list[T]:
    """The values of a file that `loadtests.client.process.write` wrote."""
    adapter = TypeAdapter(kind)
    with path.open() as file:
        return [adapter.validate_json(line) for line in file]


async def _start(module: str) -> Process:
    words = [sys.executable, "-m", f"loadtests.client.{module}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, env=environment, stdin=PIPE, stdout=PIPE, limit=LINE, start_new_session=True
    )


async def _prepare(process: Process, plan: str) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{plan}\n".encode())
    await process.stdin.drain()
    if await process.stdout.readline() != b"ready\n":
        raise CrewFailed("a client process did not start: what it said is above")


async def _follow(process: Process, number: int, hear: Callable[[int, Counter[str]], None]) -> Lag | None:
    """Listen until the process ends; its lag, if it has one."""
    assert process.stdout is not None
    lag = None
    while line := await process.stdout.readline():
        told = json.loads(line)
        if "done" in told:
            hear(number, Counter(told["done"]))
        if "lag" in told:
            lag = TypeAdapter(Lag).validate_python(told["lag"])
    if await process.wait():
        raise CrewFailed(f"a client process ended with {process.returncode}: what it said is above")
    return lag


def _when(sample: Sample) -> float:
    return sample.intended
