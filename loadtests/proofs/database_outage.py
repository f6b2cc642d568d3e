"""The database stops, and hangs: what is known is served on, and writes say so at once and come back by themselves.

The service has keys, which are in the same database: known ones are good all the while, and unknown ones never.
"""

import asyncio
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp

import aiohttp

from loadtests.proofs.backbones import TEXTS
from loadtests.proofs.callers import TENANT_SCOPES, make_keys
from loadtests.proofs.calls import Told, call, predict, publish
from loadtests.proofs.evidence import Figure, spread
from loadtests.proofs.fingerprints import Forge
from loadtests.proofs.known import Known
from loadtests.proofs.postgres import Postgres
from loadtests.proofs.publishing_process import TENANT
from loadtests.proofs.stage import Stage, staged
from loadtests.proofs.steady import Sample, Steady, faults

NAMES = 12
RATE = 10.0  # predictions per second
WRITE_S = 1.0  # between two tries to write
RECOVERY_S = 5.0
LOOK_S = 0.05
MARGIN_S = 1.0  # of predictions before the first outage and after the last
STRANGER = {"Authorization": f"Bearer ck_{'0' * 12}_{'0' * 43}"}  # a key of good form that nobody was given


@dataclass(frozen=True)
class Size:
    """Seconds without an answer of the database: stopped, and hanging."""

    stopped_s: float
    stalled_s: float


WHOLE, QUICK = Size(60.0, 20.0), Size(6.0, 6.0)


@dataclass
class Found:
    """What was seen while the database was away, and afterwards."""

    samples: list[Sample] = field(default_factory=list)  # predictions of known names that it was away for, or a part
    writes: Counter[str] = field(default_factory=Counter)  # what they were answered
    write_seconds: list[float] = field(default_factory=list)
    not_told_when: int = 0  # refusals without `Retry-After`
    strangers: Counter[str] = field(default_factory=Counter)  # what a key that is none was answered
    unknown: Counter[str] = field(default_factory=Counter)  # a name that nobody published
    recovery_s: float = float("nan")


async def run(stage: Stage, server: Postgres, forge: Forge, size: Size) -> tuple[Found, Found]:
    """Stop the database, and let it hang; every prediction is decoded."""
    async with stage.session() as session:
        known = Known(forge, session, seed=0)
        names = [f"known/{number}" for number in range(NAMES)]
        await known.add(names)
        steady = Steady(lambda number: known.ask(names[number % NAMES]), RATE)
        steady.start()
        await asyncio.sleep(MARGIN_S)
        stopped, stalled = Found(), Found()
        began = time.monotonic()
        await asyncio.to_thread(server.stop)
        await _write(session, known, stopped, time.monotonic() + size.stopped_s, "stopped")
        await asyncio.to_thread(server.start)
        await _recover(session, known, stopped, "stopped")
        between = time.monotonic()
        with server.stalled():
            await _write(session, known, stalled, time.monotonic() + size.stalled_s, "stalled")
        await _recover(session, known, stalled, "stalled")
        ended = time.monotonic()
        await asyncio.sleep(MARGIN_S)
        await steady.stop()
        stopped.samples, stalled.samples = steady.during(began, between), steady.during(between, ended)
    return stopped, stalled


def stage_and_run(backbone: Path, data: Path, forge: Forge, size: Size) -> tuple[Found, Found]:
    """On a server and a service of its own."""
    with closing(_Server()) as held:
        url = held.server.create("registry")
        key = make_keys(data, {TENANT: TENANT_SCOPES}, url)[TENANT]
        stage = Stage(backbone, data, engines=1, gateways=2, options=("--database-url", url), key=key)
        with staged(stage):
            found = asyncio.run(run(stage, held.server, forge, size))
            stage.stop()
    return found


def figures(size: Size, stopped: Found, stalled: Found) -> tuple[Figure, ...]:
    """What both outages have to keep."""
    made = []
    for how, found, seconds in (("stopped", stopped, size.stopped_s), ("hanging", stalled, size.stalled_s)):
        refused = found.writes["503 registry_unavailable"]
        made += [
            Figure(f"predictions failed, database {how}", faults(found.samples).total(), "=", 0, "requests"),
            Figure(f"predictions asked, database {how}", len(found.samples), ">=", 0.8 * RATE * seconds, "requests"),
            Figure(f"writes not answered 503, database {how}", found.writes.total() - refused, "=", 0, "requests"),
            Figure(f"writes refused, database {how}", refused, ">=", 1, "requests"),
            Figure(f"refusals without Retry-After, database {how}", found.not_told_when, "=", 0, "requests"),
            Figure(f"keys that are none not refused, database {how}", let_in(found), "=", 0, "requests"),
            Figure(f"keys that are none tried, database {how}", found.strangers.total(), ">=", 1, "requests"),
            Figure(f"recovery after the database was {how}", found.recovery_s, "<=", RECOVERY_S, "s"),
        ]
    return tuple(made)


def let_in(found: Found) -> int:
    """Callers without a good key who were not told that they have none, or that nobody can say so now."""
    return sum(count for told, count in found.strangers.items() if told[:3] not in ("401", "503"))


def seen(found: Found) -> dict[str, object]:
    """The rest, for the reader."""
    return {
        "predictions, seconds": spread([sample.seconds for sample in found.samples]),
        "failed": dict(faults(found.samples)),
        "writes": dict(found.writes),
        "writes, seconds": spread(found.write_seconds),
        "a key that nobody was given": dict(found.strangers),
        "a name that nobody published": dict(found.unknown),
    }


async def _write(session: aiohttp.ClientSession, known: Known, found: Found, until: float, mark: str) -> None:
    """Publishes and promotes while the database is away."""
    number = 0
    made = known.make(f"away/{mark}")
    while time.monotonic() < until:
        if number % 2:
            told = await call(session, "PUT", "/v1/adapters/known/0/aliases/prod", body={"version": 1})
        else:
            told = await publish(session, f"away/{mark}", made.data)
        _count(told, found)
        asked = await predict(session, "nobody/knows", TEXTS[:1])
        found.unknown[asked.why] += 1
        stranger = await call(session, "GET", "/v1/adapters/known/0", headers=STRANGER)
        found.strangers[stranger.why] += 1
        number += 1
        await asyncio.sleep(WRITE_S)


async def _recover(session: aiohttp.ClientSession, known: Known, found: Found, mark: str) -> None:
    """How long it takes until a publish succeeds and is answered from."""
    name, began = f"away/{mark}", time.monotonic()
    while time.monotonic() - began < 10 * RECOVERY_S:
        told = await publish(session, name, known.made[name].data)
        if told.ok and not await known.ask(name):
            found.recovery_s = time.monotonic() - began
            return
        await asyncio.sleep(LOOK_S)


def _count(told: Told, found: Found) -> None:
    found.writes[told.why] += 1
    found.write_seconds.append(told.seconds)
    found.not_told_when += told.status == 503 and "Retry-After" not in told.headers


class _Server:
    def __init__(self) -> None:
        self._folder = Path(mkdtemp(prefix="pg-"))  # short: the path of a Unix socket ends at 107 characters
        self._folder.chmod(0o711)
        self.server = Postgres(self._folder / "s")

    def close(self) -> None:
        self.server.remove()
        self._folder.rmdir()
