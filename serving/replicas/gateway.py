"""A gateway: the HTTP surface over the registry and the engines. No torch is ever imported here."""

import asyncio
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.types import ASGIApp

from adapters.architectures.profile import BackboneProfile
from serving.api.app import build_app
from serving.api.services import Services
from serving.checking import RemoteChecker
from serving.config import ServiceSettings
from serving.dispatch.dispatcher import Dispatcher
from serving.dispatch.ports import Claim, News
from serving.dispatch.wires import Wires
from serving.images.decoder import Decoder
from serving.images.preprocessing import read_preprocessing
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
from serving.replicas.surroundings import APPLICATION, GATEWAY, reported, settle, settled
from serving.request import Holding
from serving.routing import Fleet, GatewayCalls, gateway_handle
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
        self._accusing: Accusing | None = None
        self._fleet: Fleet | None = None
        self._wires = Wires()
        self._door: Draining | None = None
        self._tracing = Tracing()
        self._decoder: Decoder | None = None  # where the backbone reads images

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Called by Ray Serve once, on the replica's event loop; requests come after it."""
        with reported(self._settings):
            self._door = Draining(build_app(await self._services()), lambda: f"req_{uuid.uuid4().hex}")
        settled()
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
            self._wires,
            GatewayCalls(gateways),
            self._metrics,
            name=self._replica,
            max_flights=2 * settings.batch.max_queued * settings.engines,
        )
        self._fleet = fleet = Fleet(
            self._engines,
            gateways,
            own=self._replica,
            observe=self._observe,
            desired=directory.desired,
            gone=self._metrics.replicas_lost.inc,
            silent=self._metrics.replicas_silent.inc,
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
        self._accusing = accusing = Accusing(dispatcher, Suspicions(catalog, blobs, fleet.nudge).report)
        if self._profile.geometry.image is not None:
            frame = read_preprocessing(settings.backbone, self._profile.geometry).frame
            self._decoder = Decoder(frame, settings.limits.max_image_pixels)
            await self._decoder.start()
        await asyncio.gather(directory.start(), keyring.start(), fleet.start(), dispatcher.greet())
        return Services(
            profile=self._profile,
            limits=settings.limits,
            tokenizer_json=None if self._decoder else (settings.backbone / "tokenizer.json").read_bytes(),
            decode=None if self._decoder is None else self._decoder.decode,
            directory=directory,
            control=publisher,
            keyring=keyring,
            tenants=TenantStore(database),
            trail=catalog,
            submit=accusing,
            fleet=fleet,
            metrics=self._metrics,
            replica=self._replica,
            tracing=self._tracing,
            watched=None if settings.watch is None else settings.data,
        )

    def _observe(self, holdings: Mapping[str, Holding]) -> None:
        """What all engines hold, and which bytes they found bad."""
        if self._dispatcher is not None and self._accusing is not None:  # both are there before the fleet is watched
            self._wires.observe(holdings)
            self._dispatcher.observe(holdings)
            self._accusing.hear(holdings)

    async def refresh(self, revision: int) -> str:
        """Read the registry up to `revision` at least: what a nudge asks of every gateway."""
        if self._directory is not None:
            await self._directory.refresh(revision)
        return self._replica

    async def present(self) -> str:
        """That this gateway lives, for those who share its work."""
        return self._replica

    async def consent(self, claim: Claim) -> frozenset[str]:
        """Another gateway's claim to question its suspects; returns when it may: which suspects are on board here."""
        return await self._dispatcher.consent(claim) if self._dispatcher is not None else frozenset()

    async def hear(self, news: News) -> News:
        """What another gateway found out about suspects; a greeting is answered with what this one knows."""
        return News(self._replica) if self._dispatcher is None else self._dispatcher.hear(news)

    async def drain(self, seconds: float) -> tuple[str, int]:
        """Take no new requests and finish those that run; this gateway's id, and how many were left after `seconds`.

        What runs has the registry as it is now, and asks for more by itself; the engines are watched until it is done.
        """
        if self._directory is not None:
            await self._directory.stop()
        left = await self._door.drain(seconds) if self._door is not None else 0
        if self._fleet is not None:
            await self._fleet.stop()
        await self._wires.close()
        if self._decoder is not None:
            await self._decoder.stop()
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
