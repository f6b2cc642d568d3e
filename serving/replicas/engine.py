"""An engine: the backbone and its adapters, on a thread of their own; this shell moves values in and out."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.refs import AdapterRef
from serving.config import ServiceSettings
from serving.engine.yielding import yielding
from serving.errors import ServiceError
from serving.registry.blobs.opening import open_blobs
from serving.registry.blobs.source import source_of
from serving.replicas.listener import Listener
from serving.replicas.surroundings import ENGINE, host_of, reported, settle, settled
from serving.request import Desired, Holding, ReplicaReport

if TYPE_CHECKING:
    from serving.engine.engine import Engine

HOLDING_LINES = 64  # tenants whose queue is told to the gateways


class EngineReplica:
    """A thin shell over `serving.engine.engine.Engine`, which takes tickets by `listener` and all else from Ray Serve."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._replica = settle(settings, ENGINE)
        with reported(settings):
            self._engine = yielding(_engine).build(settings, source_of(open_blobs(settings)), self._replica)
        self._listener = Listener(self._engine, host_of(settings))
        self._patience_s = settings.limits.max_timeout_ms / 1000  # no row is here for longer
        self._keeping: asyncio.Task[None] | None = None
        self.__del__ = self._leave  # Ray Serve awaits it when it ends a replica; Python looks for one on the class only
        settled()

    async def report(self, *, replica: str = "") -> ReplicaReport:
        """What this engine says of itself; `replica` is the router's hint, here and below."""
        return self._engine.report()

    async def holdings(self, desired: Desired) -> Holding:
        """What a ticket would find here without a fetch from disk, and what waits. `desired` is what has to be here."""
        self._engine.desire(desired)
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.create_task(asyncio.to_thread(self._engine.reconcile))
        report = self._engine.report()
        cost, _, lines = self._engine.waiting(HOLDING_LINES)
        return Holding(
            self._replica,
            frozenset((entry.tenant, entry.digest) for entry in report.entries if entry.tier != "disk"),
            queued_cost=cost,
            cost_per_s=report.cost_per_s,
            layers=self._engine.layers,
            revision=self._engine.revision,
            warm=self._engine.warm,
            lines=tuple((line.tenant, line.cost) for line in lines),
            free_rows=max(0, self._engine.max_queued - report.queued),
            bad=report.bad,
            listens=await self._listener.address(),
        )

    async def preload(self, ref: AdapterRef, pinned: bool, *, replica: str = "") -> tuple[str, str]:
        """Load a version, and pin it where that is asked; the engine's id and the tier, or the error."""
        try:
            return self._replica, await asyncio.to_thread(self._engine.pin if pinned else self._engine.preload, ref)
        except ServiceError as error:
            return self._replica, f"error: {error.detail}"

    async def room(self, refs: Sequence[AdapterRef], *, replica: str = "") -> tuple[str, int, int]:
        """The engine's id, the bytes that pinning these needs here, and the bytes that may still be pinned.

        Raises `ServiceError` where one of them can not be loaded: this engine then has no numbers to give.
        """
        return self._replica, *await asyncio.to_thread(self._engine.room, refs)

    async def unload(self, ref: AdapterRef, *, replica: str = "") -> tuple[str, str]:
        """Evict and unpin a version; the engine's id and the outcome."""
        return self._replica, await asyncio.to_thread(self._engine.unload, ref)

    async def drain(self, timeout_s: float) -> tuple[str, bool]:
        """Take no new tickets and finish those that are here; the engine's id, and whether all were answered in time.

        What was not is refused, as by any replica on its way out: nothing is on board when the process ends.
        """
        done = await asyncio.to_thread(self._engine.drain, timeout_s)
        if not done:
            await asyncio.to_thread(self._engine.close)
        return self._replica, done

    async def _leave(self) -> None:
        """Finish what is here; new tickets are refused as not ready meanwhile, and go elsewhere."""
        await self.drain(self._patience_s)
        await self._listener.close()

    async def retire(self, refs: Sequence[AdapterRef], *, replica: str = "") -> None:
        """Have packages leave every tier, each once its last lease ends."""
        for ref in refs:
            self._engine.retire(ref)

    async def metrics(self, *, replica: str = "") -> tuple[str, str]:
        """The engine's id and Prometheus text."""
        return self._replica, self._engine.metrics_text()

    async def check_health(self) -> None:
        """Asked by Ray Serve every two seconds; raising has this replica replaced."""
        report = self._engine.report()
        if not report.ready:
            raise RuntimeError("; ".join(report.faults))


def _engine() -> "type[Engine]":
    """Imported late: the process that starts the service pickles the replica's class, and needs no torch for it."""
    from serving.engine.engine import Engine  # noqa: PLC0415

    return Engine
