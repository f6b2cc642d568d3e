"""A process that does nothing but publish, until it is killed: the publisher, catalog and blob store of a gateway.

Its clients go on where the ledger ends: what was not acknowledged in the last life is asked for again in this one.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loadtests.proofs.checker_socket import SocketChecks
from loadtests.proofs.ledger import Ack, Ledger
from serving.config import Limits
from serving.registry.blobs.local import LocalBlobs
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.publish import Publisher
from serving.registry.records import Once
from serving.registry.snapshot import Directory

PIECES = 3  # that a body arrives in
TENANT = "default"  # whom the service takes its callers for where it has no keys


@dataclass(frozen=True)
class Work:
    """Where everything is, and with which package each client goes on."""

    data: Path
    packages: Path
    socket: Path
    ledger: Path
    life: int
    starts: tuple[int, ...]
    items: int  # packages of each client
    names: int  # that all clients publish under


@dataclass(frozen=True)
class Publishing:
    """Whom the audit names."""

    tenant: str = TENANT
    key_id: str = "proof"


def name_of(client: int, item: int, names: int) -> str:
    """Under which name a package goes: clients meet in all of them."""
    return f"killed/{(client + item) % names}"


def package_at(packages: Path, client: int, item: int) -> Path:
    """Where a package lies."""
    return packages / f"{client}-{item}.safetensors"


def once_of(client: int, item: int) -> str | None:
    """Every second package goes with an idempotency key; that the others come once is up to their bytes."""
    return None if item % 2 else f"client-{client}-item-{item}"


def live(work: Work) -> None:
    """Publish until there is nothing left, or until the end comes from outside."""
    asyncio.run(_live(work))


async def _live(work: Work) -> None:
    database = Database.open(f"sqlite:///{work.data / 'registry.sqlite'}")
    catalog, blobs = Catalog(database), LocalBlobs(work.data / "blobs")
    blobs.sweep()  # as a service does when it starts: what the last life left half received
    directory = Directory(catalog)
    await directory.start()
    publisher = Publisher(
        catalog=catalog,
        blobs=blobs,
        checker=SocketChecks(work.socket),
        directory=directory,
        nudge=_nobody_else,
        limits=Limits(),
    )
    ledger = Ledger(work.ledger)
    async with asyncio.TaskGroup() as clients:
        for client, start in enumerate(work.starts):
            clients.create_task(_publish_all(publisher, ledger, work, client, start))
    await directory.stop()
    ledger.close()
    database.close()


async def _publish_all(publisher: Publisher, ledger: Ledger, work: Work, client: int, start: int) -> None:
    for item in range(start, work.items):
        name, key = name_of(client, item, work.names), once_of(client, item)
        data = await asyncio.to_thread(package_at(work.packages, client, item).read_bytes)
        once = None if key is None else partial(_once, key, name)
        promote = item % 3 == 0
        published = await publisher.publish(Publishing(), "adapter", name, _in_pieces(data), promote=promote, once=once)
        ref = published.version.ref
        created = published.created and not published.replayed
        ledger.append(Ack(client, item, name, ref.version, ref.digest, created, work.life))


def _once(key: str, name: str, digest: str) -> Once:
    return Once.of(key, method="PUT", path=f"/v1/adapters/{name}", query="", digest=digest)


async def _in_pieces(data: bytes) -> AsyncIterator[bytes]:
    size = -(-len(data) // PIECES)
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def _nobody_else(_revision: int) -> None:
    """There is no other gateway to tell."""
