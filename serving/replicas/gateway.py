"""A gateway: the HTTP surface over the registry and the engines. No torch is ever imported here."""

import asyncio
from typing import Any

from starlette.types import ASGIApp

from adapters.architectures.profile import BackboneProfile
from serving.api.app import build_app
from serving.api.services import Services
from serving.config import ServiceSettings
from serving.dispatch import Dispatcher
from serving.metrics import GatewayMetrics, render
from serving.registry.blobs import BlobStore
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.publish import Publisher
from serving.registry.snapshot import Directory
from serving.replicas.surroundings import APPLICATION, GATEWAY, reported, settle
from serving.routing import EngineCalls, Fleet, RemoteChecker, gateway_handle
from serving.tenancy.keys import Keyring


class Gateway:
    """Parses, resolves, tokenizes, dispatches and answers; ready once it has read the registry and met an engine."""

    def __init__(self, settings: ServiceSettings, profile: BackboneProfile, engines: Any, checkers: Any) -> None:
        self._settings = settings
        self._profile = profile
        self._engines = engines
        self._checkers = checkers
        self._replica = settle(settings, GATEWAY)
        self._metrics = GatewayMetrics()
        self._directory: Directory | None = None  # until the application is built

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray Serve once, on the replica's event loop; requests come after it."""
        with reported(self._settings):
            return build_app(await self._services())

    async def _services(self) -> Services:
        settings = self._settings
        database = await asyncio.to_thread(Database.open, settings.sql_url)
        catalog = Catalog(database)
        self._directory = directory = Directory(catalog)
        keyring = Keyring(database, loopback_only=settings.loopback)
        room = 2 * settings.batch.max_queued * settings.engines
        dispatcher = Dispatcher(EngineCalls(self._engines), self._metrics, name=self._replica, max_flights=room)
        fleet = Fleet(
            self._engines,
            gateway_handle(GATEWAY, APPLICATION),
            own=self._replica,
            observe=dispatcher.observe,
            desired=directory.desired,
        )
        publisher = Publisher(
            catalog=catalog,
            blobs=BlobStore(settings.data / "blobs"),
            checker=RemoteChecker(self._checkers),
            directory=directory,
            nudge=fleet.nudge,
            limits=settings.limits,
        )
        await asyncio.gather(directory.start(), keyring.start(), fleet.start())
        return Services(
            profile=self._profile,
            limits=settings.limits,
            tokenizer_json=(settings.backbone / "tokenizer.json").read_bytes(),
            directory=directory,
            control=publisher,
            keyring=keyring,
            submit=dispatcher,
            fleet=fleet,
            metrics=self._metrics,
            replica=self._replica,
        )

    async def refresh(self, revision: int) -> str:
        """Read the registry up to `revision` at least: what a nudge asks of every gateway."""
        if self._directory is not None:
            await self._directory.refresh(revision)
        return self._replica

    async def metrics(self) -> tuple[str, str]:
        """The gateway's id and Prometheus text."""
        return self._replica, render(self._metrics.registry)
