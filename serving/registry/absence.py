"""The one way to say that a name, version or alias is not there: another tenant's sounds exactly the same.

What a tenant had and retired is told apart from what never was, to that tenant. What is there but not to be trusted is
refused here as well.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

from adapters.refs import Reference
from serving.errors import DependencyFailed, NotFound
from serving.registry.records import NameRecord, Space, Version

COMPARED = 500  # names; a refusal must stay cheap, however many a tenant has
COMPARED_CHARACTERS = 40  # of each


def missing_name(space: Space, name: str, known: Iterable[str] = ()) -> NotFound:
    """`NotFound` for a name; `known` are the caller's own names, for a suggestion among the first of them."""
    heads = {other[:COMPARED_CHARACTERS]: other for other in islice(known, COMPARED)}
    near = [heads[head] for head in get_close_matches(name[:COMPARED_CHARACTERS], heads, n=3)]
    hint = f"; did you mean {' or '.join(repr(other) for other in near)}?" if near else ""
    return NotFound(f"no {_noun(space)} {name!r}{hint}", code=f"{space}_not_found")


def missing_selector(record: NameRecord, reference: Reference) -> NotFound:
    """`NotFound` for a version, alias or digest of a name that is there."""
    noun, newest = _noun(record.space), record.versions[-1].ref.version
    if reference.alias is not None:
        held = ", ".join(sorted(record.aliases)) or "none"
        detail = f"{noun} {record.name!r} has no alias {reference.alias!r} (aliases: {held})"
    elif reference.version is not None and reference.version <= record.last:
        return retired(record.space, record.name, reference.version)
    elif reference.version is not None:
        detail = f"{noun} {record.name!r} has no version {reference.version} (newest: {newest})"
    else:
        detail = f"{noun} {record.name!r} has no version with digest {reference.digest}"
    return NotFound(detail, code=f"{record.space}_not_found")


def retired(space: Space, name: str, version: int) -> NotFound:
    """`NotFound` for a version that was there once."""
    return NotFound(f"version {version} of the {_noun(space)} {name!r} was retired", code=f"{space}_retired")


def refuse_quarantined(version: Version) -> None:
    """Raise `DependencyFailed` for a version whose bytes were found to be lost or wrong."""
    if version.quarantined is not None:
        told = f"{_noun(version.space)} {version.ref.name}@{version.ref.version} is in quarantine"
        remedy = "publish the same bytes again, or name another version"
        raise DependencyFailed(f"{told} ({version.quarantined}): {remedy}", code="quarantined")


def _noun(space: Space) -> str:
    return "adapter" if space == "adapter" else "token embedding"
