"""What a target holds: its members are written with it, freed with it, and can not be retired before it."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select

from adapters.refs import Reference
from serving.errors import Conflict
from serving.registry.absence import missing_name, missing_selector
from serving.registry.database import Write
from serving.registry.lookup import NameKey, ParseManifest, name_is, read_name
from serving.registry.records import Member, NameRecord
from serving.registry.tables import MEMBERS

_SHOWN = 10  # holders that a refusal names


def hold(write: Write, key: NameKey, version: int, members: Sequence[Member], parse: ParseManifest) -> None:
    """Note what a new version of a target is made of; raises `NotFound` where a member was retired meanwhile."""
    tenant, space, name = key
    for member in members:
        record = read_name(write.connection, (tenant, member.space, member.ref.name), parse)
        if record is None:
            raise missing_name(member.space, member.ref.name)
        if member.ref not in [version.ref for version in record.versions]:
            raise missing_selector(record, Reference(member.ref.name, digest=member.ref.digest))
    rows = {
        (member.space, member.ref.name, member.ref.version): {
            "tenant": tenant,
            "space": space,
            "name": name,
            "version": version,
            "member_space": member.space,
            "member_name": member.ref.name,
            "member_version": member.ref.version,
        }
        for member in members
    }
    if rows:
        write.connection.execute(insert(MEMBERS), list(rows.values()))


def free(write: Write, key: NameKey, versions: Sequence[int]) -> None:
    """Forget what versions of a target are made of."""
    write.connection.execute(delete(MEMBERS).where(name_is(MEMBERS, key), MEMBERS.c.version.in_(versions)))


def refuse_held(write: Write, record: NameRecord, versions: Sequence[int]) -> None:
    """Raise `Conflict` naming every alias, pin and target that holds one of these versions."""
    holders = [f"alias {alias!r} (version {n})" for alias, n in sorted(record.aliases.items()) if n in versions]
    holders += [f"a pin (version {n})" for n in sorted(record.pinned) if n in versions]
    holders += [f"the target {target} (version {n})" for target, n in _targets(write, record, versions)]
    if holders:
        shown = ", ".join(holders[:_SHOWN]) + (f" and {len(holders) - _SHOWN} more" if len(holders) > _SHOWN else "")
        raise Conflict(f"{record.name!r} is held by {shown}: move or remove it first", code="held")


def _targets(write: Write, record: NameRecord, versions: Sequence[int]) -> list[tuple[str, int]]:
    """(target and its version, version of the name that it is made of)."""
    query = (
        select(MEMBERS.c.name, MEMBERS.c.version, MEMBERS.c.member_version)
        .where(MEMBERS.c.tenant == record.tenant, MEMBERS.c.member_space == record.space)
        .where(MEMBERS.c.member_name == record.name, MEMBERS.c.member_version.in_(versions))
        .order_by(MEMBERS.c.name, MEMBERS.c.version)
    )
    return [(f"{row.name}@{row.version}", row.member_version) for row in write.connection.execute(query)]


def refuse_other_kind(record: NameRecord | None, kind: str) -> None:
    """Raise `Conflict` where targets and packages would be versions of one name.

    A reference to such a name could be a member of a stack today and a whole stack tomorrow.
    """
    if record is None:
        return
    held = "target" if record.versions[0].manifest.kind == "target" else "package"
    wanted = "target" if kind == "target" else "package"
    if held != wanted:
        raise Conflict(
            f"{record.name!r} is the name of a {held}: publish the {wanted} under another name", code="other_kind"
        )


def taken(name: str) -> Conflict:
    """The refusal of a new token embedding whose name has versions."""
    return Conflict(
        f"the token embedding {name!r} is there already: delete it, or take another name", code="name_taken"
    )
