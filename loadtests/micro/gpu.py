"""`python -m loadtests.micro.gpu`: what 64 different adapters cost on a GPU, and how much of it the backbone uses.

Per length of rows: the engine's pass with a different adapter in every row against the same pass without adapters, in
interleaved rounds; and the multiplications of the pass without adapters against what the GPU reaches in one large
product. Then what uploads cost those who need none: the slowest passes while adapters are written into slots of the
arena, against quiet ones. A pass is timed with its planning, which the engine does just before it, and with its heads.
Everything is measured without CUDA graphs and with them. Refuses where torch finds no GPU.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters.architectures.geometry import Geometry
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.cache.device import DeviceTier
from adapters.cache.rooms import Key
from adapters.methods.fold import fold
from adapters.weights import Adapter, Resident
from loadtests.micro.mixed import BARE, MIXED, minilm, seeded
from loadtests.micro.promises import METHODS
from loadtests.micro.rounds import interleave
from loadtests.synthetic import make_package

ROWS = 64
LEAST = {128: 0.92, 32: 0.85}  # tokens per row -> throughput with adapters over that without
LEAST_USED = 0.40  # of the measured rate, at the longest rows
MOST_SLOWED = 1.2  # p99 of passes while adapters are uploaded, over that of quiet ones


@dataclass(frozen=True)
class Figure:
    """One ratio that was measured, and the bound that it is held to (`at_least`, or at most)."""

    name: str
    ratio: float
    bound: float
    at_least: bool
    detail: Mapping[str, Any]

    @property
    def holds(self) -> bool:
        """Whether the ratio is within its bound."""
        return self.ratio >= self.bound if self.at_least else self.ratio <= self.bound


@dataclass(frozen=True, eq=False)
class Bench:
    """A backbone on a device, whose device tier holds adapters."""

    backbone: Backbone
    tier: DeviceTier
    residents: tuple[Resident, ...]
    spare: Adapter  # what is uploaded
    settle: Callable[[], None]  # waits until the device has done all

    def batches(self, length: int, seed: int) -> tuple[Sequence[Row], Sequence[Row]]:
        """The same rows of one length, each with an adapter of its own and its head, and without."""
        rng, vocabulary = np.random.default_rng(seed), self.backbone.profile.geometry.vocabulary
        ids = [rng.integers(5, vocabulary, size=length) for _ in self.residents]
        mixed = [Row((held,), held, None, row) for held, row in zip(self.residents, ids, strict=True)]
        return mixed, [Row((), None, None, row) for row in ids]

    def once(self, rows: Sequence[Row]) -> Callable[[], None]:
        """One pass with its planning, until the device has done it."""

        def run() -> None:
            with torch.inference_mode():
                self.backbone.forward(self.backbone.plan(rows, [row.head is not None for row in rows]))
            self.settle()

        return run


def build(
    folder: Path, device: torch.device, dtype: torch.dtype, rows: int, method: str, seed: int, *, graphs: bool = False
) -> Bench:
    """Load the engine, with CUDA graphs or without, and put one adapter per row into the device tier, with room for one more."""
    backbone = Backbone.load(folder, str(device), dtype, graphs=graphs)
    profile, (name, configure) = backbone.profile, METHODS[method]
    config = configure(profile.geometry)
    adapters = [
        fold(make_package(profile, name, f"gpu-{i}", seed, config=config), profile, dtype, backbone.base_maps)
        for i in range(rows + 1)
    ]
    tier = DeviceTier(2 * sum(adapter.nbytes for adapter in adapters), dtype, device)
    residents = tuple(placed(tier, ("bench", str(i)), adapter) for i, adapter in enumerate(adapters[:rows]))
    settle = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    return Bench(backbone, tier, residents, adapters[rows], settle)


def placed(tier: DeviceTier, key: Key, adapter: Adapter) -> Resident:
    """Write an adapter into a slot of its own."""
    tier.reserve(key, tier.nbytes(adapter))
    resident = tier.write(key, adapter)
    tier.publish(key, resident)
    return resident


def multiplications(geometry: Geometry, rows: int, length: int) -> float:
    """Floating-point operations of the maps and the attention of one pass of the bare backbone."""
    h, i = geometry.hidden_size, geometry.intermediate_size
    return 2.0 * rows * length * geometry.layers * (4 * h * h + 2 * h * i + 2 * length * h)


def rate(device: torch.device, dtype: torch.dtype, settle: Callable[[], None], side: int = 8192) -> float:
    """Operations per second of a product of two random [side, side] matrices: the best of ten, after three."""
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    best = float("inf")
    for turn in range(13):
        settle()
        begun = time.perf_counter()
        torch.mm(a, b)
        settle()
        if turn >= 3:
            best = min(best, time.perf_counter() - begun)
    return 2.0 * side**3 / best


def uploads(bench: Bench, length: int, passes: int) -> Figure:
    """The 99th percentile of passes with adapters that are all there, while others are uploaded, over quiet ones."""
    once = bench.once(bench.batches(length, seed=1)[0])
    for _ in range(5):
        once()
    quiet = _percentile(once, passes)
    stop = threading.Event()

    def upload() -> int:
        written = 0
        while not stop.is_set():
            placed(bench.tier, ("bench", "spare"), bench.spare)
            bench.tier.evict(("bench", "spare"))
            written += 1
        return written

    with ThreadPoolExecutor(1) as loader:
        uploading = loader.submit(upload)
        try:
            busy = _percentile(once, passes)
        finally:
            stop.set()
        written = uploading.result()
    detail = {"quiet ms": round(1e3 * quiet, 3), "busy ms": round(1e3 * busy, 3), "uploads": written}
    name = f"p99 of {passes} passes during uploads / quiet"
    return Figure(name, busy / quiet, MOST_SLOWED, at_least=False, detail=detail)


def _percentile(once: Callable[[], None], passes: int) -> float:
    seconds = []
    for _ in range(passes):
        begun = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - begun)
    return float(np.percentile(seconds, 99))


def missing() -> str | None:
    """Why nothing can be measured here; None where torch finds a GPU."""
    if torch.cuda.is_available():
        return None
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return f"torch {torch.__version__} ({built}) finds no GPU; run this on a machine with one, or use loadtests.micro.mixed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print one line of JSON per figure; exit code 1 where a bound is missed, 2 without a GPU."""
    args = argparse.ArgumentParser(prog="python -m loadtests.micro.gpu", description=__doc__)
    args.add_argument("--backbone", default="bert-base", help="bert-base (seeded), minilm, or a model folder")
    args.add_argument("--method", action="append", choices=METHODS, help="repeat for several; bottleneck and lora")
    args.add_argument("--rows", type=int, default=ROWS)
    args.add_argument("--rounds", type=int, default=50)
    args.add_argument("--passes", type=int, default=500, help="for the percentile of passes during uploads")
    given = args.parse_args(arguments)
    reason = missing()
    if reason is not None:
        args.error(reason)
    with tempfile.TemporaryDirectory() as folder:
        backbone = Path(given.backbone)
        if given.backbone in ("minilm", "bert-base"):
            backbone = minilm() if given.backbone == "minilm" else seeded("bert-base", Path(folder), 0)
        holds = True
        for method in given.method or ["bottleneck", "lora"]:
            for graphs in (False, True):
                bench = build(backbone, torch.device("cuda"), torch.bfloat16, given.rows, method, 0, graphs=graphs)
                for figure in figures(bench, given.rounds, given.passes):
                    told = {"method": method, "graphs": graphs, **asdict(figure), "holds": figure.holds}
                    print(json.dumps(told | replayed(bench)), flush=True)
                    holds = holds and figure.holds
    return 0 if holds else 1


def replayed(bench: Bench) -> dict[str, Any]:
    """How many passes were replayed so far, and why others could not be captured."""
    replays = bench.backbone.replays
    return {} if replays is None else {"replayed": replays.replayed, "refused": sorted(set(replays.refused.values()))}


def figures(bench: Bench, rounds: int, passes: int, side: int = 8192) -> Iterator[Figure]:
    """All figures of one method, as they are found; `side` of the matrices whose product is the measure."""
    reached = rate(bench.backbone.device, bench.backbone.dtype, bench.settle, side)
    for length, least in LEAST.items():
        mixed, bare = bench.batches(length, seed=length)
        found = interleave({MIXED: bench.once(mixed), BARE: bench.once(bare)}, rounds, 5, time.perf_counter)
        named = f"{len(bench.residents)} x {length}"
        told = {name: round(1e3 * found.median(name), 3) for name in (MIXED, BARE)}
        yield Figure(f"{named}: {MIXED} / {BARE}", found.ratio(MIXED, BARE), least, at_least=True, detail={"ms": told})
        if length == max(LEAST):
            done = multiplications(bench.backbone.profile.geometry, len(bench.residents), length) / found.median(BARE)
            rates = {"tflops": round(done / 1e12, 1), "matrix tflops": round(reached / 1e12, 1)}
            yield Figure(f"{named}: {BARE} / matrix rate", done / reached, LEAST_USED, at_least=True, detail=rates)
    yield uploads(bench, min(LEAST), passes)


if __name__ == "__main__":
    sys.exit(main())
