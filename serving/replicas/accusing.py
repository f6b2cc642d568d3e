"""Engines that find bytes wrong are heard: the package is looked into, once, while the row is answered."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from serving.api.services import Submit
from serving.logs import log
from serving.request import Refusal, Reply, Ticket

BAD_BYTES = frozenset({"blob_lost", "blob_rotten"})


class Accusing:
    """A `Submit` that reports the packages of rows which were refused for what the blob store gave.

    `report` looks into a digest, and puts in quarantine what is really bad; which package of the row it was, only it
    can tell.
    """

    def __init__(self, submit: Submit, report: Callable[[str], Awaitable[object]]) -> None:
        self._submit = submit
        self._report = report
        self._reports: set[asyncio.Task[None]] = set()

    async def submit(self, tickets: Sequence[Ticket], timeout_s: float) -> Sequence[Reply]:
        """One reply per ticket, in order."""
        replies = await self._submit.submit(tickets, timeout_s)
        pairs = zip(tickets, replies, strict=True)
        bad = [ticket for ticket, reply in pairs if isinstance(reply, Refusal) and reply.code in BAD_BYTES]
        for digest in sorted({ref.digest for ticket in bad for ref in ticket.refs}):
            task = asyncio.create_task(self._look(digest))
            self._reports.add(task)
            task.add_done_callback(self._reports.discard)
        return replies

    async def _look(self, digest: str) -> None:
        try:
            await self._report(digest)
        except Exception:  # the store or the registry is away: the next accusation tries again
            log("gateway", "a package could not be looked into", level=logging.WARNING, error=True, digest=digest)
