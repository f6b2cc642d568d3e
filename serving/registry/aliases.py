"""Aliases: moved by compare-and-swap on the revision of their name, each step in the audit."""

from sqlalchemy import bindparam, delete, insert, select, update

from adapters.refs import Reference
from serving.errors import PreconditionFailed
from serving.registry.absence import missing_selector
from serving.registry.change import Change, columns
from serving.registry.lookup import NameKey, is_name, of
from serving.registry.records import NameRecord
from serving.registry.tables import ALIASES

_IT = (is_name(ALIASES), ALIASES.c.alias == bindparam("its_alias"))
_LEADS_TO = select(ALIASES.c.version).where(*_IT)
_NEW = insert(ALIASES)
_MOVE = update(ALIASES).where(*_IT).values(version=bindparam("to"))
_REMOVE = delete(ALIASES).where(*_IT)


def point(change: Change, key: NameKey, alias: str, version: int) -> None:
    """Let an alias lead to a version of a name; one that leads there already stays as it is."""
    it = {**of(key), "its_alias": alias}
    was: int | None = change.execute(_LEADS_TO, it).scalar_one_or_none()
    if was == version:
        return
    if was is None:
        change.execute(_NEW, {**columns(key), "alias": alias, "version": version})
    else:
        change.execute(_MOVE, {**it, "to": version})
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
    change.execute(_REMOVE, {**of(key), "its_alias": alias})
    subject = f"{record.name}@{alias}"
    change.touch(key, "unalias", subject=subject, detail=f"was version {was}", before={"version": was})


def refuse_outdated(record: NameRecord, if_match: int | None) -> None:
    """Raise `PreconditionFailed` where the caller saw another revision of the name."""
    if if_match is not None and if_match != record.revision:
        raise PreconditionFailed(f"{record.name!r} is at revision {record.revision}, not {if_match}: read it again")
