"""Bringing in the adapters of the next batches while this one runs: a few for each tenant, in the queue's own order.

What was brought in and waits for its row counts as well: to look further ahead would only evict it again. The places
are shared among the tenants that miss something, so that one with hundreds of cold adapters does not fill the line.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

from adapters.refs import AdapterRef
from serving.scheduler.waiting import Waiting

Refs = tuple[AdapterRef, ...]


class Store(Protocol):
    """Where adapters come from; no method blocks on I/O."""

    def ready(self, refs: Refs) -> Mapping[AdapterRef, int] | None:
        """Bytes on the device of each reference if all are resident now, else None."""
        ...

    def prefetch(self, refs: Refs, tenant: str) -> None:
        """Start to bring in what is missing, on a tenant's behalf; asking again while that runs changes nothing."""
        ...

    def moved(self, ref: AdapterRef) -> int:
        """Bytes that bringing in a reference has moved."""
        ...


class Prefetcher:
    """Keeps at most `ahead` sets of adapters on their way or in waiting, and tells who is to pay for the bytes."""

    def __init__(self, store: Store, ahead: int) -> None:
        self._store = store
        self._ahead = ahead
        self._asked: dict[str, set[Refs]] = {}  # by tenant: on their way, or there for a row that still waits
        self._moving: dict[AdapterRef, str] = {}  # who pays; the oldest first

    def ask(self, upcoming: Iterable[Waiting]) -> None:
        """Prefetch for the first rows that miss something; rows with the same adapters ask once."""
        ready: dict[Refs, bool] = {}
        wanted: dict[str, dict[Refs, None]] = {}  # tenants, and the sets of each, in the order of their turns
        for row in upcoming:
            if row.refs not in ready:
                ready[row.refs] = self._store.ready(row.refs) is not None
            wanted.setdefault(row.ticket.tenant, {})[row.refs] = None
        self._asked = {tenant: asked & sets.keys() for tenant, sets in wanted.items() if (asked := self._of(tenant))}
        missing = {t: gone for t, sets in wanted.items() if (gone := [refs for refs in sets if not ready[refs]])}
        for tenant, sets in missing.items():
            asked = self._asked.setdefault(tenant, set())
            for refs in sets:
                if refs in asked or len(asked) < max(1, self._ahead // len(missing)):
                    self._start(refs, tenant)  # also behind a set that finds no place: those that have one are kept
        for ref in tuple(self._moving)[: -16 * self._ahead]:
            del self._moving[ref]  # came and was evicted within one step, unseen: rare, and must not pile up

    def came(self, row: Waiting) -> None:
        """A row came: what it misses is asked for at once if its tenant has a place left, a step earlier than by `ask`."""
        refs, tenant = row.refs, row.ticket.tenant
        asked = self._of(tenant)
        places = max(1, self._ahead // len({*self._asked, tenant}))
        if refs and refs not in asked and len(asked) < places and self._store.ready(refs) is None:
            self._start(refs, tenant)

    def arrived(self) -> dict[str, dict[AdapterRef, int]]:
        """Adapters (bytes) that came in since the last call, by the tenant they were moved for; each is told once."""
        came: dict[str, dict[AdapterRef, int]] = {}
        for ref, tenant in tuple(self._moving.items()):
            if self._store.ready((ref,)) is not None:
                del self._moving[ref]
                came.setdefault(tenant, {})[ref] = self._store.moved(ref)
        return came

    def forget(self, refs: Iterable[AdapterRef]) -> None:
        """These failed, or nobody waits for them any more."""
        for ref in refs:
            self._moving.pop(ref, None)

    def _start(self, refs: Refs, tenant: str) -> None:
        self._asked.setdefault(tenant, set()).add(refs)
        for ref in refs:
            if self._store.ready((ref,)) is None:
                self._moving.setdefault(ref, tenant)
        self._store.prefetch(refs, tenant)

    def _of(self, tenant: str) -> set[Refs]:
        return self._asked.get(tenant, set())
