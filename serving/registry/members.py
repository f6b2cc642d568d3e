"""What a target holds: its members are written with it, freed with it, and can not be retired before it."""

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select

from adapters.refs import Reference
from serving.errors import Conflict
from serving.registry.absence import missing_name, missing_selector
from serving.registry.actives import others_with
from serving.registry.change import Change, columns
from serving.registry.lookup import NameKey, name_is
from serving.registry.records import PUBLIC, Member, NameRecord, owner_of
from serving.registry.tables import BORROWED, MEMBERS

_SHOWN = 10  # holders that a refusal names


def hold(change: Change, key: NameKey, version: int, members: Sequence[Member]) -> None:
    """Note what a new version of a target is made of; raises `NotFound` where a member was retired meanwhile."""
    own, borrowed = {}, {}
    for member in dict.fromkeys(members):
        owner = owner_of(key[0], member.ref.name)
        record = change.name((owner, member.space, member.ref.name))
        if record is None:
            raise missing_name(member.space, member.ref.name)
        if member.ref not in [held.ref for held in record.versions]:
            raise missing_selector(record, Reference(member.ref.name, digest=member.ref.digest))
        row = {
            **columns(key),
            "version": version,
            "member_space": member.space,
            "member_name": member.ref.name,
            "member_version": member.ref.version,
        }
        if owner == key[0]:
            own[member] = row
        else:
            borrowed[member] = {**row, "member_tenant": owner}
    for table, rows in ((MEMBERS, own), (BORROWED, borrowed)):
        if rows:
            change.execute(insert(table).values(list(rows.values())))


def free(change: Change, key: NameKey, versions: Sequence[int]) -> None:
    """Forget what versions of a target are made of."""
    for table in (MEMBERS, BORROWED):
        change.execute(delete(table).where(name_is(table, key), table.c.version.in_(versions)))


def refuse_held(change: Change, record: NameRecord, versions: Sequence[int]) -> None:
    """Raise `Conflict` naming every alias, pin and target that holds one of these versions.

    Of a public name, other tenants are counted and not named.
    """
    holders = [f"alias {alias!r} (version {n})" for alias, n in sorted(record.aliases.items()) if n in versions]
    holders += [f"a pin (version {n})" for n in sorted(record.pinned) if n in versions]
    holders += [f"the target {target} (version {n})" for target, n in _targets(change, record, versions)]
    holders += _borrowers(change, record, versions)
    if holders:
        shown = ", ".join(holders[:_SHOWN]) + (f" and {len(holders) - _SHOWN} more" if len(holders) > _SHOWN else "")
        raise Conflict(f"{record.name!r} is held by {shown}: move or remove it first", code="held")


def _targets(change: Change, record: NameRecord, versions: Sequence[int]) -> list[tuple[str, int]]:
    """(target and its version, version of the name that it is made of)."""
    query = (
        select(MEMBERS.c.name, MEMBERS.c.version, MEMBERS.c.member_version)
        .where(MEMBERS.c.tenant == record.tenant, MEMBERS.c.member_space == record.space)
        .where(MEMBERS.c.member_name == record.name, MEMBERS.c.member_version.in_(versions))
        .order_by(MEMBERS.c.name, MEMBERS.c.version)
    )
    return [(f"{row.name}@{row.version}", row.member_version) for row in change.execute(query)]


def _borrowers(change: Change, record: NameRecord, versions: Sequence[int]) -> list[str]:
    """How many other tenants hold a public name: by targets of theirs, or as their active vocabulary."""
    if record.tenant != PUBLIC:
        return []
    held = (
        BORROWED.c.member_tenant == record.tenant,
        BORROWED.c.member_space == record.space,
        BORROWED.c.member_name == record.name,
        BORROWED.c.member_version.in_(versions),
    )
    tenants: int = change.execute(select(func.count(BORROWED.c.tenant.distinct())).where(*held)).scalar_one()
    found = [f"targets of other tenants ({tenants})"] if tenants else []
    whole = record.space == "embedding" and len(versions) == len(record.versions)
    active = others_with(change, record.tenant, record.name) if whole else 0
    return found + ([f"other tenants ({active}), whose active vocabulary it is"] if active else [])


def refuse_other_kind(name: str, held: str | None, wanted: str) -> None:
    """Raise `Conflict` where targets and packages would be versions of one name; `held` is its kind, None for a new one.

    A reference to such a name could be a member of a stack today and a whole stack tomorrow.
    """
    if held is None or (held == "target") == (wanted == "target"):
        return
    there, here = ("target", "package") if held == "target" else ("package", "target")
    raise Conflict(f"{name!r} is the name of a {there}: publish the {here} under another name", code="other_kind")


def taken(name: str) -> Conflict:
    """The refusal of a new token embedding whose name has versions."""
    return Conflict(
        f"the token embedding {name!r} is there already: delete it, or take another name", code="name_taken"
    )
