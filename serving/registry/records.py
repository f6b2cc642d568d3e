"""What the registry says: frozen values of versions, aliases and names, as every other part of the service sees them."""

from dataclasses import dataclass
from typing import Literal

from adapters.manifest import Manifest
from adapters.refs import AdapterRef

Space = Literal["adapter", "embedding"]  # two namespaces: adapters (with heads, fusions, targets) and token embeddings
DEFAULT_ALIAS = "prod"


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
    """One row of the append-only audit."""

    at: float  # UTC seconds
    actor: str
    tenant: str
    action: str
    subject: str
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """What the checker found in an upload: the manifest, the digest and size that it read."""

    digest: str
    nbytes: int
    manifest: Manifest
    device_bytes: int
    warnings: tuple[str, ...]
