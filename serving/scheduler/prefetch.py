"""Bringing in the adapters of the next batches while this one runs, a few at a time, in the queue's own order."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from adapters.refs import AdapterRef
from serving.scheduler.waiting import Waiting


class Store(Protocol):
    """Where adapters come from; no method blocks on I/O."""

    def ready(self, refs: tuple[AdapterRef, ...]) -> Mapping[AdapterRef, int] | None:
        """Bytes on the device of each reference if all are resident now, else None."""
        ...

    def prefetch(self, refs: tuple[AdapterRef, ...]) -> None:
        """Start to bring in what is missing; asking again while that runs changes nothing."""
        ...


class Prefetcher:
    """Asks the store for at most `ahead` missing sets of adapters at a time, and tells who is to pay for the bytes."""

    def __init__(self, store: Store, ahead: int) -> None:
        self._store = store
        self._ahead = ahead
        self._moving: dict[AdapterRef, None] = {}  # the oldest first

    def ask(self, upcoming: Iterable[Waiting]) -> None:
        """Prefetch for the first rows that miss something; rows with the same adapters ask once."""
        asked: set[tuple[AdapterRef, ...]] = set()
        for row in upcoming:
            if len(asked) == self._ahead:
                break
            if row.refs in asked or self._store.ready(row.refs) is not None:
                continue
            asked.add(row.refs)
            self._moving |= {ref: None for ref in row.refs if self._store.ready((ref,)) is None}
            self._store.prefetch(row.refs)
        for ref in tuple(self._moving)[: -16 * self._ahead]:
            del self._moving[ref]  # came and was evicted within one step, unseen: rare, and must not pile up

    def arrived(self) -> dict[str, int]:
        """Bytes that came in since the last call, by the tenant they were moved for; each arrival is told once."""
        paid: dict[str, int] = {}
        for ref in tuple(self._moving):
            nbytes = self._store.ready((ref,))
            if nbytes is not None:
                del self._moving[ref]
                paid[ref.tenant] = paid.get(ref.tenant, 0) + nbytes[ref]
        return paid

    def forget(self, refs: Iterable[AdapterRef]) -> None:
        """These failed, or nobody waits for them any more."""
        for ref in refs:
            self._moving.pop(ref, None)
