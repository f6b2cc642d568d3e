"""What engines hold of a name: a package is itself, a target is the packages that it is made of."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from adapters.manifest import Manifest
from serving.api.services import Directory, Fleet
from serving.registry.records import Resolved, Space, Version
from serving.registry.targets import members_of

SPACES: tuple[Space, ...] = ("adapter", "embedding")


async def residents(directory: Directory, tenant: str, resolved: Resolved) -> list[Resolved]:
    """The versions with weights behind a version."""
    spec = resolved.version.manifest.target
    if spec is None:
        return [resolved]
    return [await directory.resolve(tenant, space, reference) for _, space, reference in members_of(spec)]


def pinned_as(directory: Directory, tenant: str, digest: str) -> list[str]:
    """The tenant's pins that keep some bytes resident: engines know packages by digest, whatever name they go by."""
    return [
        f"{version.ref.name}@{version.ref.version}"
        for version in _pinned(directory, tenant)
        if digest == version.ref.digest or digest in _digests(version.manifest)
    ]


async def loaded(fleet: Fleet, found: Sequence[Resolved], *, pinned: bool) -> dict[str, str]:
    """What became of loading these packages on every replica, all at a time; joined."""
    return joined(await asyncio.gather(*(fleet.preload(item, pinned=pinned) for item in found)))


def joined(outcomes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """One outcome per replica for several packages: what went wrong, else every tier that one of them is in."""
    found: dict[str, list[str]] = {}
    for told in outcomes:
        for replica, outcome in told.items():
            found.setdefault(replica, []).append(outcome)
    return {replica: _one(told) for replica, told in sorted(found.items())}


def _one(told: Sequence[str]) -> str:
    wrong = [outcome for outcome in told if outcome.startswith("error")]
    return wrong[0] if wrong else ", ".join(dict.fromkeys(told))


def _pinned(directory: Directory, tenant: str) -> Iterator[Version]:
    for space in SPACES:
        for record in directory.names(tenant, space):
            yield from (version for version in record.versions if version.ref.version in record.pinned)


def _digests(manifest: Manifest) -> set[str | None]:
    return set() if manifest.target is None else {ref.digest for _, _, ref in members_of(manifest.target)}
