"""Keys: over HTTP for an operator of a running service, or straight in its data folder, as the first one is made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from serving.api.answers import KeyAnswer, NewKeyAnswer
from serving.api.keys import key_answer
from serving.commands.options import Connection
from serving.config import ServiceSettings
from serving.registry.database import Database
from serving.tenancy.keys import KeyRecord, create_key
from serving.tenancy.store import KeyStore, StoredKey

_BY = "chorus key"  # whom the audit names


class Keys(Protocol):
    """Where keys are: `serving.client.Keys` over HTTP, `StoredKeys` in a data folder."""

    def create(self, scopes: Sequence[str], label: str = "") -> NewKeyAnswer:
        """Make a key."""
        ...

    def list(self) -> list[KeyAnswer]:
        """Every key of the tenant."""
        ...

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        ...


class StoredKeys:
    """The keys of one tenant in a data folder; needs neither a running service nor a key."""

    def __init__(self, store: KeyStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant

    def create(self, scopes: Sequence[str], label: str = "") -> NewKeyAnswer:
        """Make a key; raises `Unprocessable` where tenant or scopes are wrong."""
        made = create_key(self._store, self._tenant, frozenset(scopes), label, by=_BY)
        return {**key_answer(made.record), "secret": made.secret}

    def list(self) -> list[KeyAnswer]:
        """Every key of the tenant, revoked ones too."""
        return [key_answer(_record(key)) for key in self._store.of(self._tenant)]

    def revoke(self, key_id: str) -> None:
        """Revoke a key; raises `NotFound`."""
        self._store.revoke(self._tenant, key_id, _BY)


@contextmanager
def open_keys(connection: Connection, data: Path | None, database_url: str, tenant: str) -> Iterator[Keys]:
    """The keys in the registry of a data folder (made if it is not there), else those of the service."""
    if data is None:
        with connection.client() as client:
            yield client.keys
    else:
        with _store(data, database_url) as store:
            yield StoredKeys(store, tenant)


def any_key(data: Path, database_url: str) -> bool:
    """Whether the registry of a data folder holds a key that is good."""
    with _store(data, database_url) as store:
        return any(not key.revoked for key in store.since(-1)[1])


@contextmanager
def _store(data: Path, database_url: str) -> Iterator[KeyStore]:
    settings = ServiceSettings(backbone=Path(), data=data, database_url=database_url)
    database = Database.open(settings.sql_url)
    try:
        yield KeyStore(database)
    finally:
        database.close()


def _record(key: StoredKey) -> KeyRecord:
    return KeyRecord(key.key_id, key.tenant, key.scopes, key.label, key.created, key.revoked)
