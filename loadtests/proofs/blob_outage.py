"""The blob store stalls, and its bytes rot: residents do not notice, the rest is refused, and nothing rotten is served.

Once with an S3 server behind a proxy that holds back or damages what it passes on, found by a service with empty disks;
once with the files of a data folder, flipped, cut short and removed. How long residents take is compared with as long a
time just before, in which others ask as much of what is sound as they do of what is damaged afterwards.
"""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.proofs.evidence import Figure, percentile, spread
from loadtests.proofs.fingerprints import Forge
from loadtests.proofs.judging import is_wrong
from loadtests.proofs.known import Known
from loadtests.proofs.object_store import ObjectStore
from loadtests.proofs.stage import Stage, staged
from loadtests.proofs.steady import Sample, Steady, faults
from serving.registry.blobs.local import LocalBlobs

RESIDENTS, COLD = 6, 12
RATE = 30.0  # predictions per second, of residents
HEALED_S = 30.0
SLOWER = 1.5
LOOK_S = 0.2


@dataclass(frozen=True)
class Size:
    """Seconds for which the store stalls, and for which its bytes are damaged."""

    stalled_s: float
    rotten_s: float


WHOLE, QUICK = Size(30.0, 20.0), Size(8.0, 8.0)


@dataclass
class Found:
    """What was seen of one store."""

    quiet: list[Sample] = field(default_factory=list)  # residents, before anything was wrong with it
    beside: Counter[str] = field(default_factory=Counter)  # answers and packages that others got meanwhile
    residents: list[Sample] = field(default_factory=list)  # while something was
    cold: Counter[str] = field(default_factory=Counter)  # answers and packages of what was not resident; "" is right
    writes: Counter[str] = field(default_factory=Counter)
    healed_s: float = float("nan")  # until everything answered as before
    damaged: int = 0  # pieces on their way, or files

    @property
    def corrupt(self) -> int:
        """Answers and packages that came, and were not right."""
        told = (*self.beside.items(), *self.cold.items(), *faults(self.residents).items())
        return sum(count for fault, count in told if is_wrong(fault))

    @property
    def slower(self) -> float:
        """The 99th percentile of residents while something was wrong over that of the time before."""
        quiet, troubled = ([sample.seconds for sample in samples] for samples in (self.quiet, self.residents))
        return percentile(troubled, 0.99) / percentile(quiet, 0.99)


class Residents:
    """Asks for residents all the while, and sorts what came of it by the times in which something was wrong."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._steady = Steady(lambda number: known.ask(f"resident/{number % RESIDENTS}"), RATE)
        self._times: list[tuple[Found, float, float, float]] = []
        self._steady.start()

    @asynccontextmanager
    async def troubled(self, found: Found, seconds: float, beside: Sequence[str] = ()) -> AsyncIterator[float]:
        """Let so long be quiet, then trouble begins; its end is that of the context. Gives the time when it may end.

        `beside` is asked for in the quiet time, in turn.
        """
        quiet = time.monotonic()
        found.beside = await _ask_on(self._known, beside, quiet + seconds)
        began = time.monotonic()
        yield began + seconds
        self._times.append((found, quiet, began, time.monotonic()))

    async def stop(self) -> None:
        """Once every answer is there: a request belongs to a time of trouble that saw any part of it."""
        await self._steady.stop()
        for found, quiet, began, ended in self._times:
            found.quiet = [sample for sample in self._steady.between(quiet, began) if sample.done < began]
            found.residents = self._steady.during(began, ended)


def remote(backbone: Path, data: Path, forge: Forge, size: Size) -> tuple[Found, Found]:
    """An S3 server that stalls; then one whose answers are damaged on their way."""
    with closing(ObjectStore()) as store:
        stage = Stage(backbone, data, options=("--blob-url", store.url), environment=store.environment)
        with staged(stage):
            asyncio.run(_fill(stage, forge))
            stage.stop()
        shutil.rmtree(data / "blobs")  # another node, that has brought nothing yet
        shutil.rmtree(data / "cache")
        with staged(stage):
            found = asyncio.run(_remote(stage, store, forge, size))
            stage.stop()
    return found


def local(backbone: Path, data: Path, forge: Forge, size: Size) -> Found:
    """The files of a data folder rot while they are served."""
    stage = Stage(backbone, data)
    with staged(stage):
        found = asyncio.run(_local(stage, data, forge, size))
        stage.stop()
    return found


def figures(size: Size, stalled: Found, damaged: Found, rotten: Found) -> tuple[Figure, ...]:
    """What all three have to keep."""
    made = []
    kinds = (
        ("stalled", stalled, size.stalled_s),
        ("damaging", damaged, size.rotten_s),
        ("rotten on disk", rotten, size.rotten_s),
    )
    for how, found, seconds in kinds:
        made += [
            Figure(f"residents failed, store {how}", faults(found.residents).total(), "=", 0, "requests"),
            Figure(f"residents' p99 over quiet, store {how}", found.slower, "<=", SLOWER, "ratio"),
            Figure(f"residents asked, store {how}", len(found.residents), ">=", 0.8 * RATE * seconds, "requests"),
            Figure(f"corrupt bytes served, store {how}", found.corrupt, "=", 0, "answers"),
            Figure(f"healed, store {how}", found.healed_s, "<=", HEALED_S, "s"),
        ]
    made.append(Figure("pieces and files that were damaged", damaged.damaged + rotten.damaged, ">=", 2, "pieces"))
    stored = sum(count for told, count in stalled.writes.items() if not told.startswith("503"))
    made.append(Figure("publishes not answered 503, store stalled", stored, "=", 0, "requests"))
    return tuple(made)


def seen(found: Found) -> dict[str, object]:
    """The rest, for the reader."""
    return {
        "residents, seconds": spread([sample.seconds for sample in found.residents]),
        "residents before, seconds": spread([sample.seconds for sample in found.quiet]),
        "others before": {fault or "right": count for fault, count in found.beside.items()},
        "residents failed": dict(faults(found.residents)),
        "not resident": {fault or "right": count for fault, count in found.cold.items()},
        "publishes": dict(found.writes),
        "damaged": found.damaged,
    }


def names(kind: str, count: int) -> list[str]:
    """Names of one kind."""
    return [f"{kind}/{number}" for number in range(count)]


async def _fill(stage: Stage, forge: Forge) -> None:
    async with stage.session() as session:
        known = Known(forge, session, seed=0)
        await known.add(names("resident", RESIDENTS), pin=True)
        await known.add([*names("stalled", COLD), *names("damaged", COLD)])


async def _remote(stage: Stage, store: ObjectStore, forge: Forge, size: Size) -> tuple[Found, Found]:
    async with stage.session() as session:
        known = Known(forge, session, seed=1)
        for name in (*names("resident", RESIDENTS), *names("stalled", COLD), *names("damaged", COLD)):
            known.make(name)
        known.make("new/stalled")
        residents, stalled, damaged = Residents(known), Found(), Found()
        async with residents.troubled(stalled, size.stalled_s) as until:
            store.proxy.turn("stall")
            asking = asyncio.gather(*(known.ask(name) for name in names("stalled", COLD)))
            while time.monotonic() < until:
                told = await known.again("new/stalled")
                stalled.writes[told.why] += 1
                await asyncio.sleep(LOOK_S)
            stalled.cold.update(await asking)
        store.proxy.turn("pass")
        await _heal(known, ["new/stalled", *names("stalled", COLD)], stalled)
        async with residents.troubled(damaged, size.rotten_s, names("resident", RESIDENTS)) as until:
            store.proxy.turn("corrupt")
            damaged.cold = await _ask_on(known, names("damaged", COLD), until)
            damaged.damaged = store.proxy.damaged
        store.proxy.turn("pass")
        await _heal(known, names("damaged", COLD), damaged)
        await residents.stop()
    return stalled, damaged


async def _local(stage: Stage, data: Path, forge: Forge, size: Size) -> Found:
    async with stage.session() as session:
        known, found, blobs = Known(forge, session, seed=2), Found(), LocalBlobs(data / "blobs")
        cold = names("cold", COLD)
        await known.add(names("resident", RESIDENTS), pin=True)
        await known.add(cold)
        residents = Residents(known)
        async with residents.troubled(found, size.rotten_s, names("resident", RESIDENTS)) as until:
            for number, name in enumerate(cold):
                _spoil(blobs.path(known.made[name].digest), number)
                found.damaged += 1
            for name in names("resident", RESIDENTS):
                _spoil(blobs.path(known.made[name].digest), 0)
            found.cold = await _ask_on(known, cold, until)
            found.cold.update([await known.fetch(name) for name in names("resident", RESIDENTS)])
        await _heal(known, cold, found)
        await residents.stop()
    return found


async def _ask_on(known: Known, cold: Sequence[str], until: float) -> Counter[str]:
    """Ask for what is damaged, once at least, and again and again until a time."""
    found = await known.ask_all(cold)
    while time.monotonic() < until:
        await asyncio.sleep(LOOK_S)
        found += await known.ask_all(cold)
    return found


async def _heal(known: Known, wanted: Sequence[str], found: Found) -> None:
    """Publish the same bytes again, as an operator does who is told of rot, until everything answers as before."""
    began, left = time.monotonic(), list(wanted)
    while left and time.monotonic() - began < 4 * HEALED_S:
        for name in tuple(left):
            told = await known.again(name)
            fault = await known.ask(name) if told.ok else told.why
            found.cold.update([fault] if is_wrong(fault) else [])
            if not fault and not await known.fetch(name):
                left.remove(name)
        await asyncio.sleep(LOOK_S)
    if not left:
        found.healed_s = time.monotonic() - began


def _spoil(path: Path, number: int) -> None:
    """A bit flipped, the end cut off, or nothing left."""
    data = bytearray(path.read_bytes())
    if number % 3 == 0:
        data[len(data) // 2] ^= 1
        with path.open("r+b") as file:  # in place: whoever has linked the file sees it as well
            file.write(data)
    elif number % 3 == 1:
        with path.open("r+b") as file:
            file.truncate(len(data) // 2)
    else:
        path.unlink()
