"""`chorus audit`: who changed what, from what to what."""

import json
from typing import Annotated, Any

import typer

from serving.api.administration_answers import AuditedAnswer
from serving.commands import tables
from serving.commands.options import Json, connect

PAGE = 1000
app = typer.Typer()


@app.command()
def audit(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only what happened to this name, key or tenant.")] = None,
    *,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Rows, newest first.")] = 50,
    tenant: Annotated[
        str | None, typer.Option(help="`*` is everybody; others than one's own need an admin key.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="adapter, embedding, key, tenant ...")] = None,
    action: Annotated[str | None, typer.Option(help="publish, alias, delete, pin ...")] = None,
    as_json: Json = False,
) -> None:
    """Show who changed what, newest first."""
    rows: list[AuditedAnswer] = []
    after: int | None = 0
    with connect(ctx) as client:
        while after is not None and len(rows) < count:
            page = client.audit.page(
                tenant=tenant, space=space, name=name, action=action, after=after, limit=min(PAGE, count - len(rows))
            )
            rows += page["items"]
            after = page["next"]
    if as_json:
        tables.print_json({"items": rows})
        return
    tables.table(
        ("WHEN", "TENANT", "WHO", "ACTION", "WHAT", "CHANGE", "REQUEST"),
        [
            (
                row["at"],
                row["tenant"],
                row["actor"],
                row["action"],
                f"{row['space']} {row['subject']}",
                _change(row),
                row["request_id"] or "-",
            )
            for row in rows
        ],
    )


def _change(row: AuditedAnswer) -> str:
    """What was before and what is after, or the words of the row."""
    before, after = row["before"], row["after"]
    if before is None and after is None:
        return row["detail"] or "-"
    return " -> ".join(_short(value) for value in (before, after))


def _short(value: Any) -> str:
    if not isinstance(value, dict):
        return "-" if value is None else json.dumps(value)
    return " ".join(f"{key}={json.dumps(item)}" for key, item in value.items() if item is not None) or "-"
