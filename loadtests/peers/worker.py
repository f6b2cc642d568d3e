"""`python -m loadtests.peers.worker LIBRARY`: one library's process, which does what its input says (`messages`)."""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from loadtests.peers.contenders import LIBRARIES
from loadtests.peers.messages import Work, line, work_of
from loadtests.peers.runs import Opened, Run


class Worker:
    """Holds what one library has opened."""

    def __init__(self, opening: Callable[[Work], Opened], clock: Callable[[], float]) -> None:
        self._opening = opening
        self._clock = clock
        self._opened: Opened | None = None

    def answer(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a message says."""
        if message["do"] == "open":
            return self._open(work_of(message["work"]))
        run = self._run(message["run"])
        if message["do"] == "answer":
            np.save(Path(message["to"]), np.concatenate(run.rows(run.go())).astype(np.float32))
            return {"note": run.note}
        assert message["do"] == "time"
        return {"seconds": self._timed(run, message["passes"], warm=message["warm"])}

    def _open(self, work: Work) -> dict[str, Any]:
        self._opened = self._opening(work)
        return {"versions": dict(self._opened.versions), "runs": [list(name) for name in self._opened.runs]}

    def _run(self, name: Iterable[Any]) -> Run:
        assert self._opened is not None
        way, method = name
        return self._opened.runs[way, method]

    def _timed(self, run: Run, passes: int, *, warm: bool) -> list[float]:
        if warm:  # others have used the caches meanwhile
            run.go()
        seconds = []
        for _ in range(passes):
            start = self._clock()
            run.go()
            seconds.append(self._clock() - start)
        return seconds


def serve(worker: Worker, given: Iterable[str], out: TextIO) -> int:
    """Answer line by line until the input ends, or a message fails; returns the exit code."""
    for text in given:
        try:
            answer = worker.answer(json.loads(text))
        except Exception as error:  # whatever a library may raise is for the report, not for this process
            out.write(line({"error": f"{type(error).__name__}: {error}"}))
            out.flush()
            return 1
        out.write(line(answer))
        out.flush()
    return 0


def main(library: str) -> int:
    """Serve one library on standard input and output; what it prints itself goes to standard error."""
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        module = import_module(f"loadtests.peers.{LIBRARIES[library].name}")
        return serve(Worker(lambda work: _frozen(module.opened(work)), time.perf_counter), sys.stdin, out)


def _frozen(opened: Opened) -> Opened:
    """What is loaded stays; a collection that looks through all of it would fall into some pass."""
    gc.collect()
    gc.freeze()
    return opened


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
