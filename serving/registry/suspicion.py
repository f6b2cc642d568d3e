"""From "these bytes are wrong" to a quarantine: nobody is believed before the store itself was read.

An engine whose own disk or memory is bad would accuse every package; so the accusation is looked into here, once for all
who make it, and only what the store really lost or damaged is taken out of service.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serving.errors import NotReady
from serving.logs import log
from serving.registry.blobs.store import Blobs, State
from serving.registry.catalog import Catalog

REASONS: dict[State, str] = {
    "lost": "the blob store lost the bytes: publish them again",
    "rotten": "the blob store holds other bytes: publish the right ones again",
}
_AGAIN_S = 10.0  # what was found sound is not read again before that, however many accuse it
_REMEMBERED = 1000


def examine(blobs: Blobs, digest: str) -> State:
    """What the store holds of a digest; what looks wrong is read a second time."""
    state = blobs.state(digest)
    return state if state == "sound" else blobs.state(digest)


@dataclass(frozen=True)
class Verdict:
    """What the store holds of a digest, and the revision at which a quarantine of it began or ended, if one did."""

    state: State
    revision: int | None


def confine(catalog: Catalog, blobs: Blobs, digest: str, state: State) -> Verdict:
    """Put in quarantine what was found lost or damaged, and look again: it may have been published anew meanwhile.

    Whoever publishes it later than that finds the quarantine and lifts it. Raises `NotReady` where the registry is away.
    """
    committed = catalog.quarantine(digest, REASONS[state])
    if not committed.value:
        return Verdict(state, None)
    try:
        if blobs.state(digest) == "sound":
            return Verdict("sound", catalog.lift(digest).revision)
    except NotReady as error:
        log("registry", "a quarantine could not be looked into again", level=logging.WARNING, why=error.detail)
    log("registry", "stored bytes are bad", level=logging.ERROR, digest=digest, state=state)
    return Verdict(state, committed.revision)


class Suspicions:
    """Accusations of one gateway. Belongs to one event loop.

    `tell` has every gateway know a revision of the registry, as a publish does.
    """

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        tell: Callable[[int], Awaitable[object]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._tell = tell
        self._clock = clock
        self._open: dict[str, asyncio.Task[State]] = {}
        self._sound: dict[str, float] = {}  # digest -> when it was found to be right

    async def report(self, digest: str) -> State:
        """Look into an accusation; what the store lost or damaged is in quarantine when this returns.

        Raises `NotReady` where the store or the registry does not answer; the next accusation tries again.
        """
        if self._clock() - self._sound.get(digest, -_AGAIN_S) < _AGAIN_S:
            return "sound"
        task = self._open.get(digest)
        if task is None:
            task = self._open[digest] = asyncio.create_task(self._look(digest))
            task.add_done_callback(lambda _: self._open.pop(digest))
        return await asyncio.shield(task)  # who gives up waiting does not end it for the others

    def check(self) -> tuple[str, ...]:
        """Accusations that nobody looks into; empty when sound."""
        return tuple(f"suspicions: {digest} is left open" for digest, task in self._open.items() if task.done())

    async def _look(self, digest: str) -> State:
        state = await asyncio.to_thread(examine, self._blobs, digest)
        if state == "sound":
            self._sound.pop(digest, None)
            self._sound[digest] = self._clock()
            if len(self._sound) > _REMEMBERED:
                del self._sound[next(iter(self._sound))]
            return state
        verdict = await asyncio.to_thread(confine, self._catalog, self._blobs, digest, state)
        if verdict.revision is not None:
            await self._tell(verdict.revision)
        return verdict.state
