"""Hostile bytes are read in a process of their own: this file supervises it, `check_worker` is it.

One worker lives for many checks, because it takes seconds to start. It is killed when a check takes too long, and
replaced when it dies; both refuse the file that did it and nothing else. Checks wait for one another.
"""

import asyncio
import json
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from adapters import errors as library
from adapters.architectures.profile import BackboneProfile
from adapters.manifest import from_json
from serving.errors import NotReady, ServiceError, Unprocessable, from_library
from serving.logs import log
from serving.registry.inspection import Inspection, Trial
from serving.registry.records import CheckReport, MatrixJob

_MODULE = "serving.registry.check_worker"
_ROOT = Path(__file__).resolve().parents[2]  # where `-m` finds the service
_LINE = 16 << 20  # bytes of an answer: a manifest is at most 1 MiB, escaped twice
# No key and no setting of the service reaches the worker; one thread keeps it from crowding the engines.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONIOENCODING": "utf-8",
    # The buffers of one check serve the next: to fault them in anew costs as much as to read them.
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
_CHUNK = 1 << 20
T = TypeVar("T")


class Checker:
    """The upload checker of one gateway. Belongs to one event loop."""

    def __init__(
        self,
        profile: BackboneProfile,
        backbone: Path | None = None,
        *,
        memory_bytes: int = 4 << 30,
        deadline_s: float = 60.0,
        trial_s: float = 180.0,
        start_s: float = 120.0,
        command: Sequence[str] = (sys.executable, "-m", _MODULE),
    ) -> None:
        """`backbone` is the folder whose vocabulary new ones may copy from, and on which packages are tried; or None.

        `memory_bytes` is what a check may use beyond the idle worker; `trial_s` bounds a dry run, the first of which
        loads the backbone; `command` is another worker (tests).
        """
        folder = None if backbone is None else str(backbone.resolve())
        self._hello = {"profile": profile.to_json(), "memory_bytes": memory_bytes, "backbone": folder}
        self._deadline_s = deadline_s
        self._trial_s = trial_s
        self._start_s = start_s
        self._command = tuple(command)
        self._process: Process | None = None
        self._stopped = False
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Start the worker ahead of the first check; raises `NotReady`."""
        async with self._turn:
            await self._worker()

    async def stop(self) -> None:
        """End the worker for good; a check under way is refused."""
        self._stopped = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        async with self._turn:
            await self._kill()

    async def check(self, path: Path) -> CheckReport:
        """Check one file in full.

        Raises `Unprocessable` or `UnsupportedMedia` with every reason, `Unprocessable` where the check died or took too
        long, and `NotReady` where no worker can be started.
        """
        return await self._one_by_one({"path": str(path)}, _report)

    async def build(self, job: MatrixJob, target: Path) -> None:
        """Make the package of a new vocabulary, written to `target`; raises as `check` does."""
        question = {"build": {name: str(v) if isinstance(v, Path) else v for name, v in vars(job).items()}}
        await self._one_by_one(question, _nothing, sink=_Sink(target, job.max_bytes))

    async def inspect(self, path: Path, text: str) -> Inspection:
        """Check one file in full, look into it and try it on a text; raises as `check` does."""
        return await self._one_by_one({"path": str(path), "input": text}, _inspection, deadline_s=self._trial_s)

    async def _one_by_one(
        self,
        question: Mapping[str, Any],
        read: Callable[[Mapping[str, Any]], T],
        *,
        sink: "_Sink | None" = None,
        deadline_s: float | None = None,
    ) -> T:
        async with self._turn:
            try:
                answer = await self._answer(question, sink, deadline_s or self._deadline_s)
                if "error" in answer:
                    raise _refusal(answer)
                return read(answer)
            except _DeadWorkerError as error:
                await self._kill()
                raise Unprocessable("the checker died on this file", code="check_failed") from error

    async def _answer(self, question: Mapping[str, Any], sink: "_Sink | None", deadline_s: float) -> dict[str, Any]:
        fresh = self._process is None
        try:
            return await self._examined(question, sink, deadline_s)
        except _DeadWorkerError:
            if fresh:
                raise
            # It may have ended before this file came: only a worker that saw nothing else can accuse it.
            await self._kill()
            return await self._examined(question, sink, deadline_s)

    async def _examined(self, question: Mapping[str, Any], sink: "_Sink | None", deadline_s: float) -> dict[str, Any]:
        worker = await self._worker()
        try:
            async with asyncio.timeout(deadline_s):
                answer = await _ask(worker, question)
                if sink is not None and "error" not in answer:
                    await _receive(worker, answer, sink)
                return answer
        except TimeoutError as error:
            await self._kill()
            detail = f"the check took longer than {deadline_s:g} s"
            raise Unprocessable(detail, code="check_failed") from error
        except OSError as error:  # the disk is full: what is left in the pipe belongs to nobody
            await self._kill()
            detail = f"the blob store can not take this now: {error.strerror}"
            raise NotReady(detail, code="storage_unavailable") from error
        except asyncio.CancelledError:
            await self._kill()  # the answer to come belongs to nobody
            raise

    async def _worker(self) -> Process:
        if self._stopped:
            raise NotReady("the service is stopping")
        if self._process is not None and self._process.returncode is None:
            return self._process
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, cwd=_ROOT, env=_ENVIRONMENT, limit=_LINE
        )
        try:
            async with asyncio.timeout(self._start_s):
                await _ask(self._process, self._hello)
        except BaseException as error:
            worker = self._process
            await self._kill()
            if isinstance(error, TimeoutError | _DeadWorkerError):
                why = f"it said nothing for {self._start_s:g} s" if isinstance(error, TimeoutError) else "it ended"
                code = worker.returncode
                log("registry", "the checker does not start", level=logging.ERROR, reason=why, exit_code=code)
                raise NotReady("the checker does not start", code="checker_unavailable", retry_after=5.0) from error
            raise
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            log("registry", "killing the checker", level=logging.WARNING, process=process.pid)
            process.kill()
        await process.communicate()  # reads what is left, else a full pipe would never end


@dataclass(frozen=True)
class _Sink:
    """Where the bytes behind an answer go, and how many there may be."""

    path: Path
    max_bytes: int


class _DeadWorkerError(Exception):
    """The worker closed its pipe, or answered what no worker answers."""


async def _ask(process: Process, question: Mapping[str, Any]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(question).encode() + b"\n")
        await process.stdin.drain()
        line = await process.stdout.readline()
    except (ConnectionError, ValueError) as error:  # ValueError: an endless line
        raise _DeadWorkerError from error
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _DeadWorkerError from error
    if not isinstance(answer, dict):
        raise _DeadWorkerError
    return answer


async def _receive(process: Process, answer: Mapping[str, Any], sink: _Sink) -> None:
    """The bytes that follow an answer on the pipe; a worker writes no file itself."""
    assert process.stdout is not None
    left = answer.get("nbytes")
    if not isinstance(left, int) or left > sink.max_bytes:
        raise _DeadWorkerError
    with sink.path.open("wb") as file:
        while left > 0:
            chunk = await process.stdout.read(min(left, _CHUNK))
            if not chunk:
                raise _DeadWorkerError
            left -= len(chunk)
            await asyncio.to_thread(file.write, chunk)


def _nothing(_answer: Mapping[str, Any]) -> None:
    return None


def _report(answer: Mapping[str, Any]) -> CheckReport:
    try:
        return CheckReport(
            digest=answer["digest"],
            nbytes=answer["nbytes"],
            manifest=from_json(answer["manifest"]),
            device_bytes=answer["device_bytes"],
            warnings=tuple(answer["warnings"]),
        )
    except (KeyError, TypeError, library.InvalidPackage) as error:
        raise _DeadWorkerError from error


def _inspection(answer: Mapping[str, Any]) -> Inspection:
    trial = answer.get("trial")
    try:
        return Inspection(
            report=_report(answer),
            parameters=answer["parameters"],
            matched={kind: tuple(modules) for kind, modules in answer["matched"].items()},
            untouched=tuple(answer["untouched"]),
            trial=None if trial is None else Trial(**trial),
            untried=answer["untried"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _DeadWorkerError from error


def _refusal(answer: Mapping[str, Any]) -> ServiceError:
    kind, message, reasons = answer["error"], str(answer["message"]), [str(reason) for reason in answer["reasons"]]
    if kind == "Misfit":
        return from_library(library.Misfit(reasons))
    if kind == "UnsafeFile":
        return from_library(library.UnsafeFile(message))
    if kind == "InvalidPackage":
        return from_library(library.InvalidPackage(message))
    return Unprocessable(message, code="check_failed")
