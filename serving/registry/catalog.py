"""The truth of the registry: every write is one transaction that also says so in the audit.

Versions count from 1 per (tenant, space, name) and never change; aliases move by compare-and-swap on the name's
revision. All methods are synchronous: call them from a thread.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import delete, insert, select, update

from adapters.architectures.profile import BackboneProfile
from serving.errors import Conflict
from serving.registry import actives, aliases, quarantine, replays, tags, versions
from serving.registry.absence import refuse_quarantined
from serving.registry.change import SERVICE, Change, columns
from serving.registry.doom import Still
from serving.registry.lookup import name_is
from serving.registry.members import taken
from serving.registry.reading import Reading
from serving.registry.records import (
    DEFAULT_ALIAS,
    DEFAULT_EMBEDDING,
    CheckReport,
    Member,
    Moved,
    NameRecord,
    Once,
    Published,
    Space,
    owner_of,
)
from serving.registry.tables import META, PINS

T = TypeVar("T")


class Actor(Protocol):
    """Who writes: `serving.tenancy.keys.Caller`, which stands on this floor."""

    @property
    def tenant(self) -> str:
        """The tenant whose names are meant."""
        ...

    @property
    def key_id(self) -> str:
        """What the audit names."""
        ...


@dataclass(frozen=True)
class Committed(Generic[T]):
    """The outcome of a durable write, and the revision at which readers see it."""

    value: T
    revision: int
    replayed: bool = False  # nothing was written: the same write, with the same idempotency key, was done before


class Catalog(Reading):
    """Names, versions, aliases, tags, pins, quarantine and active embeddings in SQL, and the audit of all of them."""

    def bind(self, profile: BackboneProfile) -> None:
        """Remember the backbone, or raise `Conflict` where the registry was made for another one."""
        with self._change(SERVICE) as change:
            held = change.execute(select(META.c.backbone_id, META.c.backbone_digest)).one()
            if held.backbone_digest is None:
                bound = {"backbone_id": profile.id, "backbone_digest": profile.digest}
                change.execute(update(META).values(bound))
                change.note(("", "backbone", ""), "bind", subject=profile.id, detail=profile.digest, after=bound)
            elif held.backbone_digest != profile.digest:
                raise Conflict(
                    f"this registry was made for the backbone {held.backbone_id!r} ({held.backbone_digest}), "
                    f"not for {profile.id!r} ({profile.digest}): serve it from a data folder of its own",
                    code="other_backbone",
                )

    def add_version(
        self,
        actor: Actor,
        space: Space,
        name: str,
        report: CheckReport,
        *,
        promote: bool,
        members: Sequence[Member] = (),
        once: Once | None = None,
        still: Still | None = None,
    ) -> Committed[Published]:
        """A new version, or the existing one where the name holds the same bytes; `promote` moves `prod` to it.

        `members` are what a target is made of; `still` raises where its bytes may be gone (`undoomed`). Raises
        `Conflict` where the name holds another kind or the quota is used up, `NotFound` where a member is gone, and
        `Unprocessable` for a name or a key that is not the actor's.
        """
        key = versions.nameable(actor.tenant, space, name)
        with self._change(actor.key_id) as change:
            if told := replays.recalled(change.write.connection, actor.tenant, once, change.at, self._parse):
                return Committed(told, change.revision, replayed=True)
            if still is not None:
                still(change.write.connection, change.at)
            number, created = versions.publish(change, key, report, members)
            if promote:
                aliases.point(change, key, DEFAULT_ALIAS, number)
            version = versions.written(change, key, number)
            published = Published(version, created, promoted=DEFAULT_ALIAS if promote else None)
            replays.remember(change, actor.tenant, once, published)
            return Committed(published, change.revision)

    def add_embedding(
        self,
        actor: Actor,
        name: str,
        report: CheckReport,
        *,
        activate: bool,
        once: Once | None = None,
        still: Still | None = None,
    ) -> Committed[Published]:
        """The first version of a token embedding, active from the same moment on; raises `Conflict` for a taken name."""
        key = versions.nameable(actor.tenant, "embedding", name)
        with self._change(actor.key_id) as change:
            if told := replays.recalled(change.write.connection, actor.tenant, once, change.at, self._parse):
                return Committed(told, change.revision, replayed=True)
            if still is not None:
                still(change.write.connection, change.at)
            if change.name(key) is not None:
                raise taken(name)
            number, _ = versions.publish(change, key, report, ())
            if activate:
                actives.activate(change, actor.tenant, name)
            published = Published(versions.written(change, key, number), created=True, promoted=None)
            replays.remember(change, actor.tenant, once, published)
            return Committed(published, change.revision)

    def set_alias(
        self, actor: Actor, space: Space, name: str, alias: str, version: int, *, if_match: int | None
    ) -> Committed[Moved]:
        """Point an alias at a version that may be served.

        Raises `NotFound`, `PreconditionFailed` where `if_match` is outdated, and `DependencyFailed` for a version in
        quarantine.
        """
        with self._change(actor.key_id) as change:
            record = versions.owned(change, actor.tenant, space, name)
            aliases.refuse_outdated(record, if_match)
            refuse_quarantined(versions.numbered(record, version))
            aliases.point(change, record.key, alias, version)
            return Committed(Moved(change.present(record.key), record.aliases.get(alias)), change.revision)

    def delete_alias(
        self, actor: Actor, space: Space, name: str, alias: str, *, if_match: int | None
    ) -> Committed[NameRecord]:
        """Remove an alias; raises `NotFound`, or `PreconditionFailed` where `if_match` is outdated."""
        with self._change(actor.key_id) as change:
            record = versions.owned(change, actor.tenant, space, name)
            aliases.refuse_outdated(record, if_match)
            aliases.remove(change, record, alias)
            return Committed(change.present(record.key), change.revision)

    def set_pin(self, actor: Actor, space: Space, name: str, version: int, *, pinned: bool) -> Committed[NameRecord]:
        """Pin or unpin a version; doing it twice is doing it once."""
        with self._change(actor.key_id) as change:
            record = versions.owned(change, actor.tenant, space, name)
            versions.numbered(record, version)
            if pinned != (version in record.pinned):
                if pinned:
                    change.execute(insert(PINS).values(**columns(record.key), version=version))
                else:
                    change.execute(delete(PINS).where(name_is(PINS, record.key), PINS.c.version == version))
                told: dict[str, Any] = {"before": {"pinned": not pinned}, "after": {"pinned": pinned}}
                change.touch(record.key, "pin" if pinned else "unpin", subject=f"{name}@{version}", **told)
            return Committed(change.present(record.key), change.revision)

    def set_tags(
        self,
        actor: Actor,
        space: Space,
        name: str,
        version: int,
        wanted: Mapping[str, str],
        *,
        if_match: int | None = None,
    ) -> Committed[NameRecord]:
        """Replace the tags of a version.

        Raises `NotFound`, `PreconditionFailed` where `if_match` is outdated, or `Unprocessable` with every reason.
        """
        tags.refuse_bad_tags(wanted)
        with self._change(actor.key_id) as change:
            record = versions.owned(change, actor.tenant, space, name)
            aliases.refuse_outdated(record, if_match)
            tags.replace_tags(change, record, versions.numbered(record, version), wanted)
            return Committed(change.present(record.key), change.revision)

    def delete(self, actor: Actor, space: Space, name: str, version: int | None) -> Committed[None]:
        """Retire a version, or all of a name; raises `Conflict` where an alias, a pin or a target holds one of them.

        An active token embedding that loses its last version makes `default` active.
        """
        if space == "embedding" and name == DEFAULT_EMBEDDING:
            raise Conflict(f"{name!r} is the backbone's own vocabulary and stays")
        with self._change(actor.key_id) as change:
            record = versions.owned(change, actor.tenant, space, name)
            doomed = record.versions if version is None else (versions.numbered(record, version),)
            versions.retire(change, record, doomed)
            if space == "embedding" and len(doomed) == len(record.versions):
                actives.deactivate(change, actor.tenant, name)
            return Committed(None, change.revision)

    def set_active_embedding(self, actor: Actor, name: str | None) -> Committed[None]:
        """Make a token embedding the tenant's default vocabulary; None and `default` are the backbone's own."""
        chosen = None if name == DEFAULT_EMBEDDING else name
        with self._change(actor.key_id) as change:
            if chosen is not None:
                change.present((owner_of(actor.tenant, chosen), "embedding", chosen))
            actives.activate(change, actor.tenant, chosen)
            return Committed(None, change.revision)

    def quarantine(self, digest: str, reason: str) -> Committed[bool]:
        """Serve no version with these bytes any more, whoever's; False where that is so already."""
        with self._change(SERVICE) as change:
            return Committed(quarantine.confine(change, digest, reason), change.revision)

    def lift(self, digest: str) -> Committed[bool]:
        """End a quarantine, as a publish of the same bytes does; False where there is none."""
        with self._change(SERVICE) as change:
            return Committed(quarantine.lift(change, digest), change.revision)

    def note(
        self, actor: Actor, space: Space, name: str, action: str, *, subject: str, detail: str = "", after: Any = None
    ) -> Committed[None]:
        """A line of the audit about something that changed nothing here, such as a gate that was not passed."""
        with self._change(actor.key_id) as change:
            change.note((actor.tenant, space, name), action, subject=subject, detail=detail, after=after)
            return Committed(None, change.revision)

    @contextmanager
    def _change(self, actor: str) -> Iterator[Change]:
        with self._database.write() as write:
            yield Change(write, actor, self._clock(), self._parse)
