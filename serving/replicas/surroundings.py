"""What every replica does first: its log, and listening on loopback only. And the names they know each other by."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray import util as ray_util
from ray.serve._private import replica as ray_replica

from serving.config import ServiceSettings
from serving.logs import configure, log, rotating
from serving.routing import replica_id

APPLICATION = "chorus"
GATEWAY, ENGINE, CHECKER = "Gateway", "Engine", "Checker"  # the deployments
SELDOM = 300  # collections of younger objects before one of all; Python's own is 10, which is every 2 s under load


def settle(settings: ServiceSettings, role: str) -> str:
    """Prepare this process to be a replica; returns its id. Its log lines go to `logs/<role>.log` in the data folder.

    Replicas of one role share the file, which starts anew at `settings.log_bytes`. In a cluster that others run, calls
    between deployments may come from other nodes, so that there no replica is kept on loopback.
    """
    if not settings.ray_address:
        bind_to_loopback()
    folder = settings.data / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    configure(stream=rotating(folder / f"{role.lower()}.log", settings.log_bytes))
    return replica_id()


def host_of(settings: ServiceSettings) -> str:
    """Where a replica listens for others of the service: on loopback, or in a cluster of several nodes on its node's address."""
    return ray_util.get_node_ip_address() if settings.ray_address else "127.0.0.1"


def bind_to_loopback() -> None:
    """Make this replica's server for calls between deployments listen on 127.0.0.1.

    Ray 2.60 binds it to `[::]` and has no setting for it; the address is a literal in `Replica._on_initialized`, which
    runs after the constructor of our class. Callers reach a replica by its node's address, which is loopback as well.
    """
    add_port = ray_replica.add_port_to_grpc_server

    def add_loopback_port(server: Any, address: str) -> Any:
        return add_port(server, address.replace("[::]", "127.0.0.1"))

    ray_replica.add_port_to_grpc_server = add_loopback_port


@contextmanager
def reported(settings: ServiceSettings) -> Iterator[None]:
    """Leave word of why a constructor failed: Ray says only that it did."""
    try:
        yield
    except Exception as error:
        log("service", "a replica can not start", level=logging.ERROR, error=True)
        fault_file(settings).write_text(str(error) or repr(error))
        raise


def settled() -> None:
    """What a replica made until now, it keeps: the collector looks at it no more, and seldom at all that came later.

    Called once at the end of the start. A full collection goes through everything there is (modules, routes and models;
    with four thousand rows on their way some 200,000 objects, in 0.13 s), and whoever is being answered waits meanwhile.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, SELDOM)


def fault_file(settings: ServiceSettings) -> Path:
    """Where `reported` leaves word."""
    return settings.data / "logs" / "fault"
