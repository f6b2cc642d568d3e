"""Keys: over HTTP for an operator of a running service, or straight in its data folder, as the first one is made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from serving.api.answers import KeyAnswer, NewKeyAnswer
from serving.commands.options import Connection


class Keys(Protocol):
    """Where keys are: `serving.client.Keys` over HTTP, `serving.commands.stored_keys.StoredKeys` in a data folder."""

    def create(self, scopes: Sequence[str], label: str = "") -> NewKeyAnswer:
        """Make a key."""
        ...

    def list(self) -> list[KeyAnswer]:
        """Every key of the tenant."""
        ...

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        ...


@contextmanager
def open_keys(connection: Connection, data: Path | None, database_url: str, tenant: str) -> Iterator[Keys]:
    """The keys in the registry of a data folder (made if it is not there), else those of the service."""
    if data is None:
        with connection.client() as client:
            yield client.keys
    else:
        from serving.commands.stored_keys import StoredKeys, open_store  # noqa: PLC0415 - SQL, only where it is asked for

        with open_store(data, database_url) as store:
            yield StoredKeys(store, tenant)
