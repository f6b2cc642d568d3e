"""A gateway: the HTTP surface over the registry and the engines. No torch is ever imported here."""

import asyncio
import uuid
from functools import partial
from typing import Any

from starlette.types import ASGIApp

from adapters.architectures.profile import BackboneProfile
from serving.api.app import build_app
from serving.api.services import Services
from serving.config import ServiceSettings
from serving.dispatch.dispatcher import Dispatcher
from serving.dispatch.ports import Claim, News
from serving.metrics import GatewayMetrics, render
from serving.readings import Seen
from serving.registry.blobs.opening import open_blobs
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.publish import Publisher
from serving.registry.records import Quota
from serving.registry.snapshot import Directory
from serving.registry.suspicion import Suspicions
from serving.replicas.accusing import Accusing
from serving.replicas.draining import Draining
from serving.replicas.surroundings import APPLICATION, GATEWAY, reported, settle
from serving.routing import EngineCalls, Fleet, GatewayCalls, RemoteChecker, gateway_handle
from serving.tenancy.keys import Keyring
from serving.tenancy.tenants import TenantStore
from serving.tracing import Tracing

FLUSH_S = 1.0  # for the last traces, once all requests are answered


class Gateway:
    """Parses, resolves, tokenizes, dispatches and answers; ready once it has read the registry and met an engine."""

    def __init__(self, settings: ServiceSettings, profile: BackboneProfile, engines: Any, checkers: Any) -> None:
        self._settings = settings
        self._profile = profile
        self._engines = engines
        self._checkers = checkers
        self._replica = settle(settings, GATEWAY)
        self._metrics = GatewayMetrics()
        self._directory: Directory | None = None  # these until the application is built
        self._dispatcher: Dispatcher | None = None
        self._door: Draining | None = None
        self._tracing = Tracing()

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray Serve once, on the replica's event loop; requests come after it."""
        with reported(self._settings):
            self._door = Draining(build_app(await self._services()), lambda: f"req_{uuid.uuid4().hex}")
        return self._door

    async def _services(self) -> Services:
        settings = self._settings
        database = await asyncio.to_thread(Database.open, settings.sql_url)
        catalog = Catalog(database)
        self._tracing = Tracing.to(settings.trace_endpoint, self._replica)
        self._directory = directory = Directory(catalog)
        keyring = Keyring(database, loopback_only=settings.loopback)
        gateways = gateway_handle(GATEWAY, APPLICATION)
        self._dispatcher = dispatcher = Dispatcher(
            EngineCalls(self._engines),
            GatewayCalls(gateways),
            self._metrics,
            name=self._replica,
            max_flights=2 * settings.batch.max_queued * settings.engines,
        )
        fleet = Fleet(
            self._engines,
            gateways,
            own=self._replica,
            observe=dispatcher.observe,
            desired=directory.desired,
            gone=self._metrics.replicas_lost.inc,
        )
        self._metrics.see(partial(_seen, fleet, directory))
        self._metrics.tenants.prefer(lambda tenant: directory.quota(tenant) != Quota())
        blobs = await asyncio.to_thread(open_blobs, settings)
        publisher = Publisher(
            catalog=catalog,
            blobs=blobs,
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
            tenants=TenantStore(database),
            trail=catalog,
            submit=Accusing(dispatcher, Suspicions(catalog, blobs, fleet.nudge).report),
            fleet=fleet,
            metrics=self._metrics,
            replica=self._replica,
            tracing=self._tracing,
            watched=None if settings.watch is None else settings.data,
        )

    async def refresh(self, revision: int) -> str:
        """Read the registry up to `revision` at least: what a nudge asks of every gateway."""
        if self._directory is not None:
            await self._directory.refresh(revision)
        return self._replica

    async def present(self) -> str:
        """That this gateway lives, for those who share its work."""
        return self._replica

    async def consent(self, claim: Claim) -> frozenset[str]:
        """Another gateway's claim to question its suspects; returns when it may: which of them are on board here."""
        return await self._dispatcher.consent(claim) if self._dispatcher is not None else frozenset()

    async def hear(self, news: News) -> str:
        """What another gateway found out about suspects."""
        if self._dispatcher is not None:
            self._dispatcher.hear(news)
        return self._replica

    async def drain(self, seconds: float) -> tuple[str, int]:
        """Take no new requests and finish those that run; this gateway's id, and how many were left after `seconds`."""
        left = await self._door.drain(seconds) if self._door is not None else 0
        await asyncio.to_thread(self._tracing.flush, FLUSH_S)
        return self._replica, left

    async def metrics(self) -> tuple[str, str]:
        """The gateway's id and Prometheus text."""
        return self._replica, render(self._metrics.registry)


def _seen(fleet: Fleet, directory: Directory) -> Seen:
    held = fleet.holdings().values()
    warm = sum(holding.warm for holding in held)
    return Seen(
        warm_engines=warm,
        cold_engines=len(held) - warm,
        gateways=fleet.gateways(),
        registry_age_s=directory.age_s,
        registry_revision=directory.revision,
        quarantined=directory.quarantined,
    )
