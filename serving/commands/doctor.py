"""`chorus doctor`: what this installation is, and whether a backbone, a registry and the service are in order."""

import importlib
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from adapters.architectures.profile import read_profile
from adapters.errors import AdapterError
from serving.client import Client
from serving.config import ServiceSettings
from serving.errors import NotReady, ServiceError
from serving.registry.addresses import address_of, place_of
from serving.registry.database import Database
from serving.tasks.readable import check_readable

DISTRIBUTIONS = ("torch", "transformers", "ray", "safetensors", "tokenizers", "sqlalchemy", "httpx2")
PACKAGES = ("adapters", "serving")  # plain top-level names: another distribution could stand in front of them


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    good: bool
    what: str
    found: str


def examine(client: Client, backbone: Path | None, data: Path | None, database_url: str = "") -> list[Finding]:
    """Everything that can be looked at with what was given; never raises for what is wrong."""
    findings = [Finding(True, "chorus", release()), Finding(True, "python", platform.python_version())]
    findings += [*_versions(), *_identities()]
    if backbone is not None:
        findings.append(_look("backbone", lambda: _backbone(backbone)))
    if database_url:  # then the data folder holds no registry, or one that nobody asks
        findings.append(_look("database", lambda: _database(database_url)))
    elif data is not None:
        findings.append(_look("data folder", lambda: _data(data)))
    findings.append(_look(f"service {client.url}", lambda: _service(client)))
    return findings


def release() -> str:
    """The version that is installed; a checkout works without being installed."""
    try:
        return metadata.version("chorus")
    except metadata.PackageNotFoundError:
        return "from a checkout"


def _versions() -> Iterator[Finding]:
    for name in DISTRIBUTIONS:
        try:
            yield Finding(True, name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(False, name, "is not installed: pip install -e . from the repository")


def _identities() -> Iterator[Finding]:
    home = Path(__file__).resolve().parents[2]
    for name in PACKAGES:
        origin = importlib.import_module(name).__file__
        folder = None if origin is None else Path(origin).resolve().parent
        wrong = "" if folder == home / name else f" (expected {home / name}: another distribution is in front)"
        yield Finding(not wrong, f"import {name}", f"{folder}{wrong}")


def _backbone(folder: Path) -> str:
    profile = read_profile(folder)
    geometry = profile.geometry
    if geometry.image is not None:
        check_readable(folder, geometry)
    pooler = "" if profile.has_pooler else ", no pooler"
    return f"{geometry.model_type}, {geometry.layers} layers of {geometry.hidden_size}{pooler}, {profile.digest}"


def _data(folder: Path) -> str:
    settings = ServiceSettings(backbone=Path(), data=folder)
    if not (folder / "registry.sqlite").is_file():
        return f"{folder} holds no registry yet"
    _answering(settings.sql_url)
    return f"{folder} answers"


def _database(url: str) -> str:
    _answering(url)
    return f"{place_of(address_of(url))} answers"


def _answering(url: str) -> None:
    database = Database.open(url, upgrade=False)
    try:
        with database.read():
            pass
    finally:
        database.close()


def _service(client: Client) -> str:
    try:
        client.ready()
    except NotReady as error:
        if error.code == "unreachable":  # an installation is in order without a running service
            return "does not run"
        raise
    profile = client.limits().get("profile", {})
    return f"ready, backbone {profile.get('id', 'unknown')}"


def _look(what: str, at: Callable[[], str]) -> Finding:
    try:
        return Finding(True, what, at())
    except (ServiceError, AdapterError, OSError) as error:
        return Finding(False, what, str(error))
