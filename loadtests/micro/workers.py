"""`python -m loadtests.micro.workers`: engines of one thread each against one engine with all the threads.

Both get the same batches, with a different adapter in every row; the processes stay alive and take turns, so that they
share the machine with nobody. What a service should be started with (`--engines`, `--threads`) follows from the ratio.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

import torch

from loadtests.micro.mixed import DTYPES, MIXED, build, minilm
from loadtests.micro.promises import METHODS
from loadtests.micro.rounds import interleave

ONE, MANY = "one engine, all threads", "an engine for each thread"


@dataclass(frozen=True)
class Job:
    """What every engine computes, again and again."""

    folder: Path
    method: str
    rows: int
    dtype: str
    seed: int


class Worker:
    """A process with an engine of so many threads; close it by leaving the context."""

    def __init__(self, job: Job, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, job, threads), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self.finish()  # built
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.send(0)
        self._process.join()

    def begin(self, batches: int) -> None:
        """Have it compute so many batches."""
        self._pipe.send(batches)

    def finish(self) -> None:
        """Wait until it has."""
        self._pipe.recv()


def serve(pipe: Connection, job: Job, threads: int) -> None:
    """Build an engine, and compute as many batches as are asked for, until none are."""
    torch.set_num_threads(threads)
    bench = build(job.folder, job.rows, [job.method], job.seed, DTYPES[job.dtype])
    run = bench.contenders()[MIXED]
    pipe.send(None)
    while batches := pipe.recv():
        for _ in range(batches):
            run()
        pipe.send(None)


def measure(job: Job, threads: int, batches: int, rounds: int) -> dict[str, float]:
    """Rows per second of either way, and the ratio `many / one` of paired rounds."""
    with ExitStack() as stack:
        one = stack.enter_context(Worker(job, threads))
        many = [stack.enter_context(Worker(job, 1)) for _ in range(threads)]

        def all_of(workers: Sequence[Worker]) -> None:
            for worker in workers:
                worker.begin(batches // len(workers))
            for worker in workers:
                worker.finish()

        contenders = {ONE: lambda: all_of([one]), MANY: lambda: all_of(many)}
        found = interleave(contenders, rounds, 1, time.perf_counter)
    rates = {name: batches * job.rows / found.median(name) for name in contenders}
    return {**rates, "ratio": found.ratio(MANY, ONE)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = argparse.ArgumentParser(prog="python -m loadtests.micro.workers", description=__doc__)
    args.add_argument("--backbone", type=Path, help="model folder; default is the installed all-MiniLM-L6-v2")
    args.add_argument("--method", default="bottleneck", choices=METHODS)
    args.add_argument("--dtype", default="bfloat16", choices=DTYPES)
    args.add_argument("--rows", type=int, default=32)
    args.add_argument("--threads", type=int, default=2, help="cores to fill")
    args.add_argument("--batches", type=int, default=8, help="in a round; each engine takes its share")
    args.add_argument("--rounds", type=int, default=9)
    args.add_argument("--seed", type=int, default=0)
    given = args.parse_args(arguments)
    if given.batches % given.threads:
        args.error(f"--batches {given.batches} can not be shared by {given.threads} engines")
    job = Job(given.backbone or minilm(), given.method, given.rows, given.dtype, given.seed)
    found = measure(job, given.threads, given.batches, given.rounds)
    for name in (ONE, MANY):
        print(f"{name:<28}{found[name]:9.1f} rows/s")
    print(f"{MANY} / {ONE}: {found['ratio']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
