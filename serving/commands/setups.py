"""A saved setup of AdapterHub as what it is here: a package for every adapter, fusion and head, and a target over them.

The library's names are free text (`a,b` is a fusion); names here are not, so each part gets one below the target's.
"""

import asyncio
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.architectures.profile import BackboneProfile
from adapters.errors import Misfit
from adapters.formats import native
from adapters.formats.adapterhub.setup import Setup
from adapters.formats.check import check
from adapters.manifest import Manifest
from adapters.refs import RESERVED_SECOND_SEGMENTS, AdapterRef, Reference, parse_name
from adapters.weights import Package
from serving.api.answers import PublishedAnswer
from serving.api.assembling import TargetWish, assemble
from serving.api.resolving import Resolver
from serving.client import Client
from serving.commands import tables
from serving.commands.packages import Ready, publish
from serving.errors import Conflict, NotFound
from serving.registry.absence import missing_name
from serving.registry.records import NameRecord, Quota, Resolved, Space, Version

_LONGEST = 40  # characters of a part's own name: the target's may stand before it in the same segment
_INVALID = re.compile(r"[^a-z0-9._]+")


@dataclass(frozen=True, eq=False)
class Part:
    """One member of a setup: what the library called it, what it will be called, and its package."""

    kind: str
    library_name: str
    name: str
    package: Package


def push_setup(client: Client, setup: Setup, name: str, profile: BackboneProfile, *, promote: bool) -> dict[str, Any]:
    """Publish every part, then the target; the same setup again changes nothing.

    Nothing is sent before all fits, the target can be made of its parts, and every name is free for its kind: raises
    `Misfit`, `Unprocessable` or `Conflict`.
    """
    found = parts(setup, parse_name(name))
    reasons = [f"{part.library_name}: {reason}" for part in found for reason in _reasons(part.package, profile)]
    if reasons:
        raise Misfit(reasons)
    composition, head = arranged(setup, {(part.kind, part.library_name): part.name for part in found})
    resolver = Resolver("", _Parts({part.name: part.package.manifest for part in found}))
    asyncio.run(assemble(TargetWish(composition, None, head), resolver, profile.geometry))
    _refuse_taken(client, name, "target")
    for part in found:
        _refuse_taken(client, part.name, "package")
    for warning in setup.warnings:
        tables.note(f"warning: {warning}")
    published: dict[tuple[str, str], PublishedAnswer] = {}
    for number, part in enumerate(found, 1):
        tables.note(f"{number} of {len(found)}: the {part.kind} {part.library_name!r} as {part.name}")
        ready = Ready(part.package, native.write(part.package))
        published[part.kind, part.library_name] = publish(client, ready, part.name, promote=False, embedding=False)
    words = {key: f"{answer['name']}@{answer['version']}" for key, answer in published.items()}
    composition, head = arranged(setup, words)
    answer = client.targets.put(name, composition, head=head, promote=promote)
    tables.note(tables.published(answer))
    return {
        **answer,
        "parts": [{"source": part.library_name, **published[part.kind, part.library_name]} for part in found],
    }


def parts(setup: Setup, name: str) -> list[Part]:
    """Every member, with a name of its own below the target's."""
    taken: set[str] = set()
    return [
        Part(kind, library_name, _distinct(name, library_name, kind, taken), package)
        for kind, members in _members(setup)
        for library_name, package in members.items()
    ]


def arranged(setup: Setup, words: Mapping[tuple[str, str], str]) -> tuple[Any, str | None]:
    """A setup's composition and head in the words for its (kind, library's name)s."""
    head = None if setup.head is None else words.get(("head", setup.head), words.get(("adapter", setup.head)))
    return renamed(setup.composition, words), head


def renamed(value: Any, words: Mapping[tuple[str, str], str]) -> Any:
    """A setup's composition with the published references in place of the library's names."""
    if isinstance(value, str):
        return words["adapter", value]
    if isinstance(value, list):
        return [renamed(child, words) for child in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: words["fusion", item] if key == "name" else item if key in ("weights", "splits") else renamed(item, words)
        for key, item in value.items()
    }


@dataclass(frozen=True)
class _Parts:
    """The parts as a directory of names, before any is published: what the service will find is judged here first."""

    held: Mapping[str, Manifest]
    changes: int = 0

    async def resolve(self, tenant: str, space: Space, reference: Reference) -> Resolved:
        """The part of a name."""
        if space != "adapter" or reference.name not in self.held:
            raise missing_name(space, reference.name, self.held)
        ref = AdapterRef(tenant, reference.name, 1, f"sha256:{0:064}")
        return Resolved(Version(ref, space, self.held[reference.name], 0, 0.0, ""), None)

    def names(self, tenant: str, space: Space) -> Sequence[NameRecord]:
        """None is published."""
        return ()

    def active_embedding(self, tenant: str) -> str | None:
        """The backbone's own vocabulary."""
        return None

    def quota(self, tenant: str) -> Quota:
        """The service looks at it."""
        return Quota()

    def ready(self) -> bool:
        """Always."""
        return True


def _refuse_taken(client: Client, name: str, kind: str) -> None:
    """Raise `Conflict` where a name that is to be a target's is a package's, or the other way round."""
    try:
        versions = client.adapters.show(name)["versions"]
    except NotFound:
        return
    held = "target" if any(version["kind"] == "target" for version in versions) else "package"
    if versions and held != kind:
        detail = f"{name!r} is the name of a {held}, and the setup needs it for a {kind}"
        raise Conflict(f"{detail}: push the setup under another name", code="other_kind")


def _members(setup: Setup) -> Iterator[tuple[str, Mapping[str, Package]]]:
    yield "adapter", setup.adapters
    yield "fusion", setup.fusions
    yield "head", setup.heads


def _distinct(target: str, library_name: str, kind: str, taken: set[str]) -> str:
    """A valid name that no other part has: `target/part`, or `target.part` where the target's name has a slash."""
    plain = unicodedata.normalize("NFKD", library_name).encode("ascii", "ignore").decode().lower()
    own = _INVALID.sub("-", plain).strip("._-")[:_LONGEST].strip("._-") or kind
    between = "." if "/" in target else "/"
    wanted = [own, f"{own}-{kind}", *(f"{own}-{number}" for number in range(2, 2 + len(taken) + 1))]
    free = [part for part in wanted if part not in RESERVED_SECOND_SEGMENTS]
    chosen = next(name for part in free if (name := f"{target}{between}{part}") not in taken)
    taken.add(chosen)
    return parse_name(chosen)


def _reasons(package: Package, profile: BackboneProfile) -> tuple[str, ...]:
    try:
        check(package, profile)
    except Misfit as misfit:
        return misfit.reasons
    return ()
