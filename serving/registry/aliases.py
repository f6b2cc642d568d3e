"""Aliases: moved by compare-and-swap on the revision of their name, each step in the audit."""

from sqlalchemy import delete, insert, select, update

from adapters.refs import Reference
from serving.errors import PreconditionFailed
from serving.registry.absence import missing_selector
from serving.registry.change import Change, columns
from serving.registry.lookup import NameKey, name_is
from serving.registry.records import NameRecord
from serving.registry.tables import ALIASES


def point(change: Change, key: NameKey, alias: str, version: int) -> None:
    """Let an alias lead to a version of a name; one that leads there already stays as it is."""
    held = (name_is(ALIASES, key), ALIASES.c.alias == alias)
    was: int | None = change.execute(select(ALIASES.c.version).where(*held)).scalar_one_or_none()
    if was == version:
        return
    if was is None:
        change.execute(insert(ALIASES).values(**columns(key), alias=alias, version=version))
    else:
        change.execute(update(ALIASES).where(*held).values(version=version))
    change.touch(
        key,
        "alias",
        subject=f"{key[2]}@{alias}",
        detail=f"version {version}" + ("" if was is None else f", was version {was}"),
        before=None if was is None else {"version": was},
        after={"version": version},
    )


def remove(change: Change, record: NameRecord, alias: str) -> None:
    """Take an alias away; raises `NotFound`."""
    if alias not in record.aliases:
        raise missing_selector(record, Reference(record.name, alias=alias))
    key, was = record.key, record.aliases[alias]
    change.execute(delete(ALIASES).where(name_is(ALIASES, key), ALIASES.c.alias == alias))
    subject = f"{record.name}@{alias}"
    change.touch(key, "unalias", subject=subject, detail=f"was version {was}", before={"version": was})


def refuse_outdated(record: NameRecord, if_match: int | None) -> None:
    """Raise `PreconditionFailed` where the caller saw another revision of the name."""
    if if_match is not None and if_match != record.revision:
        raise PreconditionFailed(f"{record.name!r} is at revision {record.revision}, not {if_match}: read it again")
