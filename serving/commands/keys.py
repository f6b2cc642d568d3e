"""`chorus key create ls rotate revoke`: over HTTP, or straight in a data folder, as the first key is made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Protocol

import typer

from serving.api.answers import KeyAnswer, NewKeyAnswer
from serving.commands import tables
from serving.commands.options import Connection, Data, DatabaseUrl, Json, seconds, split

app = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke keys.")
KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The id that `chorus key ls` shows.")]
Tenant = Annotated[
    str, typer.Option(help="Whose keys; over HTTP the caller's own, with --data `default`. Others need an admin key.")
]


class Keys(Protocol):
    """Where keys are: `serving.administration.Keys` over HTTP, `stored_keys.StoredKeys` in a data folder."""

    def create(self, scopes: Sequence[str], label: str = "", *, expires_in_s: float | None = None) -> NewKeyAnswer:
        """Make a key."""
        ...

    def list(self) -> list[KeyAnswer]:
        """Every key of the tenant."""
        ...

    def rotate(self, key_id: str, grace_s: float) -> NewKeyAnswer:
        """Make a key in another one's place."""
        ...

    def revoke(self, key_id: str) -> None:
        """Revoke a key."""
        ...


@contextmanager
def open_keys(connection: Connection, data: Path | None, database_url: str, tenant: str) -> Iterator[Keys]:
    """The keys in the registry of a data folder (made if it is not there), else those of the service."""
    if data is None:
        with connection.client() as client:
            yield client.keys.of(tenant or None)
    else:
        from serving.commands.stored_keys import StoredKeys, open_store  # noqa: PLC0415 - SQL, only where it is asked for

        with open_store(data, database_url) as store:
            yield StoredKeys(store, tenant or "default")


@app.command()
def create(
    ctx: typer.Context,
    *,
    scopes: Annotated[
        str, typer.Option(metavar="A,B", help="Of predict, publish, operate, admin, metrics.")
    ] = "predict",
    label: Annotated[str, typer.Option(help="What the key is for; a label has at most two live keys.")] = "",
    expires_in: Annotated[str, typer.Option(metavar="30d", help="How long it is good; for ever if left out.")] = "",
    data: Data = None,
    tenant: Tenant = "",
    database_url: DatabaseUrl = "",
    as_json: Json = False,
) -> None:
    """Make a key; its secret is shown once. With the first one, whoever's it is, every call needs a key.

    With --data it is made without HTTP, and without a key.
    """
    lifetime = seconds(expires_in, "--expires-in") if expires_in else None
    with open_keys(ctx.obj, data, database_url, tenant) as keys:
        made = keys.create(split(scopes) or (), label, expires_in_s=lifetime)
    _tell(made, as_json=as_json)


@app.command()
def ls(
    ctx: typer.Context, data: Data = None, tenant: Tenant = "", database_url: DatabaseUrl = "", as_json: Json = False
) -> None:
    """List the keys of a tenant."""
    with open_keys(ctx.obj, data, database_url, tenant) as keys:
        found = keys.list()
    if as_json:
        tables.print_json({"items": found})
    else:
        tables.print_keys(found)


@app.command()
def rotate(
    ctx: typer.Context,
    key_id: KeyId,
    *,
    grace: Annotated[str, typer.Option(metavar="1h", help="How long the old key goes on.")] = "1h",
    data: Data = None,
    tenant: Tenant = "",
    database_url: DatabaseUrl = "",
    as_json: Json = False,
) -> None:
    """Make a key with the scopes and label of another one, which ends after the grace."""
    with open_keys(ctx.obj, data, database_url, tenant) as keys:
        made = keys.rotate(key_id, seconds(grace, "--grace"))
    _tell(made, as_json=as_json)


@app.command()
def revoke(
    ctx: typer.Context, key_id: KeyId, data: Data = None, tenant: Tenant = "", database_url: DatabaseUrl = ""
) -> None:
    """Revoke a key; it is refused within a second."""
    with open_keys(ctx.obj, data, database_url, tenant) as keys:
        keys.revoke(key_id)
    tables.done(f"revoked {key_id}")


def _tell(made: NewKeyAnswer, *, as_json: bool) -> None:
    if as_json:
        tables.print_json(made)
        return
    until = "" if made["expires"] is None else f", until {made['expires']}"
    tables.note(
        f"key {made['key_id']} of tenant {made['tenant']} for {', '.join(made['scopes'])}{until}; shown only now:"
    )
    tables.done(made["secret"])
