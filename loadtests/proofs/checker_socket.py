"""The checker on a Unix socket: a process of its own for those that publish, as the checker's replica is in production.

Whoever is killed while it asks costs the checker nothing but a connection.
"""

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

from serving.errors import NotReady, ServiceError
from serving.registry.inspection import Inspection
from serving.registry.intake import Checks
from serving.registry.records import CheckReport, MatrixJob

_BACKLOG = 64  # connections that wait for their turn


class CheckerSocket:
    """Answers questions to a checker that lives on the running event loop; a thread per connection."""

    def __init__(self, checker: Checks, path: Path) -> None:
        self._checker = checker
        self._loop = asyncio.get_running_loop()
        self._listener = Listener(str(path), "AF_UNIX", backlog=_BACKLOG)
        self._open, self._closing = True, threading.Lock()
        self._thread = threading.Thread(target=self._accept, name="checker-socket", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more questions; who waits for an answer still gets it, if the event loop goes on."""
        with self._closing:
            self._open = False
        Client(self._listener.address).close()  # wakes the thread: closing a socket that is waited on does not
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while self._open:
            try:
                connection = self._listener.accept()
            except OSError:  # gone before it was its turn
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: "Connection[Any, Any]") -> None:
        with connection:
            try:
                method, arguments = connection.recv()
                answering = self._asked(method, arguments)
                if answering is not None:
                    connection.send(answering.result())
            except (EOFError, OSError, CancelledError):  # killed while it asked, or the event loop ended first
                return

    def _asked(self, method: str, arguments: tuple[Any, ...]) -> "Future[Any] | None":
        with self._closing:  # a loop that has ended takes no questions
            return asyncio.run_coroutine_threadsafe(self._answer(method, arguments), self._loop) if self._open else None

    async def _answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            return await getattr(self._checker, method)(*arguments)
        except ServiceError as error:
            return error  # returned, as the checker's replica does


class SocketChecks:
    """The other end. Implements `serving.registry.intake.Checks`."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    async def check(self, path: Path) -> CheckReport:
        """The report of a good package; raises what the checker raised, or `NotReady` where there is none."""
        report: CheckReport = await self._asked("check", path)
        return report

    async def inspect(self, path: Path, text: str) -> Inspection:
        """The same for a dry run."""
        found: Inspection = await self._asked("inspect", path, text)
        return found

    async def build(self, job: MatrixJob, target: Path) -> None:
        """Write the package of a new vocabulary to a file."""
        await self._asked("build", job, target)

    async def _asked(self, method: str, *arguments: Any) -> Any:
        answer = await asyncio.to_thread(self._ask, method, arguments)
        if isinstance(answer, ServiceError):
            raise answer
        return answer

    def _ask(self, method: str, arguments: tuple[Any, ...]) -> Any:
        try:
            with Client(self._path, "AF_UNIX") as connection:
                connection.send((method, arguments))
                return connection.recv()
        except (EOFError, OSError) as error:
            raise NotReady("the checker was lost on the way; try again", retry_after=1.0) from error
