"""An engine that is asked without HTTP: `python -m loadtests.micro.inprocess`, a process of its own.

    stdin    a job (one line of JSON), then the seconds of each run, a line each
    stdout   "ready", then a line for each run: the rows that were answered in a second

Closed loop: so many requests are under way, always; the next one of each leaves on the forward thread with the answer to
the last. Nothing is between the rows and the engine, whose queue, batches and leases are those of the service.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from adapters.composition import Composition, Leaf, Stack
from adapters.refs import AdapterRef
from loadtests.proofs.stage import ROOT, StageFailed
from serving.config import ServiceSettings
from serving.engine.engine import Engine
from serving.premises import everywhere
from serving.request import Reduction, Refusal, Reply, Ticket

TENANT = "default"
TIMEOUT_MS = 60_000.0
HEAD_START_S = 0.2  # of a run, which is not counted: until as many requests are under way as shall be
PATIENCE_S = 60.0  # for the last answers


@dataclass(frozen=True)
class Job:
    """What to ask whom: token ids of every row of every request, all of one adapter (a native package)."""

    backbone: str
    package: str
    digest: str
    requests: tuple[tuple[tuple[int, ...], ...], ...]
    closed: int  # requests under way
    dtype: str
    cores: tuple[int, ...]

    def line(self) -> str:
        """For stdin."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> "Job":
        """From stdin."""
        told: dict[str, Any] = json.loads(line)
        requests = tuple(tuple(map(tuple, request)) for request in told.pop("requests"))
        return cls(**{**told, "cores": tuple(told["cores"])}, requests=requests)

    def settings(self) -> ServiceSettings:
        """Those of the service's engine that it is compared with."""
        return ServiceSettings(Path(self.backbone), Path(self.package).parent, dtype=self.dtype, threads=1)

    def environment(self) -> dict[str, str]:
        """What this process has to be started with, as the service's own are."""
        return everywhere(self.settings(), 1)


class Loop:
    """Requests that are under way, always as many."""

    def __init__(self, engine: Engine, job: Job, clock: Callable[[], float] = time.perf_counter) -> None:
        ref = AdapterRef(TENANT, "micro", 1, job.digest)
        composition, reduction = Composition(Stack((Leaf(ref),))), Reduction("logits")
        self._requests = [
            [
                Ticket("", TENANT, composition, ref, None, np.array(ids, np.int32), None, reduction, TIMEOUT_MS)
                for ids in request
            ]
            for request in job.requests
        ]
        self._engine = engine
        self._closed = job.closed
        self._clock = clock
        self._sent = 0
        self._begin = self._end = 0.0
        self._counted = 0
        self._idle = threading.Event()
        self._under_way = 0
        self._refused: Refusal | None = None
        self._guard = (
            threading.Lock()
        )  # what is refused at once is answered on this thread, all else on the forward one

    def run(self, seconds: float) -> float:
        """Rows answered in a second; raises `RuntimeError` where one was refused, or none came."""
        begun = self._clock()
        self._begin, self._end = begun + HEAD_START_S, begun + seconds
        self._counted, self._under_way = 0, self._closed
        self._idle.clear()
        for _ in range(self._closed):
            self._send()
        if not self._idle.wait(seconds + PATIENCE_S):
            raise RuntimeError("the engine does not answer")
        if self._refused is not None:
            raise RuntimeError(f"the engine refused a row: {self._refused.detail}")
        return self._counted / (seconds - HEAD_START_S)

    def _send(self) -> None:
        number, self._sent = self._sent, self._sent + 1
        rows = self._requests[number % len(self._requests)]
        tickets = [_named(ticket, f"{number}-{i}") for i, ticket in enumerate(rows)]
        self._engine.submit(tickets, partial(self._answered, [len(tickets)]))

    def _answered(self, left: list[int], replies: tuple[Reply, ...]) -> None:
        now = self._clock()
        with self._guard:
            refusals = [reply for reply in replies if isinstance(reply, Refusal)]
            self._refused = self._refused or next(iter(refusals), None)
            if self._begin <= now <= self._end:
                self._counted += len(replies) - len(refusals)
            left[0] -= len(replies)
            if left[0]:
                return
            over = now > self._end or self._refused is not None
            self._under_way -= over
            if not self._under_way:
                self._idle.set()
        if not over:
            self._send()


class Engines:
    """Engines in processes of their own, which run at once."""

    def __init__(self, processes: Sequence["subprocess.Popen[str]"]) -> None:
        self._processes = processes

    @classmethod
    @contextmanager
    def started(cls, job: Job, count: int) -> Iterator[Self]:
        """So many of them, ready; whatever happens, none is left. Raises `StageFailed`."""
        words = [sys.executable, "-m", "loadtests.micro.inprocess"]
        environment = {**os.environ, **job.environment(), "PYTHONPATH": str(ROOT)}
        with ExitStack() as ending:
            engines = cls([cls._start(words, environment, ending) for _ in range(count)])
            engines._tell(job.line())
            if any(line != "ready" for line in engines._heard()):
                raise StageFailed("an engine without a service did not start")
            yield engines

    def run(self, seconds: float) -> float:
        """Rows a second of all together; raises `StageFailed`."""
        self._tell(str(seconds))
        lines = self._heard()
        if not all(lines):
            raise StageFailed("an engine without a service died")
        return sum(map(float, lines))

    def _tell(self, line: str) -> None:
        for process in self._processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # it is dead, and says nothing
                process.stdin.write(f"{line}\n")
                process.stdin.flush()

    def _heard(self) -> list[str]:
        return [process.stdout.readline().strip() for process in self._processes if process.stdout is not None]

    @staticmethod
    def _start(words: Sequence[str], environment: dict[str, str], ending: ExitStack) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)  # noqa: S603 - ours
        ending.enter_context(process)
        ending.callback(process.kill)
        return process


def _named(t: Ticket, ident: str) -> Ticket:
    return Ticket(
        ident, t.tenant, t.composition, t.head, t.embedding, t.input_ids, t.type_ids, t.reduction, t.deadline_ms
    )


def main(lines: Sequence[str] | None = None) -> None:
    """Build the engine, and run as often as is asked."""
    told = iter(sys.stdin if lines is None else lines)
    job = Job.read(next(told))
    os.sched_setaffinity(0, job.cores)
    engine = Engine.build(job.settings(), lambda _: Path(job.package))
    try:
        loop = Loop(engine, job)
        print("ready", flush=True)
        for line in told:
            print(loop.run(float(line)), flush=True)
    finally:
        engine.close()


if __name__ == "__main__":
    main()
