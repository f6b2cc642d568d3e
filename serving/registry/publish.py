"""The writes of the control plane: durable first, then told to every gateway, then acknowledged.

A publish goes: stream to disk and hash, check in full, keep the blob, one transaction, refresh the own directory, nudge
the others. A crash between any two of these leaves either nothing that a name leads to, or the complete version.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from adapters.errors import InvalidName
from adapters.refs import parse_alias, parse_name
from serving.config import Limits
from serving.errors import DependencyFailed, TooLarge, Unprocessable, from_library
from serving.logs import log
from serving.registry.absence import missing_name
from serving.registry.blobs import BlobStore, Upload
from serving.registry.catalog import Actor, Catalog, Committed
from serving.registry.members import taken
from serving.registry.records import (
    DEFAULT_EMBEDDING,
    AuditEntry,
    CheckReport,
    Extension,
    MatrixJob,
    NameRecord,
    NewTarget,
    Published,
    Resolved,
    Space,
)
from serving.registry.snapshot import Directory
from serving.registry.targets import package_bytes, pinned

Nudge = Callable[[int], Awaitable[object]]  # tell every gateway a revision; returns when all heard or 1.5 s passed
_TELL_S = 1.5  # a gateway that has not answered by then reads the delta within 0.5 s of its own clock
_BUFFER = 1 << 20  # bytes that are written to disk at once
T = TypeVar("T")


class Checks(Protocol):
    """What reads an upload before anybody else does: `serving.registry.checker.Checker`."""

    async def check(self, path: Path) -> CheckReport:
        """The report of a good package; raises `Unprocessable` or `UnsupportedMedia` with every reason."""
        ...

    async def build(self, job: MatrixJob, target: Path) -> None:
        """Write the package of a new vocabulary to a file that is there; raises `Unprocessable` with every reason."""
        ...


class Publisher:
    """Publish, promote, pin and retire. Belongs to one event loop; SQL and files are touched in threads."""

    def __init__(
        self, *, catalog: Catalog, blobs: BlobStore, checker: Checks, directory: Directory, nudge: Nudge, limits: Limits
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._checker = checker
        self._directory = directory
        self._nudge = nudge
        self._limits = limits

    async def publish(
        self, caller: Actor, space: Space, name: str, body: AsyncIterator[bytes], *, promote: bool
    ) -> Published:
        """Take in one native package under a name; acknowledged when it is durable and every gateway knows it.

        Raises `BadRequest` (name), `TooLarge`, `UnsupportedMedia` (pickles), `Unprocessable` (all reasons), `Conflict`
        and `NotReady`.
        """
        _checked(parse_name, name)
        async with self._received(body) as upload:
            report = await self._examine(space, upload)

            def commit() -> Committed[Published]:
                self._blobs.keep(upload)
                return self._catalog.add_version(caller, space, name, report, promote=promote)

            return await self._acknowledged(commit)

    async def publish_target(self, caller: Actor, name: str, target: NewTarget, *, promote: bool) -> Published:
        """Store a target under a name of the adapters' namespace; the same composition again is the same version.

        Raises `BadRequest` (name), `Conflict` where the name holds a package, and `NotFound` where a member is gone.
        """
        _checked(parse_name, name)
        data = package_bytes(target.manifest)
        async with self._received(_whole(data)) as upload:
            report = CheckReport(upload.digest, upload.nbytes, target.manifest, 0, ())

            def commit() -> Committed[Published]:
                self._blobs.keep(upload)
                return self._catalog.add_version(
                    caller, "adapter", name, report, promote=promote, members=target.members
                )

            return await self._acknowledged(commit)

    async def extend(self, caller: Actor, name: str, extension: Extension, *, activate: bool) -> Published:
        """Make the token embedding of a new vocabulary and publish it under a new name; `activate` makes it active.

        Raises `BadRequest` (name), `Conflict` for a name that is taken, `TooLarge`, `Unprocessable` and `NotReady`.
        """
        _checked(parse_name, name)
        if any(record.name == name for record in self._directory.names(caller.tenant, "embedding")):
            raise taken(name)  # before the work; the transaction looks again
        async with self._built(extension) as upload:
            report = await self._examine("embedding", upload)

            def commit() -> Committed[Published]:
                self._blobs.keep(upload)
                return self._catalog.add_embedding(caller, name, report, activate=activate)

            return await self._acknowledged(commit)

    async def validate(self, caller: Actor, space: Space, body: AsyncIterator[bytes]) -> CheckReport:
        """The checks of `publish`, storing nothing."""
        async with self._received(body) as upload:
            return await self._examine(space, upload)

    async def set_alias(
        self, caller: Actor, space: Space, name: str, alias: str, version: int, *, if_match: int | None
    ) -> NameRecord:
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

    async def blob(self, resolved: Resolved) -> Path:
        """The native package on disk, verified; raises `DependencyFailed` where the bytes are lost or rotten."""
        digest = resolved.version.ref.digest
        if not await asyncio.to_thread(self._blobs.verify, digest):
            raise DependencyFailed(f"the bytes of {digest} are not in the blob store", code="blob_lost")
        return self._blobs.path(digest)

    async def _examine(self, space: Space, upload: Upload) -> CheckReport:
        report = await self._checker.check(upload.path)
        if report.digest != upload.digest:
            raise Unprocessable("the checker read other bytes than were received", code="check_failed")
        if (report.manifest.kind == "embedding") != (space == "embedding"):
            route = "/v1/token-embeddings" if report.manifest.kind == "embedding" else "/v1/adapters"
            raise Unprocessable(f"a package of kind {report.manifest.kind!r} belongs under {route}", code="wrong_kind")
        return report

    @asynccontextmanager
    async def _built(self, extension: Extension) -> AsyncIterator[Upload]:
        """The package that the checker makes of an extension, as if it had been received."""
        async with AsyncExitStack() as files:
            own = await files.enter_async_context(self._received(_whole(extension.tokenizer)))
            theirs = None
            if extension.reference_tokenizer is not None:
                theirs = await files.enter_async_context(self._received(_whole(extension.reference_tokenizer)))
            package = None if extension.reference is None else await self.blob(extension.reference)
            job = MatrixJob(
                tokenizer=own.path,
                copy=extension.copy,
                package=package,
                reference_tokenizer=None if theirs is None else theirs.path,
                seed=extension.seed,
                max_bytes=self._limits.max_package_bytes,
                source=_source(extension),
            )
            made = await asyncio.to_thread(self._blobs.receive)
            files.callback(made.discard)
            await self._checker.build(job, made.path)
            await asyncio.to_thread(made.adopt)
            yield made

    @asynccontextmanager
    async def _received(self, body: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        upload = await asyncio.to_thread(self._blobs.receive)
        try:
            await self._fill(upload, body)
            yield upload
        finally:
            upload.discard()

    async def _fill(self, upload: Upload, body: AsyncIterator[bytes]) -> None:
        limit, pending = self._limits.max_package_bytes, bytearray()
        async for chunk in body:
            if upload.nbytes + len(pending) + len(chunk) > limit:
                raise TooLarge(f"a package may have at most {limit} bytes", code="package_too_large")
            pending += chunk
            if len(pending) >= _BUFFER:
                await asyncio.to_thread(upload.write, bytes(pending))
                pending.clear()
        await asyncio.to_thread(upload.write, bytes(pending))
        if upload.nbytes == 0:
            raise Unprocessable("the body is empty: send one native package", code="invalid_package")

    async def _acknowledged(self, write: Callable[[], Committed[T]]) -> T:
        """Run a durable write, then tell everyone. Once durable, nothing makes it a failure any more."""
        committed = await asyncio.to_thread(write)
        telling = [self._directory.refresh(committed.revision), self._told(committed.revision)]
        for outcome in await asyncio.gather(*telling, return_exceptions=True):
            if isinstance(outcome, BaseException):
                log(
                    "registry",
                    "not everyone heard of a revision",
                    level=logging.WARNING,
                    revision=committed.revision,
                    why=repr(outcome),
                )
        return committed.value

    async def _told(self, revision: int) -> None:
        async with asyncio.timeout(_TELL_S):
            await self._nudge(revision)


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _source(extension: Extension) -> str:
    if not extension.copy:
        return ""
    return DEFAULT_EMBEDDING if extension.reference is None else pinned(extension.reference)


def _checked(parse: Callable[[str], str], text: str) -> None:
    try:
        parse(text)
    except InvalidName as error:
        raise from_library(error) from error
