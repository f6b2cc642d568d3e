"""Keys of the tenants that take part in a proof, made in its registry before its service starts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from serving.commands.stored_keys import StoredKeys, open_store

TENANT_SCOPES = ("operate", "predict", "publish")  # all that a key may do within one tenant


def make_keys(data: Path, wanted: Mapping[str, Sequence[str]], database_url: str = "") -> dict[str, str]:
    """One key for each tenant with the scopes that are wanted; tenant -> secret.

    `database_url` is that of the service; empty for SQLite in its data folder.
    """
    made: dict[str, str] = {}
    with open_store(data, database_url) as store:
        for tenant, scopes in wanted.items():
            made[tenant] = StoredKeys(store, tenant).create(scopes, label=f"proof of {tenant}")["secret"]
    return made
