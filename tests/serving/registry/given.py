"""A registry in a temporary folder, with a checker that believes every upload but those that begin with `bad`."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from adapters.architectures.geometry import Geometry
from adapters.architectures.profile import BackboneProfile
from adapters.manifest import EmbeddingSpec, Manifest, PartSpec
from adapters.requires import Requires
from serving.config import Limits
from serving.errors import Unprocessable
from serving.registry.blobs.local import LocalBlobs
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.inspection import Inspection, Trial
from serving.registry.ownership import claim
from serving.registry.publish import Publisher
from serving.registry.records import CheckReport, MatrixJob
from serving.registry.snapshot import Directory

GEOMETRY = Geometry(
    model_type="bert",
    hidden_size=8,
    embedding_size=8,
    intermediate_size=16,
    layers=2,
    heads=2,
    vocabulary=30,
    max_tokens=16,
    type_vocabulary=2,
    pad_token_id=0,
)
PROFILE = BackboneProfile("tiny", "sha256:" + "1" * 64, GEOMETRY, has_pooler=True)
REQUIRES = Requires("bert", 8, 2, 2)


@dataclass(frozen=True)
class Someone:
    tenant: str = "acme"
    key_id: str = "key1"


ACME, OTHER = Someone(), Someone("other", "key2")


def manifest_of(kind: str) -> Manifest:
    if kind == "embedding":
        return Manifest("embedding", REQUIRES, embedding=EmbeddingSpec(30, 8, tokenizer=True))
    return Manifest("adapter", REQUIRES, parts=(PartSpec("lora", {"sites": {}}),))


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def fresh_data(blobs: LocalBlobs) -> bytes:
    """Bytes whose blob needs a new folder, so that every publish of them has the same effects."""
    return next(data for n in range(10**6) if not blobs.path(digest_of(data := b"number %d" % n)).parent.exists())


def report_of(data: bytes, kind: str = "adapter") -> CheckReport:
    return CheckReport(digest_of(data), len(data), manifest_of(kind), 64, ())


class TrustingChecker:
    """Reads the file as the real one does; packages that begin with `embedding` are token embeddings."""

    async def check(self, path: Path) -> CheckReport:
        data = await asyncio.to_thread(path.read_bytes)
        if data.startswith(b"bad"):
            raise Unprocessable("it is bad", code="does_not_fit")
        return report_of(data, "embedding" if data.startswith(b"embedding") else "adapter")

    async def inspect(self, path: Path, text: str) -> Inspection:
        """As `check`; every package touches one module, and moves a text by its length."""
        report = await self.check(path)
        return Inspection(report, 8, {"linear": ("query",)}, ("key",), Trial(text, 3, 1.0, float(len(text)), None), "")

    async def build(self, job: MatrixJob, target: Path) -> None:
        """Writes what it was asked: every file's content, and the rest of the job."""
        tokenizer = await asyncio.to_thread(job.tokenizer.read_bytes)
        if tokenizer.startswith(b"bad"):
            raise Unprocessable("it is bad", code="does_not_fit")
        files = [path and path.read_bytes() for path in (job.package, job.reference_tokenizer)]
        told = f"embedding {tokenizer!r} {job.copy} {files} {job.seed} {job.source}"
        await asyncio.to_thread(target.write_bytes, told.encode())


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@dataclass
class Registry:
    """Everything that one gateway has of the registry."""

    folder: Path
    database: Database
    catalog: Catalog
    blobs: LocalBlobs
    directory: Directory
    publisher: Publisher
    checker: TrustingChecker
    nudges: list[int] = field(default_factory=list)

    async def publish(self, data: bytes, name: str = "ada", *, by: Someone = ACME, promote: bool = False):
        return await self.publisher.publish(by, "adapter", name, stream(data), promote=promote)

    def uploads(self) -> list[Path]:
        return list((self.folder / "blobs" / "uploads").iterdir())


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'registry.sqlite'}"


def open_registry(
    folder: Path,
    *,
    limits: Limits | None = None,
    nudge: Callable[[int], Awaitable[None]] | None = None,
    url: str | None = None,
) -> Registry:
    database = Database.open(url or url_of(folder))
    catalog = Catalog(database)
    blobs = LocalBlobs(folder / "blobs")
    claim(database, blobs)
    directory = Directory(catalog, interval_s=0.01)
    nudges: list[int] = []

    async def record(revision: int) -> None:
        nudges.append(revision)
        if nudge is not None:
            await nudge(revision)

    checker = TrustingChecker()
    publisher = Publisher(
        catalog=catalog,
        blobs=blobs,
        checker=checker,
        directory=directory,
        nudge=record,
        limits=limits or Limits(),
    )
    return Registry(folder, database, catalog, blobs, directory, publisher, checker, nudges)
