"""What the registry says: frozen values of versions, aliases and names, as every other part of the service sees them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from adapters.manifest import Manifest
from adapters.refs import AdapterRef
from serving.errors import BadRequest

Space = Literal["adapter", "embedding"]  # two namespaces: adapters (with heads, fusions, targets) and token embeddings
DEFAULT_ALIAS = "prod"
PUBLIC = "public"  # the tenant on whose names, all `public/...`, everyone may stack
DEFAULT_EMBEDDING = "default"  # the backbone's own vocabulary: never published, never deleted
MAX_IDEMPOTENCY_KEY = 128  # characters


def is_public(name: str) -> bool:
    """Whether a name belongs to the tenant `public`, whoever says it: one whose first segment is `public`."""
    return name.partition("/")[0] == PUBLIC


def owner_of(tenant: str, name: str) -> str:
    """Whose name it is that a tenant means: a public one is the tenant `public`'s for everybody, the rest its own."""
    return PUBLIC if is_public(name) else tenant


@dataclass(frozen=True)
class Version:
    """One immutable version: what it is pinned to, what it says of itself, and when it came (UTC seconds).

    Tags and quarantine are what was said of it since; a version in quarantine is not served.
    """

    ref: AdapterRef
    space: Space
    manifest: Manifest
    nbytes: int
    created: float
    created_by: str
    tags: Mapping[str, str] = field(default_factory=dict)
    quarantined: str | None = None  # why its bytes are not to be trusted


@dataclass(frozen=True)
class Tombstone:
    """What is left of a version that was retired: its number stays taken, its bytes may be published again."""

    version: int
    digest: str
    at: float  # UTC seconds
    by: str


@dataclass(frozen=True)
class Member:
    """One of the versions that a target is made of; its tenant is the target's own, or `public`."""

    space: Space
    ref: AdapterRef


@dataclass(frozen=True)
class NewTarget:
    """A composition whose names are pinned: the manifest of the package to store, and what it is made of."""

    manifest: Manifest
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Extension:
    """A vocabulary to make a matrix for: rows of tokens that the reference knows as well are copied, others drawn.

    `reference` is a version of a token embedding, or None for the backbone's own vocabulary where `copy`, else nothing.
    `reference_tokenizer` names the reference's rows; None is the reference's own.
    """

    tokenizer: bytes  # tokenizer.json
    copy: bool
    reference: "Resolved | None"
    reference_tokenizer: bytes | None
    seed: int


@dataclass(frozen=True)
class MatrixJob:
    """What the checker is asked to build: an `Extension` as files that it can read, and the bytes that it may take.

    `package` is the reference's native package, None the backbone's own matrix where `copy`.
    """

    tokenizer: Path
    copy: bool
    package: Path | None
    reference_tokenizer: Path | None
    seed: int
    max_bytes: int
    source: str  # what the package says of its reference


@dataclass(frozen=True)
class Resolved:
    """A version, and the alias that led to it (None for an explicit version or digest, or for "newest")."""

    version: Version
    resolved_from: str | None


@dataclass(frozen=True)
class NameRecord:
    """A published name: its versions oldest first, and its aliases; `revision` is what `If-Match` compares."""

    tenant: str
    space: Space
    name: str
    versions: tuple[Version, ...]
    aliases: dict[str, int]  # alias -> version
    pinned: frozenset[int]  # versions that may not be deleted and stay resident
    revision: int
    last: int = 0  # highest number ever given; a lower one that is not among the versions was retired

    @property
    def key(self) -> tuple[str, Space, str]:
        """What a name is found by."""
        return (self.tenant, self.space, self.name)

    @property
    def current(self) -> Version:
        """What the bare name means: the alias `prod` if set, else the newest version."""
        wanted = self.aliases.get(DEFAULT_ALIAS)
        return next((v for v in self.versions if v.ref.version == wanted), self.versions[-1])


@dataclass(frozen=True)
class Moved:
    """An alias that was set: its name as it is now, and the version that it led to until then (None: to none)."""

    record: NameRecord
    was: int | None


@dataclass(frozen=True)
class Published:
    """The outcome of a publish. `created` is False where a version of the name had the same bytes already."""

    version: Version
    created: bool
    promoted: str | None  # the alias that was moved
    replayed: bool = False  # told again from the first time that the same `Once` asked for it


@dataclass(frozen=True)
class Once:
    """A write that is done once however often it is asked for: the caller's key, and what exactly was asked."""

    key: str
    fingerprint: str

    @classmethod
    def of(cls, key: str, *, method: str, path: str, query: str, digest: str) -> Self:
        """The value of the header `Idempotency-Key` on a request; `digest` is that of the body.

        Raises `BadRequest` for a key that is not 1 to 128 printable ASCII characters.
        """
        if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY or not (key.isascii() and key.isprintable()):
            detail = f"Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY} printable ASCII characters"
            raise BadRequest(detail, code="invalid_idempotency_key")
        asked = json.dumps([method, path, query, digest])
        return cls(key, hashlib.sha256(asked.encode()).hexdigest())


@dataclass(frozen=True)
class AuditEntry:
    """One row of the append-only audit: who did what to which thing, and how it was before and after.

    `space` is "adapter", "embedding", "key" or "tenant"; `before` and `after` are small JSON values as text, "" for none.
    """

    at: float  # UTC seconds
    actor: str
    tenant: str
    action: str
    subject: str
    detail: str
    space: str = ""
    name: str = ""
    before: str = ""
    after: str = ""
    request_id: str = ""
    sequence: int = 0  # position in the audit: the cursor of a page


@dataclass(frozen=True)
class AliasMove:
    """One step of an alias: who moved it from which version to which, and when; None is "not set"."""

    at: float  # UTC seconds
    actor: str
    alias: str
    before: int | None
    after: int | None
    request_id: str


@dataclass(frozen=True)
class Quota:
    """What a tenant may use; None is without a limit. A cost unit is one token through one layer of the backbone."""

    weight: float = 1.0  # share of a busy engine, against the other tenants' weights
    requests_per_s: float | None = None
    cost_per_s: float | None = None
    concurrency: int | None = None  # requests at once, on all gateways together
    adapters: int | None = None  # names of packages and targets
    nbytes: int | None = None  # bytes of distinct published packages
    device_floor: int = 0  # bytes on every engine that the others can not take
    device_ceiling: int | None = None


@dataclass(frozen=True)
class Tenant:
    """A tenant that was named once: its quota, and the registry's revision of its last change."""

    name: str
    quota: Quota
    created: float  # UTC seconds
    revision: int


@dataclass(frozen=True)
class CheckReport:
    """What the checker found in an upload: the manifest, the digest and size that it read."""

    digest: str
    nbytes: int
    manifest: Manifest
    device_bytes: int
    warnings: tuple[str, ...]
