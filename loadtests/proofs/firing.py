"""Runs a `volley` beside a stage, and tells what each of them took of the machine."""

import asyncio
import json
import os
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.proofs.evidence import spread
from loadtests.proofs.stage import ROOT, Stage, StageFailed
from loadtests.proofs.volley import Plan, Shot
from loadtests.results.environment import cpu_seconds

LEAD_S = 0.3  # from the word to the first shot
LINE = 1 << 28  # bytes of an answer


@dataclass(frozen=True)
class Volley:
    """What came of a plan; shares of a core that the client and the service took, from the first shot to the last answer."""

    shots: tuple[Shot, ...]
    start: float  # monotonic seconds
    seconds: float
    client_cores: float
    service_cores: float

    def of(self, *questions: int) -> list[Shot]:
        """The shots of some questions."""
        return [shot for shot in self.shots if shot.question in questions]

    def told(self) -> dict[str, Any]:
        """For the reader."""
        return {
            "shots": len(self.shots),
            "seconds": self.seconds,
            "client cores": self.client_cores,
            "service cores": self.service_cores,
            "client late, seconds": spread([shot.sent - shot.due for shot in self.shots]),
            "faults": dict(Counter(shot.fault for shot in self.shots if shot.fault)),
        }


async def fire(stage: Stage, plan: Plan) -> Volley:
    """Run a plan to its end; raises `StageFailed` where the client died."""
    words = [sys.executable, "-m", "loadtests.proofs.volley"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    client = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, env=environment, stdin=PIPE, stdout=PIPE, limit=LINE
    )
    try:
        return await _fired(client, stage, plan)
    finally:
        if client.returncode is None:
            client.kill()
        await client.wait()


async def _fired(client: Process, stage: Stage, plan: Plan) -> Volley:
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(json.dumps(asdict(plan)).encode() + b"\n")
    if await client.stdout.readline() != b"ready\n":
        raise StageFailed("the client did not start")
    start, pids = time.monotonic() + LEAD_S, stage.pids()
    before = cpu_seconds(pids)
    client.stdin.write(f"{start}\n".encode())
    line = await client.stdout.readline()
    used = cpu_seconds(pids) - before
    if not line:
        raise StageFailed("the client died")
    told = json.loads(line)
    shots = tuple(Shot(*fields) for fields in told["shots"])
    seconds = max((shot.done for shot in shots), default=start) - start
    return Volley(shots, start, seconds, told["cpu_s"] / seconds, used / seconds)


def evenly(rate: float, seconds: float, questions: Sequence[int]) -> list[tuple[float, int]]:
    """Shots at a steady rate, the questions in turn."""
    return [(number / rate, questions[number % len(questions)]) for number in range(int(rate * seconds))]


def randomly(rate: float, seconds: float, questions: Sequence[int], dice: random.Random) -> list[tuple[float, int]]:
    """Shots of a Poisson process, the questions in turn."""
    at, made = dice.expovariate(rate), list[tuple[float, int]]()
    while at < seconds:
        made.append((at, questions[len(made) % len(questions)]))
        at += dice.expovariate(rate)
    return made
