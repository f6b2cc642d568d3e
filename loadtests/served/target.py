"""Where the load goes: the address, the callers with their keys, and how far off an answer may be."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from loadtests.client.connection import Place
from loadtests.client.plan import Tenant

TOLERANCES = {"float32": 1e-4, "bfloat16": 0.1}  # absolute, on raw logits of a size of about 1


class BadTarget(Exception):
    """An address or a file of keys that can not be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class Target:
    """One service. `watcher` is a key that may read metrics and residency, where there is one."""

    place: Place
    tenants: tuple[Tenant, ...]
    tolerance: float
    watcher: str = ""

    @property
    def url(self) -> str:
        """The address."""
        return f"http{'s' if self.place.tls else ''}://{self.place.host}:{self.place.port}{self.place.prefix}"


def place_of(url: str) -> Place:
    """The address that a URL names; raises `BadTarget`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"--url {url}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadTarget(f"--url {url}: write http://HOST:PORT or https://HOST")
    return Place(
        parts.hostname,
        port or (443 if parts.scheme == "https" else 80),
        parts.scheme == "https",
        parts.path.rstrip("/"),
    )


def read_keys(path: Path | None, tenants: tuple[str, ...]) -> tuple[dict[str, str], str]:
    """Keys by tenant, and that of the line `metrics`. A file holds one key alone, or lines `TENANT KEY`. Raises `BadTarget`."""
    if path is None:
        if len(tenants) > 1:
            raise BadTarget(
                f"the scenario has the tenants {', '.join(tenants)}: give --key-file with a line `NAME KEY` for each"
            )
        return dict.fromkeys(tenants, ""), ""
    try:
        lines = [line.split() for line in path.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise BadTarget(f"--key-file {path}: {error.strerror}") from error
    if len(lines) == 1 and len(lines[0]) == 1 and len(tenants) == 1:
        return {tenants[0]: lines[0][0]}, lines[0][0]
    if any(len(line) != 2 for line in lines):
        raise BadTarget(f"--key-file {path}: write one key alone, or lines of a tenant's name and its key")
    keys = dict(lines)
    if absent := [name for name in tenants if name not in keys]:
        raise BadTarget(f"--key-file {path}: no key for {', '.join(absent)}")
    return keys, keys.get("metrics", keys[tenants[0]])
