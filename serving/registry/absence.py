"""The one way to say that a name, version or alias is not there: another tenant's sounds exactly the same."""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

from adapters.refs import Reference
from serving.errors import NotFound
from serving.registry.records import NameRecord, Space

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
    elif reference.version is not None:
        detail = f"{noun} {record.name!r} has no version {reference.version} (newest: {newest})"
    else:
        detail = f"{noun} {record.name!r} has no version with digest {reference.digest}"
    return NotFound(detail, code=f"{record.space}_not_found")


def _noun(space: Space) -> str:
    return "adapter" if space == "adapter" else "token embedding"
