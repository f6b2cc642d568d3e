"""The registry on paper: a `Directory` and the `Control` that writes to it, with the registry's rules and no SQL."""

import hashlib
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from adapters.errors import InvalidName
from adapters.manifest import EmbeddingSpec, Manifest
from adapters.refs import AdapterRef, Reference, parse_alias, parse_name
from adapters.requires import Requires
from serving.config import Limits
from serving.errors import Conflict, NotFound, PreconditionFailed, TooLarge, Unprocessable, from_library
from serving.registry.absence import refuse_quarantined
from serving.registry.inspection import Inspection, Trial
from serving.registry.records import (
    PUBLIC,
    AuditEntry,
    CheckReport,
    Extension,
    Moved,
    NameRecord,
    NewTarget,
    Once,
    Published,
    Quota,
    Resolved,
    Space,
    Tombstone,
    Version,
    is_public,
    owner_of,
)
from serving.registry.targets import members_of, package_bytes
from serving.tenancy.keys import Caller
from tests.serving import samples
from tests.serving.samples import read_manifest

NOW = 1_800_000_000.0


@dataclass
class FakeDirectory:
    """Names in memory; `away` makes unknown names a 503, as when SQL is away."""

    records: dict[tuple[str, Space, str], NameRecord] = field(default_factory=dict)
    active: dict[str, str] = field(default_factory=dict)
    is_ready: bool = True
    quotas: dict[str, Quota] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        """A test may change what is held behind the directory's back."""
        return zlib.crc32(repr((self.records, self.active)).encode())

    async def resolve(self, tenant: str, space: Space, reference: Reference) -> Resolved:
        record = self.records.get((owner_of(tenant, reference.name), space, reference.name))
        absent = NotFound(f"no {space} {str(reference)!r}", code=f"{space}_not_found")
        if record is not None and reference.version in range(1, record.last + 1):
            absent = NotFound(f"{space} {str(reference)!r} was retired", code=f"{space}_retired")
        if record is None or not record.versions:
            raise absent
        if reference.alias is not None and reference.alias not in record.aliases:
            raise absent
        resolved_from = reference.alias
        if (
            reference.version is None
            and reference.digest is None
            and reference.alias is None
            and "prod" in record.aliases
        ):
            resolved_from = "prod"
        wanted = record.aliases.get(resolved_from or "", reference.version)
        for version in record.versions:
            if wanted == version.ref.version or (reference.digest and reference.digest == version.ref.digest):
                refuse_quarantined(version)
                return Resolved(version, resolved_from)
        if wanted is not None or reference.digest is not None:
            raise absent
        refuse_quarantined(record.versions[-1])
        return Resolved(record.versions[-1], None)

    def names(self, tenant: str, space: Space) -> Sequence[NameRecord]:
        mine = [r for key, r in self.records.items() if key[:2] == (tenant, space) and r.versions]
        return sorted(mine, key=lambda record: record.name)

    def active_embedding(self, tenant: str) -> str | None:
        return self.active.get(tenant)

    def quota(self, tenant: str) -> Quota:
        return self.quotas.get(tenant, Quota())

    def ready(self) -> bool:
        return self.is_ready

    def by_digest(self, ref: AdapterRef) -> Version:
        return next(
            v for r in self.records.values() for v in r.versions if (r.tenant, v.ref.digest) == (ref.tenant, ref.digest)
        )


@dataclass
class FakeControl:
    """The registry's rules over a `FakeDirectory`; blobs lie in `folder`."""

    directory: FakeDirectory
    folder: Path
    limits: Limits
    audit: list[AuditEntry] = field(default_factory=list)
    counters: dict[tuple[str, Space, str], int] = field(default_factory=dict)
    extensions: list[Extension] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[str, Published]] = field(default_factory=dict)  # (tenant, idempotency key)
    tombstones: dict[tuple[str, Space, str], list[Tombstone]] = field(default_factory=dict)

    async def publish(
        self,
        caller: Caller,
        space: Space,
        name: str,
        body: AsyncIterator[bytes],
        *,
        promote: bool,
        once: Callable[[str], Once] | None = None,
    ) -> Published:
        _checked_name(name)
        report, data = await self._check(space, body)
        asked = None if once is None else once(report.digest)
        if told := await self.recall(caller, asked):
            return told
        return self._remember(caller, asked, self._publish(caller, space, name, report, data, promote=promote))

    def _publish(
        self, caller: Caller, space: Space, name: str, report: CheckReport, data: bytes, *, promote: bool
    ) -> Published:
        if is_public(name) != (caller.tenant == PUBLIC):
            raise Unprocessable(f"{name!r} belongs to the tenant {PUBLIC!r}", code="public_name")
        key = (caller.tenant, space, name)
        record = self.directory.records.get(key) or NameRecord(caller.tenant, space, name, (), {}, frozenset(), 0)
        version = next((v for v in record.versions if v.ref.digest == report.digest), None)
        created = version is None
        if version is None:
            self.counters[key] = self.counters.get(key, 0) + 1
            ref = AdapterRef(caller.tenant, name, self.counters[key], report.digest)
            version = Version(ref, space, report.manifest, report.nbytes, NOW, caller.key_id)
            self._path(report.digest).write_bytes(data)
            record = replace(record, versions=(*record.versions, version), last=version.ref.version)
        if promote:
            record = replace(record, aliases={**record.aliases, "prod": version.ref.version})
        self._store(caller, record, "publish", f"version {version.ref.version}")
        return Published(version, created, "prod" if promote else None)

    async def publish_target(
        self, caller: Caller, name: str, target: NewTarget, *, promote: bool, once: Once | None = None
    ) -> Published:
        if told := await self.recall(caller, once):
            return told
        held = self.directory.records.get((caller.tenant, "adapter", name))
        if held is not None and held.versions and held.current.manifest.kind != "target":
            raise Conflict(f"{name!r} is the name of a package", code="other_kind")
        data = package_bytes(target.manifest)
        published = await self.publish(caller, "adapter", name, _whole(data), promote=promote)
        return self._remember(caller, once, published)

    async def extend(
        self, caller: Caller, name: str, extension: Extension, *, activate: bool, once: Once | None = None
    ) -> Published:
        """Publish what a checker would make: the tokenizer as it came, and a manifest that counts its tokens."""
        if told := await self.recall(caller, once):
            return told
        held = self.directory.records.get((caller.tenant, "embedding", name))
        if held is not None and held.versions:
            raise Conflict(f"{name!r} is there already", code="name_taken")
        self.extensions.append(extension)
        try:
            rows = len(json.loads(extension.tokenizer)["model"]["vocab"])
        except (ValueError, KeyError, TypeError) as error:
            raise Unprocessable("the tokenizer is not JSON", code="does_not_fit") from error
        manifest = Manifest("embedding", Requires("bert", 8, 2, 2), embedding=EmbeddingSpec(rows, 8, tokenizer=True))
        tensors = {
            "embedding/matrix/weight": np.full((rows, 8), extension.seed, np.float32),
            "embedding/tokenizer/bytes": np.frombuffer(extension.tokenizer, np.uint8),
        }
        data = samples.package_bytes(manifest, tensors)
        published = await self.publish(caller, "embedding", name, _whole(data), promote=False)
        if activate:
            await self.set_active_embedding(caller, name)
        return self._remember(caller, once, published)

    async def recall(self, caller: Caller, once: Once | None) -> Published | None:
        held = None if once is None else self.answers.get((caller.tenant, once.key))
        if held is None or once is None:
            return None
        if held[0] != once.fingerprint:
            raise Unprocessable("another request had this key", code="idempotency_key_reused")
        return replace(held[1], replayed=True)

    async def inspect(
        self, caller: Caller, space: Space, name: str, body: AsyncIterator[bytes], text: str
    ) -> Inspection:
        """Every package touches one module of two, and moves the states by a quarter."""
        _checked_name(name)
        report = (await self._check(space, body))[0]
        trial = Trial(text, len(text.split()) + 2, float(len(text)), 0.25, None)
        return Inspection(report, report.nbytes, {"linear": ("layer.0.query",)}, ("layer.1.query",), trial, "")

    async def gate_failed(self, caller: Caller, space: Space, name: str, version: int, reason: str) -> None:
        self._audit(caller, space, name, "gate", reason)

    async def set_tags(
        self, caller: Caller, space: Space, name: str, version: int, tags: Mapping[str, str], *, if_match: int | None
    ) -> NameRecord:
        record = self._record(caller, space, name, version)
        _refuse_outdated(record, if_match)
        tagged = tuple(replace(v, tags=dict(tags)) if v.ref.version == version else v for v in record.versions)
        return self._store(caller, replace(record, versions=tagged), "tag", str(version))

    async def retired(self, tenant: str, space: Space, name: str) -> Sequence[Tombstone]:
        return self.tombstones.get((tenant, space, name), [])

    async def set_alias(
        self, caller: Caller, space: Space, name: str, alias: str, version: int, *, if_match: int | None
    ) -> Moved:
        try:
            parse_alias(alias)
        except InvalidName as error:
            raise from_library(error, "/alias") from error
        record = self._record(caller, space, name, version)
        _refuse_outdated(record, if_match)
        was, now = record.aliases.get(alias), {**record.aliases, alias: version}
        detail = f"{alias}: {was} -> {version}"
        return Moved(self._store(caller, replace(record, aliases=now), "set_alias", detail), was)

    async def delete_alias(
        self, caller: Caller, space: Space, name: str, alias: str, *, if_match: int | None
    ) -> NameRecord:
        record = self._record(caller, space, name)
        _refuse_outdated(record, if_match)
        if alias not in record.aliases:
            raise NotFound(f"{name} has no alias {alias!r}")
        left = {key: value for key, value in record.aliases.items() if key != alias}
        return self._store(caller, replace(record, aliases=left), "delete_alias", alias)

    async def delete(self, caller: Caller, space: Space, name: str, version: int | None) -> None:
        record = self._record(caller, space, name, version)
        going = {v.ref.version for v in record.versions} if version is None else {version}
        held = [alias for alias, at in record.aliases.items() if at in going]
        if held or going & record.pinned:
            raise Conflict(f"{name} is held by {held or 'a pin'}")
        digests = {v.ref.digest for v in record.versions if v.ref.version in going}
        targets = [
            f"{v.ref.name}@{v.ref.version}"
            for other in self.directory.names(caller.tenant, "adapter")
            for v in other.versions
            if v.manifest.target and digests & {ref.digest for _, _, ref in members_of(v.manifest.target)}
        ]
        if targets:
            raise Conflict(f"{name} is held by the target {', '.join(targets)}", code="held")
        gone = [v for v in record.versions if v.ref.version in going]
        stones = self.tombstones.setdefault((record.tenant, space, name), [])
        stones += [Tombstone(v.ref.version, v.ref.digest, NOW, caller.key_id) for v in gone]
        left = tuple(v for v in record.versions if v.ref.version not in going)
        self._store(caller, replace(record, versions=left), "retire", str(sorted(going)))
        if space == "embedding" and not left and self.directory.active.get(caller.tenant) == name:
            del self.directory.active[caller.tenant]

    async def set_pin(self, caller: Caller, space: Space, name: str, version: int, *, pinned: bool) -> NameRecord:
        record = self._record(caller, space, name, version)
        pins = record.pinned | {version} if pinned else record.pinned - {version}
        return self._store(caller, replace(record, pinned=pins), "pin" if pinned else "unpin", str(version))

    async def set_active_embedding(self, caller: Caller, name: str | None) -> None:
        if name is None:
            self.directory.active.pop(caller.tenant, None)
        else:
            owner = replace(caller, tenant=owner_of(caller.tenant, name))
            self.directory.active[caller.tenant] = self._record(owner, "embedding", name).name

    async def history(self, tenant: str, space: Space, name: str) -> Sequence[AuditEntry]:
        rows = [row for row in reversed(self.audit) if (row.tenant, row.subject) == (tenant, f"{space}:{name}")]
        if not rows:
            raise NotFound(f"no {space} {name!r}", code=f"{space}_not_found")
        return rows

    async def blob(self, resolved: Resolved) -> Path:
        return self._path(resolved.version.ref.digest)

    async def _check(self, space: Space, body: AsyncIterator[bytes]) -> tuple[CheckReport, bytes]:
        data = b""
        async for chunk in body:
            data += chunk
            if len(data) > self.limits.max_package_bytes:
                raise TooLarge(f"a package has at most {self.limits.max_package_bytes} bytes")
        manifest = read_manifest(data)
        if (manifest.kind == "embedding") != (space == "embedding"):
            raise Unprocessable(f"kind {manifest.kind!r} does not belong here", code="does_not_fit")
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        return CheckReport(digest, len(data), manifest, len(data), ()), data

    def _path(self, digest: str) -> Path:
        return self.folder / digest.removeprefix("sha256:")

    def _record(self, caller: Caller, space: Space, name: str, version: int | None = None) -> NameRecord:
        record = self.directory.records.get((caller.tenant, space, name))
        if record is None or not record.versions:
            raise NotFound(f"no {space} {name!r}", code=f"{space}_not_found")
        if version is not None and version not in {v.ref.version for v in record.versions}:
            code = f"{space}_retired" if version in range(1, record.last + 1) else f"{space}_not_found"
            raise NotFound(f"no {space} '{name}@{version}'", code=code)
        return record

    def _store(self, caller: Caller, record: NameRecord, action: str, detail: str) -> NameRecord:
        record = replace(record, revision=record.revision + 1)
        self.directory.records[record.tenant, record.space, record.name] = record
        self._audit(caller, record.space, record.name, action, detail)
        return record

    def _audit(self, caller: Caller, space: Space, name: str, action: str, detail: str) -> None:
        place = {"space": space, "name": name, "sequence": len(self.audit) + 1}
        self.audit.append(AuditEntry(NOW, caller.key_id, caller.tenant, action, f"{space}:{name}", detail, **place))

    def _remember(self, caller: Caller, once: Once | None, published: Published) -> Published:
        if once is not None:
            self.answers[caller.tenant, once.key] = (once.fingerprint, published)
        return published


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _refuse_outdated(record: NameRecord, if_match: int | None) -> None:
    if if_match is not None and if_match != record.revision:
        raise PreconditionFailed(f"the revision is {record.revision}, not {if_match}")


def _checked_name(name: str) -> None:
    try:
        parse_name(name)
    except InvalidName as error:
        raise from_library(error) from error
