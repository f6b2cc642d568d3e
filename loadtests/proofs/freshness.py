"""How soon a publish answers, and whether loads slow down what is resident: two engines on a real sentence encoder.

Hits are asked for at a steady rate. Beside them others are asked for, at a rate of their own: in quiet windows other
residents, in loading windows adapters that have to be brought in first. Windows take turns, so that whatever else the
machine does falls on both alike.
"""

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import aiohttp

from adapters.architectures.geometry import Geometry
from adapters.methods.presets import SEQ_BN
from loadtests.proofs.backbones import TEXTS, sentence_encoder
from loadtests.proofs.calls import call, predict, publish
from loadtests.proofs.evidence import Evidence, Figure, percentile, spread
from loadtests.proofs.fingerprints import Book, Fingerprint, Forge, Identity
from loadtests.proofs.given import Given
from loadtests.proofs.judging import fault_of
from loadtests.proofs.publishing_process import TENANT
from loadtests.proofs.stage import Stage, StageFailed, staged
from loadtests.proofs.steady import Sample, Steady, faults

MEGABYTES = 3  # of one adapter
HITS, OTHERS = 15.0, 3.0  # requests per second: well below what two cores can do
RESIDENTS, COLD = 6, 64  # of the cold ones so many that none is held anywhere when its turn comes again
PAUSE_S = 0.2  # between two publishes
ROOMS = ("--device-cache", "48MiB", "--host-cache", "32MiB", "--disk-cache", "1GiB")
FRESH_S, RATIO = 0.250, 1.2


@dataclass(frozen=True)
class Size:
    """Publishes that are timed, windows of each kind, and how long one is."""

    publishes: int
    windows: int
    window_s: float


WHOLE, QUICK = Size(60, 10, 20.0), Size(10, 3, 6.0)


@dataclass
class Found:
    """What was measured; seconds."""

    fresh: list[float] = field(default_factory=list)  # from the first byte of the PUT to the first 200
    publishes: list[float] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)
    quiet: list[list[Sample]] = field(default_factory=list)  # hits, by window
    loading: list[list[Sample]] = field(default_factory=list)
    others: list[Sample] = field(default_factory=list)
    loads: list[int] = field(default_factory=list)  # bytes, by window: quiet, loading, quiet, ...
    wrong: list[str] = field(default_factory=list)


def run(given: Given) -> Evidence:
    """Publish and ask at once; then hits in windows with and without loads beside them."""
    size = given.sized(WHOLE, QUICK)
    backbone = sentence_encoder()
    forge = Forge(backbone, TEXTS, given.seed)
    config = large(forge.profile.geometry)
    stage = Stage(backbone, given.folder / "data", engines=2, options=ROOMS)

    def make(mark: str) -> Fingerprint:
        return forge.make(mark, "bottleneck", config)

    with staged(stage):
        found = asyncio.run(_measure(stage, make, size, given.seed))
        stage.stop()
    return evidence(given, size, found)


def large(geometry: Geometry) -> dict[str, object]:
    """A bottleneck in every layer, as wide as makes the megabytes (of float32 values, without the head)."""
    width = MEGABYTES * 10**6 // (4 * geometry.layers * 2 * geometry.hidden_size)
    return {**SEQ_BN, "sites": {f"{layer}/ffn_junction": {"width": width} for layer in range(geometry.layers)}}


def evidence(given: Given, size: Size, found: Found) -> Evidence:
    """The figures."""
    quiet, loading = _seconds(found.quiet), _seconds(found.loading)
    failed = faults([*itertools.chain(*found.quiet, *found.loading), *found.others])
    expected = 0.6 * OTHERS * size.windows * size.window_s * MEGABYTES * 10**6  # most of the others are loads
    figures = (
        Figure("publishes", len(found.fresh), ">=", size.publishes, "publishes"),
        Figure("first PUT byte to first prediction, p50", percentile(found.fresh, 0.5), "<=", FRESH_S, "s"),
        Figure("hits while loads run over quiet, p99, median of rounds", over_quiet(found, 0.99), "<=", RATIO, "ratio"),
        Figure(
            "hits while loads run over quiet, p99, all rounds together", together(found, 0.99), "<=", RATIO, "ratio"
        ),
        Figure("bytes loaded in loading windows", sum(found.loads[1::2]), ">=", expected, "bytes"),
        Figure("wrong or failed", failed.total() + len(found.wrong), "=", 0, "requests"),
    )
    seen = {
        "publish to first prediction, seconds": spread(found.fresh),
        "publish alone, seconds": spread(found.publishes),
        "predictions until one was answered": max(found.tries, default=0),
        "hits in quiet windows, seconds": spread(quiet),
        "hits in loading windows, seconds": spread(loading),
        "p50 over quiet, median of rounds": over_quiet(found, 0.5),
        "p50 over quiet, all rounds together": together(found, 0.5),
        "p99 by window, quiet": [percentile(_seconds([window]), 0.99) for window in found.quiet],
        "p99 by window, loading": [percentile(_seconds([window]), 0.99) for window in found.loading],
        "others, seconds": spread([sample.seconds for sample in found.others]),
        "bytes loaded by window": found.loads,
        "failed": dict(failed),
        "wrong": found.wrong,
    }
    return Evidence("freshness", given.seed, figures, seen)


def over_quiet(found: Found, share: float) -> float:
    """A percentile of hits while loads run, over that of the quiet window just before: the median of all rounds.

    Whatever else the machine does in one window is no reason to believe or to doubt the others.
    """
    pairs = zip(found.quiet, found.loading, strict=True)
    ratios = [percentile(_seconds([loading]), share) / percentile(_seconds([quiet]), share) for quiet, loading in pairs]
    return statistics.median(ratios) if ratios else float("nan")


def together(found: Found, share: float) -> float:
    """A percentile of all hits while loads run, over that of all quiet ones: no window is left out of it."""
    return percentile(_seconds(found.loading), share) / percentile(_seconds(found.quiet), share)


async def _measure(stage: Stage, make: Callable[[str], Fingerprint], size: Size, seed: int) -> Found:
    found = Found()
    async with stage.session() as session:
        bench = _Bench(session, seed)
        fresh = [make(f"fresh-{number}") for number in range(size.publishes)]
        for number in range(RESIDENTS):
            await bench.add(f"resident/{number}", make(f"resident-{number}"), "pin")
        for number in range(COLD):
            await bench.add(f"cold/{number}", make(f"cold-{number}"))
        for number, made in enumerate(fresh):
            await asyncio.sleep(PAUSE_S)
            await bench.first_answer(f"fresh/{number}", made, found)
        await _windows(session, bench, size, found)
    return found


async def _windows(session: aiohttp.ClientSession, bench: "_Bench", size: Size, found: Found) -> None:
    quiet, others = True, itertools.count()

    async def other(_: int) -> str:
        kind, count = ("resident", RESIDENTS) if quiet else ("cold", COLD)
        return await bench.ask(f"{kind}/{next(others) % count}")

    hits = Steady(lambda number: bench.ask(f"resident/{number % RESIDENTS}"), HITS)
    beside = Steady(other, OTHERS)
    hits.start()
    beside.start()
    await asyncio.sleep(size.window_s)  # not measured: what the publishes left to be done
    for window in range(2 * size.windows):
        quiet = window % 2 == 0
        began, loads = time.monotonic(), await _loads(session)
        await asyncio.sleep(size.window_s)
        (found.quiet if quiet else found.loading).append([])
        found.loads.append(await _loads(session) - loads)
        ended = time.monotonic()
        bench.windows.append((began, ended))
    await hits.stop()
    await beside.stop()
    for window, (began, ended) in enumerate(bench.windows):
        (found.quiet, found.loading)[window % 2][window // 2] = hits.between(began, ended)
    found.others = beside.samples


class _Bench:
    """Who is published, and what asking for it came to."""

    def __init__(self, session: aiohttp.ClientSession, seed: int) -> None:
        self.windows: list[tuple[float, float]] = []
        self._session = session
        self._dice = random.Random(seed)
        self._book = Book()

    async def add(self, name: str, made: Fingerprint, verb: str | None = None) -> None:
        self._book.enter(Identity(TENANT, name, 1), made.logits)
        told = await publish(self._session, name, made.data)
        if told.ok and verb is not None:
            told = await call(self._session, "POST", f"/v1/adapters/{name}:{verb}")
        if not told.ok:
            raise StageFailed(f"{name}: {told.why}")

    async def ask(self, name: str) -> str:
        """What is wrong with an answer of the first version of a name."""
        text = self._dice.randrange(len(TEXTS))
        told = await predict(self._session, name, [TEXTS[text]])
        return fault_of(told, (name, 1), self._book, Identity(TENANT, name, 1), [text])

    async def first_answer(self, name: str, made: Fingerprint, found: Found) -> None:
        """From the first byte of the publish to the first answer."""
        self._book.enter(Identity(TENANT, name, 1), made.logits)
        told = await publish(self._session, name, made.data)
        tries = 1
        while (fault := await self.ask(name)) and tries < 100:
            tries += 1
        found.fresh.append(time.monotonic() - told.began)
        found.publishes.append(told.seconds)
        found.tries.append(tries)
        found.wrong += [text for text in (fault, "" if told.ok else told.why) if text]


async def _loads(session: aiohttp.ClientSession) -> int:
    """Bytes that all engines have copied to their devices so far."""
    told = await call(session, "GET", "/v1/residency")
    return sum(int(replica["counters"]["bytes_loaded_device"]) for replica in told.body.get("replicas", ()))


def _seconds(windows: Sequence[Sequence[Sample]]) -> list[float]:
    return [sample.seconds for window in windows for sample in window]
