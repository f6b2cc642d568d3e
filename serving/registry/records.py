"""What the registry says: frozen values of versions, aliases and names, as every other part of the service sees them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.manifest import Manifest
from adapters.refs import AdapterRef

Space = Literal["adapter", "embedding"]  # two namespaces: adapters (with heads, fusions, targets) and token embeddings
DEFAULT_ALIAS = "prod"
PUBLIC = "public"  # the tenant on whose names, all `public/...`, everyone may stack
DEFAULT_EMBEDDING = "default"  # the backbone's own vocabulary: never published, never deleted


@dataclass(frozen=True)
class Version:
    """One immutable version: what it is pinned to, what it says of itself, and when it came (UTC seconds)."""

    ref: AdapterRef
    space: Space
    manifest: Manifest
    nbytes: int
    created: float
    created_by: str


@dataclass(frozen=True)
class Member:
    """One of the versions that a target is made of."""

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

    @property
    def current(self) -> Version:
        """What the bare name means: the alias `prod` if set, else the newest version."""
        wanted = self.aliases.get(DEFAULT_ALIAS)
        return next((v for v in self.versions if v.ref.version == wanted), self.versions[-1])


@dataclass(frozen=True)
class Published:
    """The outcome of a publish. `created` is False where a version of the name had the same bytes already."""

    version: Version
    created: bool
    promoted: str | None  # the alias that was moved


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
