"""The writes of the control plane: durable first, then told to every gateway, then acknowledged.

A publish goes: stream to disk and hash, check in full, keep the blob, one transaction, refresh the own directory, nudge
the others. A crash between any two of these leaves either nothing that a name leads to, or the complete version. What
was asked for with an idempotency key is answered again as it was, by the transaction that would write it twice.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from adapters.errors import InvalidName
from adapters.refs import parse_alias, parse_name
from serving.config import Limits
from serving.errors import from_library
from serving.logs import log
from serving.registry.absence import missing_name
from serving.registry.blobs.keeping import keep_and_write
from serving.registry.blobs.store import Blobs, verified
from serving.registry.blobs.uploads import Upload
from serving.registry.catalog import Actor, Catalog, Committed
from serving.registry.doom import Still
from serving.registry.inspection import Inspection
from serving.registry.intake import Checks, Intake, whole
from serving.registry.members import taken
from serving.registry.records import (
    AuditEntry,
    CheckReport,
    Extension,
    Moved,
    NameRecord,
    NewTarget,
    Once,
    Published,
    Resolved,
    Space,
    Tombstone,
)
from serving.registry.snapshot import Directory
from serving.registry.targets import package_bytes
from serving.registry.versions import nameable

Nudge = Callable[[int], Awaitable[object]]  # tell every gateway a revision; returns when all heard or 1.5 s passed
OnceOf = Callable[[str], Once]  # by the digest of the body, which is known when all of it is there
_TELL_S = 1.5  # a gateway that has not answered by then reads the delta within 0.5 s of its own clock
T = TypeVar("T")


class Publisher:
    """Publish, promote, pin and retire. Belongs to one event loop; SQL and files are touched in threads."""

    def __init__(
        self, *, catalog: Catalog, blobs: Blobs, checker: Checks, directory: Directory, nudge: Nudge, limits: Limits
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._intake = Intake(blobs.receive, checker, limits)
        self._directory = directory
        self._nudge = nudge

    async def publish(
        self,
        caller: Actor,
        space: Space,
        name: str,
        body: AsyncIterator[bytes],
        *,
        promote: bool,
        once: OnceOf | None = None,
    ) -> Published:
        """Take in one native package under a name; acknowledged when it is durable and every gateway knows it.

        Raises `BadRequest` (name), `TooLarge`, `UnsupportedMedia` (pickles), `Unprocessable` (all reasons, or the key of
        another request), `Conflict` and `NotReady`.
        """
        _checked(parse_name, name)
        async with self._intake.received(body) as upload:
            asked = None if once is None else once(upload.digest)
            if told := await self.recall(caller, asked):
                return told
            report = await self._intake.examine(space, upload)

            def write(still: Still) -> Committed[Published]:
                return self._catalog.add_version(caller, space, name, report, promote=promote, once=asked, still=still)

            return await self._kept(upload, write)

    async def publish_target(
        self, caller: Actor, name: str, target: NewTarget, *, promote: bool, once: Once | None = None
    ) -> Published:
        """Store a target under a name of the adapters' namespace; the same composition again is the same version.

        Raises `BadRequest` (name), `Conflict` where the name holds a package, and `NotFound` where a member is gone.
        """
        _checked(parse_name, name)
        data = package_bytes(target.manifest)
        async with self._intake.received(whole(data)) as upload:
            report = CheckReport(upload.digest, upload.nbytes, target.manifest, 0, ())

            def write(still: Still) -> Committed[Published]:
                return self._catalog.add_version(
                    caller, "adapter", name, report, promote=promote, members=target.members, once=once, still=still
                )

            return await self._kept(upload, write)

    async def extend(
        self, caller: Actor, name: str, extension: Extension, *, activate: bool, once: Once | None = None
    ) -> Published:
        """Make the token embedding of a new vocabulary and publish it under a new name; `activate` makes it active.

        Raises `BadRequest` (name), `Conflict` for a name that is taken, `TooLarge`, `Unprocessable` and `NotReady`.
        """
        _checked(parse_name, name)
        if any(record.name == name for record in self._directory.names(caller.tenant, "embedding")):
            if told := await self.recall(caller, once):  # the same request took it, a moment ago
                return told
            raise taken(name)  # before the work; the transaction looks again
        reference = None if extension.reference is None else await self.blob(extension.reference)
        async with self._intake.built(extension, reference) as upload:
            report = await self._intake.examine("embedding", upload)

            def write(still: Still) -> Committed[Published]:
                return self._catalog.add_embedding(caller, name, report, activate=activate, once=once, still=still)

            return await self._kept(upload, write)

    async def recall(self, caller: Actor, once: Once | None) -> Published | None:
        """What was answered to this very request before, if anything; raises `Unprocessable` for another one's key."""
        found = None if once is None else await asyncio.to_thread(self._catalog.answered, caller.tenant, once)
        return None if found is None else replace(found, replayed=True)

    async def inspect(
        self, caller: Actor, space: Space, name: str, body: AsyncIterator[bytes], text: str
    ) -> Inspection:
        """The checks of `publish` and a trial on a text, storing nothing; raises as `publish` does."""
        _checked(parse_name, name)
        nameable(caller.tenant, space, name)
        async with self._intake.received(body) as upload:
            return await self._intake.inspect(space, upload, text)

    async def set_alias(
        self, caller: Actor, space: Space, name: str, alias: str, version: int, *, if_match: int | None
    ) -> Moved:
        """Point an alias at a version: promote and rollback."""
        _checked(parse_alias, alias)
        return await self._acknowledged(
            lambda: self._catalog.set_alias(caller, space, name, alias, version, if_match=if_match)
        )

    async def delete_alias(
        self, caller: Actor, space: Space, name: str, alias: str, *, if_match: int | None
    ) -> NameRecord:
        """Remove an alias."""
        return await self._acknowledged(
            lambda: self._catalog.delete_alias(caller, space, name, alias, if_match=if_match)
        )

    async def gate_failed(self, caller: Actor, space: Space, name: str, version: int, reason: str) -> None:
        """Say in the audit that a promote was asked for, and why it did not happen."""
        await asyncio.to_thread(
            self._catalog.note, caller, space, name, "gate", subject=f"{name}@{version}", detail=reason
        )

    async def set_tags(
        self,
        caller: Actor,
        space: Space,
        name: str,
        version: int,
        tags: Mapping[str, str],
        *,
        if_match: int | None = None,
    ) -> NameRecord:
        """Give a version these tags and no others."""
        return await self._acknowledged(
            lambda: self._catalog.set_tags(caller, space, name, version, tags, if_match=if_match)
        )

    async def delete(self, caller: Actor, space: Space, name: str, version: int | None) -> None:
        """Retire a version, or a whole name; `Conflict` where an alias or pin holds it."""
        await self._acknowledged(lambda: self._catalog.delete(caller, space, name, version))

    async def set_pin(self, caller: Actor, space: Space, name: str, version: int, *, pinned: bool) -> NameRecord:
        """Pin or unpin a version."""
        return await self._acknowledged(lambda: self._catalog.set_pin(caller, space, name, version, pinned=pinned))

    async def set_active_embedding(self, caller: Actor, name: str | None) -> None:
        """Make a token embedding the tenant's default vocabulary; None is the backbone's own."""
        await self._acknowledged(lambda: self._catalog.set_active_embedding(caller, name))

    async def history(self, tenant: str, space: Space, name: str) -> Sequence[AuditEntry]:
        """Audit rows of one name, newest first; raises `NotFound` for a name that never was."""
        entries = await asyncio.to_thread(self._catalog.history, tenant, space, name)
        if not entries:
            raise missing_name(space, name, [record.name for record in self._directory.names(tenant, space)])
        return entries

    async def retired(self, tenant: str, space: Space, name: str) -> Sequence[Tombstone]:
        """What is left of the versions of a name that were retired."""
        return await asyncio.to_thread(self._catalog.tombstones, tenant, space, name)

    async def blob(self, resolved: Resolved) -> Path:
        """The native package on disk, verified; raises `DependencyFailed` where the bytes are lost or rotten."""
        digest = resolved.version.ref.digest
        return await asyncio.to_thread(verified, self._blobs, digest)

    async def _kept(self, upload: Upload, write: Callable[[Still], Committed[Published]]) -> Published:
        """Keep the bytes and write what refers to them: no collector comes between the two."""
        committed = await asyncio.to_thread(keep_and_write, self._catalog.undoomed, self._blobs, upload, write)
        await self._tell(committed.revision)
        return replace(committed.value, replayed=committed.replayed)

    async def _acknowledged(self, write: Callable[[], Committed[T]]) -> T:
        committed = await asyncio.to_thread(write)
        await self._tell(committed.revision)
        return committed.value

    async def _tell(self, revision: int) -> None:
        """Have every gateway know a revision. What is durable is no failure any more, whoever does not hear of it."""
        telling = [self._directory.refresh(revision), self._told(revision)]
        for outcome in await asyncio.gather(*telling, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log(
                    "registry",
                    "not everyone heard of a revision",
                    level=logging.WARNING,
                    revision=revision,
                    why=repr(outcome),
                )

    async def _told(self, revision: int) -> None:
        async with asyncio.timeout(_TELL_S):
            await self._nudge(revision)


def _checked(parse: Callable[[str], str], text: str) -> None:
    try:
        parse(text)
    except InvalidName as error:
        raise from_library(error) from error
