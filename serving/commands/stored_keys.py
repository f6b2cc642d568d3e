"""Keys straight in the registry of a data folder: needs neither a running service nor a key."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.api.answers import KeyAnswer, NewKeyAnswer
from serving.api.keys import key_answer
from serving.config import ServiceSettings
from serving.registry.database import Database
from serving.tenancy.keys import create_key, record_of, rotate_key
from serving.tenancy.store import KeyStore

_BY = "chorus key"  # whom the audit names


class StoredKeys:
    """The keys of one tenant."""

    def __init__(self, store: KeyStore, tenant: str) -> None:
        self._store = store
        self._tenant = tenant

    def create(self, scopes: Sequence[str], label: str = "", *, expires_in_s: float | None = None) -> NewKeyAnswer:
        """Make a key; raises `Unprocessable` where tenant or scopes are wrong."""
        expires = None if expires_in_s is None else self._store.now() + expires_in_s
        made = create_key(self._store, self._tenant, frozenset(scopes), label, by=_BY, expires=expires)
        return {**key_answer(made.record), "secret": made.secret}

    def list(self) -> list[KeyAnswer]:
        """Every key of the tenant, revoked ones too."""
        return [key_answer(record_of(key)) for key in self._store.of(self._tenant)]

    def rotate(self, key_id: str, grace_s: float) -> NewKeyAnswer:
        """Make a key in another one's place; raises `NotFound`, `Conflict` and `Unprocessable`."""
        made = rotate_key(self._store, self._tenant, key_id, grace_s, by=_BY)
        return {**key_answer(made.record), "secret": made.secret}

    def revoke(self, key_id: str) -> None:
        """Revoke a key; raises `NotFound`."""
        self._store.revoke(self._tenant, key_id, _BY)


def any_key(data: Path, database_url: str) -> bool:
    """Whether the registry of a data folder holds a key that is good."""
    with open_store(data, database_url) as store:
        return any(key.live(store.now()) for key in store.since(-1)[1])


@contextmanager
def open_store(data: Path, database_url: str) -> Iterator[KeyStore]:
    """The keys in the registry of a data folder, which is made if it is not there."""
    settings = ServiceSettings(backbone=Path(), data=data, database_url=database_url)
    database = Database.open(settings.sql_url, upgrade=False)
    try:
        yield KeyStore(database)
    finally:
        database.close()
