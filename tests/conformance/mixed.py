"""Random mixed batches: rows of many cases of one backbone in one forward pass, each compared with its own reference."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapters.backbone import Want
from tests.conformance.bench import Bench, ReadyRow
from tests.conformance.judge import Judge, note
from tests.conformance.report import BatchOutcome
from tests.conformance.rounding import Rounding

MIN_CASES = 4
MAX_CASES = 12
MIN_METHODS = 2
ROWS = (8, 32)


class NothingToMix(Exception):
    """No backbone has enough cases and methods for a mixed batch."""


@dataclass(frozen=True, eq=False)
class Draw:
    """One batch: rows, and for each which of its outputs is asked for."""

    bench: Bench
    rows: tuple[ReadyRow, ...]
    wanted: tuple[Want, ...]


def run_mixed(benches: Sequence[tuple[Bench, Rounding | None]], batches: int, seed: int) -> Iterator[BatchOutcome]:
    """Draw and run batches; the same seed over the same data draws the same ones. Raises `NothingToMix`."""
    usable = [(bench, rounding, pool) for bench, rounding in benches if (pool := _pool(bench))]
    if not usable:
        raise NothingToMix(f"no backbone has {MIN_CASES} cases of {MIN_METHODS} methods that the library reads")
    rng = random.Random(seed)
    for index in range(batches):
        bench, rounding, pool = rng.choices(usable, weights=[len(pool) for *_, pool in usable])[0]
        yield _run(index, draw(bench, pool, rng), Judge(rounding))


def draw(bench: Bench, pool: Sequence[Sequence[ReadyRow]], rng: random.Random) -> Draw:
    """8 to 32 rows, shuffled, of at least four cases and two methods; each asks for one of its outputs."""
    everything = [row for case in pool for row in case]
    first = rng.choice(everything)
    rows = [first, rng.choice([row for row in everything if row.method != first.method])]
    held = {row.case.id for row in rows}
    others = [case for case in pool if case[0].case.id not in held]
    at_least = MIN_CASES - len(held)
    cases = rng.sample(others, k=rng.randint(at_least, min(MAX_CASES, len(others))))
    rows += [rng.choice(case) for case in cases]
    drawn = [row for row in everything if row.case.id in {held.case.id for held in rows}]
    rows += rng.choices(drawn, k=max(rng.randint(*ROWS), len(rows)) - len(rows))
    rng.shuffle(rows)
    return Draw(bench, tuple(rows), tuple(rng.choice(row.wanted) for row in rows))


def _pool(bench: Bench) -> list[tuple[ReadyRow, ...]]:
    pool = [kept for _, rows in bench.ready if (kept := tuple(row for row in rows if row.wanted))]
    methods = {row.method for rows in pool for row in rows}
    return pool if len(pool) >= MIN_CASES and len(methods) >= MIN_METHODS else []


def _run(index: int, batch: Draw, judge: Judge) -> BatchOutcome:
    rows, reasons, passes = batch.rows, [], 0
    try:
        outputs, passes = batch.bench.run(rows, batch.wanted)
    except Exception as error:  # a crash is a failed batch, and the others still run
        reasons.append(f"{type(error).__name__}: {error}")
        outputs = []
    if passes != 1 and not reasons:
        reasons.append(f"{passes} forward passes instead of one")
    for row, want, output in zip(rows, batch.wanted, outputs, strict=False):
        reasons += [f"{row.case.id} {fault}" for fault in judge.faults(row, [want], [output])]
    if not judge.compared and not reasons:
        reasons.append("nothing was compared")
    return BatchOutcome(
        index=index,
        backbone=batch.bench.name,
        rows=len(rows),
        cases=len({row.case.id for row in rows}),
        methods=tuple(sorted({row.method for row in rows})),
        forwards=passes,
        compared=judge.compared,
        outcome="failed" if reasons else "passed",
        reason="; ".join(reasons) or note(judge.widest),
        max_error=judge.largest if outputs else None,
    )
