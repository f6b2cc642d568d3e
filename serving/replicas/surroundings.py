"""What every replica does first: its log, and listening on loopback only. And the names they know each other by."""

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.config import ServiceSettings
from serving.logs import configure, log, rotating
from serving.routing import bind_to_loopback, replica_id

APPLICATION = "chorus"
GATEWAY, ENGINE, CHECKER = "Gateway", "Engine", "Checker"  # the deployments


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
    """What a replica made until now, it keeps: the collector looks at it no more.

    Called once at the end of the start. Each full collection would go through all of it (modules, routes, models), and
    whoever is being answered waits meanwhile.
    """
    gc.collect()
    gc.freeze()


def fault_file(settings: ServiceSettings) -> Path:
    """Where `reported` leaves word."""
    return settings.data / "logs" / "fault"
