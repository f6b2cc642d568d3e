"""`kill -9` of engine replicas under load: nobody's request fails, and nobody waits much longer.

Two engines answer at half of what they can. One after another is killed, each once the last loss is made good; clients
are asked for nothing: they never retry. Waits are compared within the run: those of quiet times with those from a kill
until there are as many engines as before.
"""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.calls import predict, publish
from loadtests.proofs.evidence import Evidence, Figure, percentile, spread
from loadtests.proofs.fingerprints import METHODS, Book, Forge, Identity
from loadtests.proofs.given import Given
from loadtests.proofs.judging import fault_of
from loadtests.proofs.stage import Stage, StageFailed, staged
from loadtests.proofs.steady import Ask, Sample, Steady, faults

KILLS = (10, 2)  # the whole run, a quick one
ENGINES = 2
ADAPTERS = 12
UNDER_WAY = 16  # requests that find out what the service can do
FIND_S = 6.0
LOAD = 0.5  # of that
QUIET_S = (6.0, 3.0)  # before the first kill, and between two of them
RECOVERY_S = 180.0  # of one loss, on a busy machine
LOOK_S = 0.5  # seldom: looking takes some of the two cores from the service
SLOWER = 3.0


@dataclass
class Seen:
    """Times are monotonic seconds."""

    rate: float = 0.0
    steady: Steady | None = None
    kills: list[tuple[float, float]] = field(default_factory=list)  # when, and when there were as many as before
    victims: set[int] = field(default_factory=set)


def run(given: Given) -> Evidence:
    """Find half of what the service can, and kill."""
    backbone = tiny(given.folder / "backbone", given.seed)
    forge, book, data = Forge(backbone, TEXTS, given.seed), Book(), {}
    for number in range(ADAPTERS):
        name = f"kept-{number}"
        made = forge.make(name, METHODS[number % len(METHODS)])
        book.enter(Identity("", name, 1), made.logits)
        data[name] = made.data
    with staged(Stage(backbone, given.folder / "data", engines=ENGINES)) as stage:
        seen = asyncio.run(_killed(given, stage, data, book))
        exit_code = stage.stop()
    return _evidence(given, seen, exit_code)


async def _killed(given: Given, stage: Stage, data: dict[str, bytes], book: Book) -> Seen:
    seen, names, dice = Seen(), list(data), random.Random(given.seed)
    async with stage.session() as session:
        for name, package in data.items():
            await publish(session, name, package)

        async def ask(number: int) -> str:
            name = names[number % len(names)]
            told = await predict(session, name, TEXTS)
            return fault_of(told, (name, 1), book, Identity("", name, 1), range(len(TEXTS)))

        seen.rate = LOAD * await capacity(ask)
        seen.steady = steady = Steady(ask, seen.rate)
        steady.start()
        await asyncio.sleep(given.sized(*QUIET_S))
        for _ in range(given.sized(*KILLS)):
            victim = dice.choice(stage.pids("Engine"))
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            seen.victims.add(victim)
            await _until(partial(_recovered, stage, victim))
            seen.kills.append((killed, time.monotonic()))
            await asyncio.sleep(given.sized(*QUIET_S))
        await steady.stop()
    return seen


async def capacity(ask: Ask) -> float:
    """Requests per second with many under way; raises `StageFailed` where one fails."""
    end, done = time.monotonic() + FIND_S, 0

    async def keep(number: int) -> None:
        nonlocal done
        while time.monotonic() < end:
            if fault := await ask(number + done):
                raise StageFailed(f"a request failed before anything was killed: {fault}")
            done += 1

    await asyncio.gather(*(keep(number) for number in range(UNDER_WAY)))
    return done / FIND_S


def _recovered(stage: Stage, victim: int) -> bool:
    return victim not in stage.pids("Engine") and stage.complete()


async def _until(event: Callable[[], bool]) -> None:
    deadline = time.monotonic() + RECOVERY_S
    while not await asyncio.to_thread(event):
        if time.monotonic() > deadline:
            raise StageFailed("a killed engine was not replaced")
        await asyncio.sleep(LOOK_S)


def within(sample: Sample, times: Sequence[tuple[float, float]]) -> bool:
    """Whether any part of a request fell between a kill and the recovery."""
    return any(began <= sample.due + sample.seconds and sample.due < ended for began, ended in times)


def _evidence(given: Given, seen: Seen, exit_code: int) -> Evidence:
    assert seen.steady is not None
    samples = seen.steady.samples
    troubled = [sample.seconds for sample in samples if within(sample, seen.kills)]
    quiet = [sample.seconds for sample in samples if not within(sample, seen.kills)]
    slower = percentile(troubled, 0.99) / percentile(quiet, 0.99)
    figures = (
        Figure("engines killed", len(seen.victims), "=", given.sized(*KILLS), "processes"),
        Figure("failed or wrong answers", faults(samples).total(), "=", 0, "answers"),
        Figure("p99 from a kill to recovery over quiet p99", slower, "<=", SLOWER, "ratio"),
        Figure("answers while an engine was lost", len(troubled), ">=", 20 * len(seen.victims), "answers"),
        Figure("exit code of the stop", exit_code, "=", 0, "code"),
    )
    told = {
        "engines": ENGINES,
        "requests per second": seen.rate,
        "share of what the service can": LOAD,
        "faults": dict(faults(samples)),
        "quiet, seconds": spread(quiet),
        "before the first kill, seconds": spread([s.seconds for s in samples if s.due + s.seconds < seen.kills[0][0]]),
        "from a kill to recovery, seconds": spread(troubled),
        "recovery, seconds": spread([ended - began for began, ended in seen.kills]),
        "machine's load": os.getloadavg(),
    }
    return Evidence("engine-kills", given.seed, figures, told)
