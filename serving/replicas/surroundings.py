"""What every replica does first: its log, and listening on loopback only. And the names they know each other by."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from serving.config import ServiceSettings
from serving.logs import configure, log
from serving.routing import bind_to_loopback, replica_id

APPLICATION = "chorus"
GATEWAY, ENGINE, CHECKER = "Gateway", "Engine", "Checker"  # the deployments


def settle(settings: ServiceSettings, role: str) -> str:
    """Prepare this process to be a replica; returns its id. Its log lines go to `logs/<role>.log` in the data folder."""
    bind_to_loopback()
    folder = settings.data / "logs"
    folder.mkdir(exist_ok=True)
    configure(stream=(folder / f"{role.lower()}.log").open("a", buffering=1, encoding="utf-8"))
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


def fault_file(settings: ServiceSettings) -> Path:
    """Where `reported` leaves word."""
    return settings.data / "logs" / "fault"
