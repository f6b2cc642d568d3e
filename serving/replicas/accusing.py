"""Engines that find bytes wrong are heard: the package is looked into, once, while the row is answered."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from serving.api.services import Submit
from serving.logs import log
from serving.registry.blobs.store import State
from serving.request import Holding, Refusal, Reply, Ticket

BAD_BYTES = frozenset({"blob_lost", "blob_rotten"})


class Accusing:
    """A `Submit` that reports the packages of rows which were refused for what the blob store gave.

    `report` looks into a digest, and puts in quarantine what is really bad; which package of the row it was, only it
    can tell. What engines could not pin or preload comes by `hear`, again and again until it is settled.
    """

    def __init__(self, submit: Submit, report: Callable[[str], Awaitable[State]]) -> None:
        self._submit = submit
        self._report = report
        self._reports: dict[str, asyncio.Task[None]] = {}
        self._settled = set[str]()  # found to be bad, and still told by an engine

    async def submit(self, tickets: Sequence[Ticket], timeout_s: float) -> Sequence[Reply]:
        """One reply per ticket, in order."""
        replies = await self._submit.submit(tickets, timeout_s)
        pairs = zip(tickets, replies, strict=True)
        bad = [ticket for ticket, reply in pairs if isinstance(reply, Refusal) and reply.code in BAD_BYTES]
        for digest in sorted({ref.digest for ticket in bad for ref in ticket.refs}):
            self._begin(digest)
        return replies

    def hear(self, holdings: Mapping[str, Holding]) -> None:
        """What every engine says now; whom it accuses is looked into until the store was read."""
        told = frozenset[str]().union(*(holding.bad for holding in holdings.values()))
        self._settled &= told
        for digest in sorted(told - self._settled):
            self._begin(digest)

    def _begin(self, digest: str) -> None:
        if digest not in self._reports:
            task = self._reports[digest] = asyncio.create_task(self._look(digest))
            task.add_done_callback(lambda _: self._reports.pop(digest))

    async def _look(self, digest: str) -> None:
        try:
            state = await self._report(digest)
        except Exception:  # the store or the registry is away: the next accusation tries again
            log("gateway", "a package could not be looked into", level=logging.WARNING, error=True, digest=digest)
        else:
            if state != "sound":
                self._settled.add(digest)
