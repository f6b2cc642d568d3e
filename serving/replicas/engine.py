"""An engine: the backbone and its adapters, on a thread of their own; this shell moves values in and out."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from adapters.refs import AdapterRef
from serving.affinity import Key
from serving.config import ServiceSettings
from serving.errors import ServiceError
from serving.logs import log
from serving.registry.blobs import BlobStore
from serving.replicas.surroundings import ENGINE, reported, settle
from serving.request import Desired, Holding, ReplicaReport, Reply, Ticket


class EngineReplica:
    """A thin shell over `serving.engine.engine.Engine`, whose replies leave in the groups in which they finish."""

    def __init__(self, settings: ServiceSettings) -> None:
        # Imported here: the process that starts the service pickles this class, and needs no torch for it.
        from serving.engine.engine import Engine  # noqa: PLC0415

        self._replica = settle(settings, ENGINE)
        with reported(settings):
            self._engine = Engine.build(settings, BlobStore(settings.data / "blobs").path, self._replica)
        self._desired = Desired(0)
        self._kept: dict[Key, AdapterRef] = {}  # pinned here
        self._failed: dict[Key, str] = {}  # could not be pinned, and why; told once
        self._keeping: asyncio.Task[None] | None = None

    async def predict(self, tickets: Sequence[Ticket], *, replica: str) -> AsyncIterator[tuple[Reply, ...]]:
        """Exactly one reply per ticket, in groups; `replica` is the router's hint. An early end cancels the rest."""
        loop, groups = asyncio.get_running_loop(), asyncio.Queue[tuple[Reply, ...]]()
        left = {ticket.id for ticket in tickets}

        def hand_over(group: tuple[Reply, ...]) -> None:  # called on the forward thread
            loop.call_soon_threadsafe(groups.put_nowait, group)

        self._engine.submit(tickets, hand_over)
        try:
            while left:
                group = await groups.get()
                while not groups.empty():
                    group += groups.get_nowait()
                left.difference_update(reply.ticket for reply in group)
                yield group
        finally:
            if left:
                self._engine.cancel(tuple(left))

    async def cancel(self, ids: Sequence[str], *, replica: str) -> None:
        """Nobody waits for these tickets any more."""
        self._engine.cancel(ids)

    async def report(self) -> ReplicaReport:
        """What this engine says of itself."""
        return self._engine.report()

    async def holdings(self, desired: Desired) -> Holding:
        """What a ticket would find here without a fetch from disk: for routing. `desired` is what has to be here."""
        if desired.revision >= self._desired.revision:  # a gateway that is behind is not listened to
            self._desired = desired
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(self._keep())
        entries = self._engine.report().entries
        keys = frozenset((entry.tenant, entry.digest) for entry in entries if entry.tier != "disk")
        return Holding(self._replica, keys, revision=self._desired.revision)

    async def preload(self, ref: AdapterRef, pinned: bool) -> tuple[str, str]:
        """Load a version, and pin it where that is asked; the engine's id and the tier, or the error."""
        load = self._engine.pin if pinned else self._engine.preload
        try:
            tier = await asyncio.to_thread(load, ref)
        except ServiceError as error:
            return self._replica, f"error: {error.detail}"
        if pinned:
            self._kept[ref.key] = ref
        return self._replica, tier

    async def unload(self, ref: AdapterRef) -> tuple[str, str]:
        """Evict and unpin a version; the engine's id and the outcome."""
        self._kept.pop(ref.key, None)
        return self._replica, await asyncio.to_thread(self._engine.unload, ref)

    async def retire(self, refs: Sequence[AdapterRef]) -> None:
        """Have packages leave every tier, each once its last lease ends."""
        for ref in refs:
            self._engine.retire(ref)

    async def metrics(self) -> tuple[str, str]:
        """The engine's id and Prometheus text."""
        return self._replica, self._engine.metrics_text()

    async def check_health(self) -> None:
        """Asked by Ray Serve every two seconds; raising has this replica replaced."""
        if not self._engine.report().ready:
            raise RuntimeError("the forward thread has ended")

    async def _keep(self) -> None:
        """Pin what is wanted and not here yet, and let go of the rest; what fails is tried again at the next question."""
        wanted = {ref.key: ref for ref in self._desired.pins}
        for key in self._kept.keys() - wanted.keys():
            self._engine.unpin(self._kept.pop(key))
        for key, ref in wanted.items():
            if key in self._kept:
                continue
            _, outcome = await self.preload(ref, pinned=True)
            if key not in self._kept and self._failed.get(key) != outcome:
                self._failed[key] = outcome
                log("engine", "could not pin", version=str(ref), outcome=outcome)
