"""The watching process as the service holds it: started with the service, started again if it ends, ended with it.

It needs torch, which the process that starts the service has none of; so it is told what to do over its standard input,
and ends when that closes, however the service ends.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from serving.config import Limits, ServiceSettings
from serving.errors import NotFound
from serving.logs import log

_COMMAND = (sys.executable, "-m", "serving.watching.process")
_ROOT = Path(__file__).resolve().parents[2]  # where `-m` finds the service
AGAIN_S = 10.0  # between two starts
_ENDING_S = 10.0  # for what is being published


class Watcher:
    """Owns the process; `tend` is to be called about once a second. Belongs to one thread."""

    def __init__(
        self,
        settings: ServiceSettings,
        *,
        command: Sequence[str] = _COMMAND,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `NotFound` where there is no such folder."""
        if settings.watch is None or not settings.watch.is_dir():
            raise NotFound(f"there is no folder {settings.watch} to watch", code="no_watched_folder")
        self._hello = json.dumps(told(settings)).encode() + b"\n"
        self._command = tuple(command)
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started = float("-inf")

    def tend(self) -> None:
        """Start the process where none runs, at most every ten seconds."""
        if self._running() or self._clock() < self._started + AGAIN_S:
            return
        if self._process is not None:
            log("watch", "the watching process ended", level=logging.ERROR, status=self._process.returncode)
            self._close()
        self._started = self._clock()
        process = subprocess.Popen(  # noqa: S603 - our own module, settings as data
            self._command,
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal to the service's group is the service's: `stop` lets a publish end
        )
        assert process.stdin is not None
        self._process = process
        try:
            process.stdin.write(self._hello)
            process.stdin.flush()
        except BrokenPipeError:
            return  # it ended at once: the next `tend` says so

    def stop(self) -> None:
        """End the process: what it is publishing first, if that is soon done. A second call does nothing."""
        if self._process is None:
            return
        self._close()
        try:
            self._process.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def check(self) -> tuple[str, ...]:
        """What is wrong now; empty when sound."""
        return () if self._running() else ("the watching process does not run",)

    def _running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _close(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            return  # it is gone already


def told(settings: ServiceSettings) -> dict[str, Any]:
    """What the process needs of the settings, as JSON."""
    return {
        "folder": str(settings.watch and settings.watch.resolve()),
        "backbone": str(settings.backbone.resolve()),
        "data": str(settings.data.resolve()),
        "database_url": settings.database_url,
        "blob_url": settings.blob_url,
        "max_package_bytes": settings.limits.max_package_bytes,
        "log_bytes": settings.log_bytes,
    }


def understood(value: Mapping[str, Any]) -> ServiceSettings:
    """The settings that `told` told."""
    return ServiceSettings(
        backbone=Path(value["backbone"]),
        data=Path(value["data"]),
        database_url=value["database_url"],
        blob_url=value["blob_url"],
        watch=Path(value["folder"]),
        log_bytes=value["log_bytes"],
        limits=Limits(max_package_bytes=value["max_package_bytes"]),
    )
