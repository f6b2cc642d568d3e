"""`chorus key create ls revoke`: over HTTP for an operator, or straight in a data folder, as the first key is made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer

from serving.api.answers import KeyAnswer, NewKeyAnswer
from serving.commands import tables
from serving.commands.options import Connection, Data, DatabaseUrl, Json, Tenant, split

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke keys.")


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


@app.command()
def create(
    ctx: typer.Context,
    *,
    scopes: Annotated[str, typer.Option(metavar="A,B", help="Of predict, publish, operate.")] = "predict",
    label: Annotated[str, typer.Option(help="What the key is for.")] = "",
    data: Data = None,
    tenant: Tenant = "default",
    database_url: DatabaseUrl = "",
    as_json: Json = False,
) -> None:
    """Make a key: with --data without HTTP (the first key), else for the tenant of the caller's key."""
    with open_keys(ctx.obj, data, database_url, tenant) as keys:
        made = keys.create(split(scopes) or (), label)
    if as_json:
        tables.print_json(made)
    else:
        tables.note(f"key {made['key_id']} of tenant {made['tenant']} for {', '.join(made['scopes'])}; shown only now:")
        tables.done(made["secret"])


@app.command()
def ls(
    ctx: typer.Context,
    data: Data = None,
    tenant: Tenant = "default",
    database_url: DatabaseUrl = "",
    as_json: Json = False,
) -> None:
    """List the keys of a tenant."""
    with open_keys(ctx.obj, data, database_url, tenant) as keys:
        found = keys.list()
    if as_json:
        tables.print_json({"items": found})
    else:
        tables.print_keys(found)


@app.command()
def revoke(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="The id that `chorus key ls` shows.")],
    data: Data = None,
    tenant: Tenant = "default",
    database_url: DatabaseUrl = "",
) -> None:
    """Revoke a key; it is refused within a second."""
    with open_keys(ctx.obj, data, database_url, tenant) as keys:
        keys.revoke(key_id)
    tables.done(f"revoked {key_id}")
