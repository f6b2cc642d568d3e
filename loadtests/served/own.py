"""A service of our own, in processes of its own on loopback, started as an operator starts it, and gone afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from subprocess import TimeoutExpired

from loadtests.client.plan import Tenant
from loadtests.proofs.callers import TENANT_SCOPES, make_keys
from loadtests.proofs.stage import Stage, staged
from loadtests.scenarios.values import Tenant as Wanted
from loadtests.served.target import Target, place_of

WATCHER = "watcher"  # the tenant whose key reads metrics and sets weights
SPARE = 1.02  # of a room: blocks do not lie end to end


@dataclass(frozen=True)
class Own:
    """How to start one. `options` are further words of `chorus serve`."""

    backbone: Path
    dtype: str = "float32"
    engines: int = 1
    gateways: int = 1
    threads: int = 1
    options: tuple[str, ...] = ()

    @property
    def device(self) -> str:
        """What the engines compute on, as `chorus serve` takes it."""
        words = [part for word in self.options for part in word.split("=", 1)]
        return next((device for word, device in reversed(list(pairwise(words))) if word == "--device"), "cpu")


@dataclass(frozen=True)
class Rooms:
    """Bytes of the tiers of each engine; None is the service's default."""

    device: int | None = None
    host: int | None = None

    @property
    def options(self) -> tuple[str, ...]:
        """For the command line."""
        told = (("--device-cache", self.device), ("--host-cache", self.host))
        return tuple(word for name, size in told if size is not None for word in (name, f"{size}B"))


def room_of(adapters: int | None, slot_bytes: float) -> int | None:
    """Bytes in which so many adapters fit."""
    return None if adapters is None else int(adapters * slot_bytes * SPARE)


@contextmanager
def started(
    own: Own, rooms: Rooms, tenants: tuple[Wanted, ...], data: Path, tolerance: float
) -> Iterator[tuple[Target, Stage]]:
    """The service, answering; raises `StageFailed`. `data` is a new folder. However the run ends, the service ends in good order."""
    keys = make_keys(
        data, {**{tenant.name: TENANT_SCOPES for tenant in tenants}, WATCHER: ("admin", "operate", "metrics")}
    )
    options = ("--threads", str(own.threads), "--dtype", own.dtype, *rooms.options, *own.options)
    stage = Stage(own.backbone, data, own.engines, own.gateways, options, key=keys[WATCHER])
    callers = tuple(Tenant(tenant.name, keys[tenant.name]) for tenant in tenants)
    with staged(stage):
        try:
            yield Target(place_of(stage.url), callers, tolerance, keys[WATCHER]), stage
        finally:
            with suppress(TimeoutExpired):  # what does not end by itself is ended
                stage.stop()
