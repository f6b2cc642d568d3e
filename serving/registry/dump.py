"""The registry as lines of JSON, one row each, the same for every database: `{"table": "names", "row": {...}}`."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any

from sqlalchemy import Connection, delete, insert, select, text, update

from serving.errors import Conflict, Unprocessable
from serving.registry.database import Write
from serving.registry.schema import known
from serving.registry.tables import AUDIT, LOCAL, META, METADATA

_TABLES = tuple(table for table in METADATA.sorted_tables if table not in LOCAL)
_AT_ONCE = 500  # rows per statement
LEAP = 1_000_000_000
"""How far a restored registry's revision is ahead of its backup's: gateways that saw later ones read all of it anew."""

Row = dict[str, Any]


def schema_of(connection: Connection) -> str:
    """The migration that a database stands at."""
    number: str = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    return number


def rows(connection: Connection) -> Iterator[tuple[str, Row]]:
    """(table, row) of everything, those first that others refer to. `connection` must be a read transaction."""
    for table in _TABLES:
        query = select(table).order_by(*table.primary_key.columns)
        for row in connection.execution_options(yield_per=_AT_ONCE).execute(query).mappings():
            yield table.name, dict(row)


def line(table: str, row: Row) -> str:
    """A row as a line."""
    return json.dumps({"table": table, "row": row}, ensure_ascii=False, allow_nan=False) + "\n"


def parsed(lines: Iterable[str]) -> Iterator[tuple[str, Row]]:
    """Lines as rows; raises `Unprocessable` for one that is none of ours."""
    for number, text_line in enumerate(lines, 1):
        try:
            held = json.loads(text_line)
            name, row = held["table"], held["row"]
            unknown = row.keys() - METADATA.tables[name].columns.keys()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unprocessable(f"line {number} of the backup is no row of this registry") from error
        if unknown:
            raise Unprocessable(f"line {number} of the backup has the unknown columns {', '.join(sorted(unknown))}")
        yield name, row


def refuse_unknown_schema(schema: str) -> None:
    """Raise `Conflict` for a migration that this release does not know; earlier ones are its own."""
    if schema not in known():
        raise Conflict(f"this backup was made by another release (schema {schema})", code="newer_registry")


def fill(write: Write, found: Iterable[tuple[str, Row]]) -> None:
    """Insert rows into an empty registry; its revision is then `LEAP` ahead of theirs, and so is that of every row."""
    revision = 0
    for name, group in groupby(found, key=lambda item: item[0]):
        table, batches = METADATA.tables[name], (row for _, row in group)
        if table is META:
            (meta,) = batches
            revision = meta["revision"] + LEAP
            write.connection.execute(delete(META))
            write.connection.execute(insert(META).values(**{**meta, "revision": revision}))
            continue
        while batch := list(islice(batches, _AT_ONCE)):
            write.connection.execute(insert(table), batch)
    for table in _TABLES:
        if "revision" in table.columns:
            write.connection.execute(update(table).values(revision=revision))
    if write.connection.dialect.name != "sqlite":  # rows that brought their number did not count for the next one
        numbered = "SELECT setval(pg_get_serial_sequence(:name, 'id'), coalesce(max(id), 0) + 1, false) FROM audit"
        write.connection.execute(text(numbered), {"name": AUDIT.name})
