"""The process that watches: `python -m serving.watching.process`, which ends when its standard input does.

    one line     {"folder": "...", "backbone": "...", "data": "...", "database_url": "", "blob_url": "", ...}

It publishes as a gateway does, over the same catalog, blobs and checker, as the actor `watch`; gateways see it within
half a second. One process watches for one data folder: the one that serves it is the only one that may (its lock).
"""

import asyncio
import json
import logging
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass

from adapters.architectures.profile import BackboneProfile, read_profile
from serving.config import ServiceSettings
from serving.errors import ServiceError
from serving.logs import configure, log, rotating
from serving.registry.blobs.opening import open_blobs
from serving.registry.catalog import Catalog
from serving.registry.checker import Checker
from serving.registry.database import Database
from serving.registry.intake import whole
from serving.registry.journal import Journal
from serving.registry.publish import Publisher
from serving.registry.records import Published
from serving.registry.snapshot import Directory
from serving.tenancy.keys import Caller
from serving.watching.places import Place
from serving.watching.reading import read
from serving.watching.supervisor import understood
from serving.watching.watch import Publish, Watch

ACTOR = "watch"
LOOK_S = 1.0  # between two looks


@dataclass(frozen=True)
class Post(Publish):
    """Reads a place, and publishes it for its tenant; no alias moves."""

    publisher: Publisher
    profile: BackboneProfile
    max_bytes: int

    async def __call__(self, place: Place) -> Published:
        """See `Publish`."""
        space, data = await asyncio.to_thread(read, place.path, self.profile, self.max_bytes)
        caller = Caller(place.tenant, frozenset({"publish"}), ACTOR)
        return await self.publisher.publish(caller, space, place.name, whole(data), promote=False)


async def watch(settings: ServiceSettings, stopped: asyncio.Event) -> None:
    """Look until `stopped`, about once a second."""
    assert settings.watch is not None, "there is a folder to watch"
    profile = read_profile(settings.backbone)
    database = Database.open(settings.sql_url)
    checker = Checker(profile, settings.backbone)
    catalog = Catalog(database)
    publisher = Publisher(
        catalog=catalog,
        blobs=open_blobs(settings),
        checker=checker,
        directory=Directory(catalog),
        nudge=_nobody,
        limits=settings.limits,
    )
    watching = Watch(
        settings.watch,
        Post(publisher, profile, settings.limits.max_package_bytes),
        Journal.open(settings.data, settings.watch),
    )
    log("watch", "watching", folder=str(settings.watch))
    try:
        while not stopped.is_set():
            await watching.scan()
            with suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), LOOK_S)
    finally:
        await checker.stop()
        database.close()


async def _nobody(revision: int) -> None:
    """No gateway is reached from here; each reads what changed twice a second."""


async def _until_the_input_ends(settings: ServiceSettings) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def wait() -> None:
        sys.stdin.read()
        with suppress(RuntimeError):  # the loop ended first
            loop.call_soon_threadsafe(stopped.set)

    threading.Thread(target=wait, daemon=True).start()  # the loop's own threads would be waited for at the end
    await watch(settings, stopped)


def main() -> None:
    """Watch as the one line on standard input says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: who started this ends it
    settings = understood(json.loads(sys.stdin.readline()))
    logs = settings.data / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    configure(stream=rotating(logs / "watch.log", settings.log_bytes))
    try:
        asyncio.run(_until_the_input_ends(settings))
    except ServiceError as error:
        log("watch", "can not watch", level=logging.ERROR, why=error.detail)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
