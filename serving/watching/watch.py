"""Which of the watched places are published now: those that lay still between two looks, and were not tried as they are."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from adapters.errors import AdapterError
from serving.errors import NotReady, ServiceError, from_library
from serving.logs import log
from serving.registry.journal import Journal, Outcome
from serving.registry.records import Published
from serving.watching.places import Place, Stray, Unfit, look, signature

AGAIN_S = 10.0  # after a refusal that is nobody's fault: the registry is away, the disk is full


class Publish(Protocol):
    """How a place becomes a version: `serving.watching.process.Post`."""

    async def __call__(self, place: Place) -> Published:
        """Read, check and publish; raises `ServiceError` or `AdapterError` with every reason."""
        ...


class Watch:
    """Looks at one folder. `scan` is to be called about once a second, by one task."""

    def __init__(
        self,
        root: Path,
        publish: Publish,
        journal: Journal,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._publish = publish
        self._journal = journal
        self._clock = clock
        self._now = now
        self._seen: dict[str, str] = {}  # signatures at the last look
        self._again: dict[str, float] = {}  # when to try what was nobody's fault
        self._lost = False

    async def scan(self) -> None:
        """Look once, and publish what is ready."""
        try:
            found = await asyncio.to_thread(lambda: list(look(self._root)))
        except OSError as error:
            if not self._lost:
                log("watch", "the folder can not be read", level=logging.ERROR, folder=str(self._root), why=str(error))
            self._lost = True
            return
        self._lost = False
        for item in found:
            if isinstance(item, Stray):
                self._refuse(Outcome(item.where, "", "", "", "refused", self._now(), reasons=(item.reason,)))
            else:
                await self._visit(item)
        self._forget({item.where for item in found})

    async def _visit(self, place: Place) -> None:
        try:
            mark = await asyncio.to_thread(signature, place.path)
        except OSError:  # it went, or is being replaced: the next look knows
            self._seen.pop(place.where, None)
            return
        except Unfit as error:
            self._refuse(self._outcome(place, "", str(error)))
            return
        still = self._seen.get(place.where) == mark
        self._seen[place.where] = mark
        held = self._journal.of(place.where)
        tried = held is not None and held.signature == mark and held.state != "waiting"
        if still and not tried and self._clock() >= self._again.get(place.where, 0.0):
            await self._try(place, mark)

    async def _try(self, place: Place, mark: str) -> None:
        try:
            published = await self._publish(place)
        except NotReady as error:
            self._again[place.where] = self._clock() + max(AGAIN_S, error.retry_after or 0.0)
            self._refuse(replace(self._outcome(place, mark, error.detail), state="waiting"))
            return
        except OSError:  # a file went while it was read
            self._seen.pop(place.where, None)
            return
        except (ServiceError, AdapterError) as error:
            if await self._changed(place, mark):
                return  # half of the old and half of the new: what is there now is tried when it lies still
            self._refuse(self._outcome(place, mark, *_reasons(error)))
            return
        ref = published.version.ref
        told = "published" if published.created else "was published already"
        log("watch", told, place=place.where, tenant=ref.tenant, version=ref.version, digest=ref.digest)
        self._again.pop(place.where, None)
        done = Outcome(place.where, place.tenant, place.name, mark, "published", self._now(), ref.version, ref.digest)
        self._journal.keep(done, word="published" if published.created else "unchanged")

    async def _changed(self, place: Place, mark: str) -> bool:
        try:
            return await asyncio.to_thread(signature, place.path) != mark
        except (OSError, Unfit):
            return True

    def _refuse(self, outcome: Outcome) -> None:
        """Say it, once for as long as nothing changes."""
        held = self._journal.of(outcome.place)
        if held is not None and replace(held, at=outcome.at) == outcome:
            return
        reasons = list(outcome.reasons)
        log("watch", f"not published: {outcome.state}", level=logging.WARNING, place=outcome.place, reasons=reasons)
        self._journal.keep(outcome)

    def _outcome(self, place: Place, mark: str, *reasons: str) -> Outcome:
        return Outcome(place.where, place.tenant, place.name, mark, "refused", self._now(), reasons=reasons)

    def _forget(self, there: set[str]) -> None:
        for where in self._journal.places - there:
            log("watch", "gone; its versions stay until they are retired", place=where)
            self._journal.forget(where)
        for gone in self._seen.keys() - there:
            del self._seen[gone]
            self._again.pop(gone, None)


def _reasons(error: ServiceError | AdapterError) -> tuple[str, ...]:
    refusal = from_library(error) if isinstance(error, AdapterError) else error
    return tuple(fault.detail for fault in refusal.faults) or (refusal.detail,)
