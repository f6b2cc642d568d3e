"""What arrives, before anything is stored: streamed to disk and hashed, then checked in full.

An upload that is not kept leaves nothing, whatever becomes of the request.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from serving.config import Limits
from serving.errors import TooLarge, Unprocessable
from serving.registry.blobs.uploads import Upload
from serving.registry.inspection import Inspection
from serving.registry.records import DEFAULT_EMBEDDING, CheckReport, Extension, MatrixJob, Space
from serving.registry.targets import pinned

_BUFFER = 4 << 20  # bytes that are written to disk at once: each turn of a thread holds up what else the loop does


class Checks(Protocol):
    """What reads an upload before anybody else does: `serving.registry.checker.Checker`."""

    async def check(self, path: Path) -> CheckReport:
        """The report of a good package; raises `Unprocessable` or `UnsupportedMedia` with every reason."""
        ...

    async def inspect(self, path: Path, text: str) -> Inspection:
        """The same, what the package touches, and what it answers to a text."""
        ...

    async def build(self, job: MatrixJob, target: Path) -> None:
        """Write the package of a new vocabulary to a file that is there; raises `Unprocessable` with every reason."""
        ...


class Intake:
    """Takes bytes in and has them checked. Belongs to one event loop; files are touched in threads."""

    def __init__(self, receive: Callable[[], Upload], checker: Checks, limits: Limits) -> None:
        """`receive` opens an upload in the blob store."""
        self._receive = receive
        self.checker = checker
        self._limits = limits

    @asynccontextmanager
    async def received(self, body: AsyncIterator[bytes]) -> AsyncIterator[Upload]:
        """The body in a file, until the end of the context; raises `TooLarge`, `Unprocessable` for none, `NotReady`."""
        upload = await asyncio.to_thread(self._receive)
        try:
            await self._fill(upload, body)
            yield upload
        finally:
            upload.discard()

    @asynccontextmanager
    async def built(self, extension: Extension, package: Path | None) -> AsyncIterator[Upload]:
        """The package that the checker makes of an extension, as if it had been received.

        `package` is the file of the reference. Raises as `received` does, and `Unprocessable` with every reason.
        """
        async with AsyncExitStack() as files:
            own = await files.enter_async_context(self.received(whole(extension.tokenizer)))
            theirs = None
            if extension.reference_tokenizer is not None:
                theirs = await files.enter_async_context(self.received(whole(extension.reference_tokenizer)))
            job = MatrixJob(
                tokenizer=own.path,
                copy=extension.copy,
                package=package,
                reference_tokenizer=None if theirs is None else theirs.path,
                seed=extension.seed,
                max_bytes=self._limits.max_package_bytes,
                source=_source(extension),
            )
            made = await asyncio.to_thread(self._receive)
            files.callback(made.discard)
            await self.checker.build(job, made.path)
            await asyncio.to_thread(made.adopt)
            yield made

    async def examine(self, space: Space, upload: Upload) -> CheckReport:
        """What is in the file; raises `Unprocessable` for what does not belong into the namespace, too."""
        return _belonging(space, upload, await self.checker.check(upload.path))

    async def inspect(self, space: Space, upload: Upload, text: str) -> Inspection:
        """The same for a dry run."""
        found = await self.checker.inspect(upload.path, text)
        _belonging(space, upload, found.report)
        return found

    async def _fill(self, upload: Upload, body: AsyncIterator[bytes]) -> None:
        limit, pending = self._limits.max_package_bytes, bytearray()
        async for chunk in body:
            if upload.nbytes + len(pending) + len(chunk) > limit:
                raise TooLarge(f"a package may have at most {limit} bytes", code="package_too_large")
            pending += chunk
            if len(pending) >= _BUFFER:
                await asyncio.to_thread(upload.write, pending)
                pending = bytearray()
        await asyncio.to_thread(upload.write, pending)
        if upload.nbytes == 0:
            raise Unprocessable("the body is empty: send one native package", code="invalid_package")


async def whole(data: bytes) -> AsyncIterator[bytes]:
    """Bytes that are there already, as a body."""
    yield data


def _belonging(space: Space, upload: Upload, report: CheckReport) -> CheckReport:
    if report.digest != upload.digest:
        raise Unprocessable("the checker read other bytes than were received", code="check_failed")
    if (report.manifest.kind == "embedding") != (space == "embedding"):
        route = "/v1/token-embeddings" if report.manifest.kind == "embedding" else "/v1/adapters"
        raise Unprocessable(f"a package of kind {report.manifest.kind!r} belongs under {route}", code="wrong_kind")
    return report


def _source(extension: Extension) -> str:
    if not extension.copy:
        return ""
    return DEFAULT_EMBEDDING if extension.reference is None else pinned(extension.reference)
