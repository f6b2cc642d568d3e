"""What the HTTP surface needs from the rest of the service, as protocols; the composition root hands them in.

Tests hand in the honest fakes of `tests/serving/fakes.py`, so that every surface runs without Ray and without torch.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from adapters.architectures.profile import BackboneProfile
from adapters.refs import AdapterRef, Reference
from serving.config import Limits
from serving.images.preprocessing import Picture
from serving.metrics import GatewayMetrics
from serving.registry.inspection import Inspection
from serving.registry.records import (
    AuditEntry,
    Extension,
    Moved,
    NameRecord,
    NewTarget,
    Once,
    Published,
    Quota,
    Resolved,
    Space,
    Tenant,
    Tombstone,
)
from serving.request import Holding, ReplicaReport, Reply, Ticket
from serving.tenancy.keys import Caller, KeyRecord, NewKey
from serving.tracing import Tracing


class Directory(Protocol):
    """Names to pinned versions. Implemented by `serving.registry.snapshot.Directory`."""

    @property
    def changes(self) -> int:
        """How often what names mean has changed: with the same number, they lead to the same versions."""
        ...

    async def resolve(self, tenant: str, space: Space, reference: Reference) -> Resolved:
        """The pinned version; unknown names read through to SQL. Raises `NotFound`, or `NotReady` when SQL is away."""
        ...

    def names(self, tenant: str, space: Space) -> Sequence[NameRecord]:
        """Every name of the tenant, sorted."""
        ...

    def active_embedding(self, tenant: str) -> str | None:
        """Name of the tenant's active token embedding, or None for the backbone's own (`default`)."""
        ...

    def quota(self, tenant: str) -> Quota:
        """What the tenant may use; `Quota()`, which limits nothing, for one that was never put."""
        ...

    def ready(self) -> bool:
        """Whether a first snapshot has been read."""
        ...


class Control(Protocol):
    """The writes of the control plane; each is acknowledged after all gateways heard of it (or 1.5 s).

    Implemented by `serving.registry.publish.Publisher`. Raises `NotFound`, `Conflict`, `PreconditionFailed`,
    `Unprocessable`, `TooLarge`, `UnsupportedMedia`.
    """

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
        """Stream to disk, hash, check in full, store the blob write-once, commit one transaction, tell everyone.

        `once` gives what makes it happen once, by the digest of the body.
        """
        ...

    async def publish_target(
        self, caller: Caller, name: str, target: NewTarget, *, promote: bool, once: Once | None = None
    ) -> Published:
        """Store a target in the adapters' namespace; the same composition again is the same version."""
        ...

    async def extend(
        self, caller: Caller, name: str, extension: Extension, *, activate: bool, once: Once | None = None
    ) -> Published:
        """Make the token embedding of a new vocabulary, and publish it under a name that must be new."""
        ...

    async def recall(self, caller: Caller, once: Once | None) -> Published | None:
        """What this very request was answered before; raises `Unprocessable` where its key came with another one."""
        ...

    async def inspect(
        self, caller: Caller, space: Space, name: str, body: AsyncIterator[bytes], text: str
    ) -> Inspection:
        """The checks of a publish and a trial on a text, storing nothing."""
        ...

    async def gate_failed(self, caller: Caller, space: Space, name: str, version: int, reason: str) -> None:
        """Have the audit say that a promote did not pass its gate."""
        ...

    async def set_tags(
        self, caller: Caller, space: Space, name: str, version: int, tags: Mapping[str, str], *, if_match: int | None
    ) -> NameRecord:
        """Give a version these tags and no others; with `if_match`, only while the name is at that revision."""
        ...

    async def set_alias(
        self, caller: Caller, space: Space, name: str, alias: str, version: int, *, if_match: int | None
    ) -> Moved:
        """Point an alias at a version: promote and rollback; with `if_match`, only while the name is at that revision."""
        ...

    async def delete_alias(
        self, caller: Caller, space: Space, name: str, alias: str, *, if_match: int | None
    ) -> NameRecord:
        """Remove an alias; with `if_match`, only while the name is at that revision."""
        ...

    async def delete(self, caller: Caller, space: Space, name: str, version: int | None) -> None:
        """Retire a version, or a whole name; `Conflict` where an alias, a pin or a target holds it."""
        ...

    async def set_pin(self, caller: Caller, space: Space, name: str, version: int, *, pinned: bool) -> NameRecord:
        """Pin or unpin a version: a pinned version can not be deleted and is kept resident."""
        ...

    async def set_active_embedding(self, caller: Caller, name: str | None) -> None:
        """Make a token embedding the tenant's default vocabulary; None is the backbone's own."""
        ...

    async def history(self, tenant: str, space: Space, name: str) -> Sequence[AuditEntry]:
        """Audit rows of one name, newest first (rollback reads them); raises `NotFound` for a name that never was."""
        ...

    async def retired(self, tenant: str, space: Space, name: str) -> Sequence[Tombstone]:
        """What is left of the versions of a name that were retired."""
        ...

    async def blob(self, resolved: Resolved) -> Path:
        """The native package on disk, for download."""
        ...


class Keyring(Protocol):
    """Keys to callers. Implemented by `serving.tenancy.keys.Keyring`."""

    async def authenticate(self, token: str | None) -> Caller:
        """The caller of a bearer token; keyless service answers as tenant `default`. Raises `Unauthenticated`."""
        ...

    @property
    def keyless(self) -> bool:
        """Whether no keys exist, so that loopback callers may do all as tenant `default`."""
        ...

    async def create(
        self, tenant: str, scopes: frozenset[str], label: str, *, expires: float | None = None, by: str = "api"
    ) -> NewKey:
        """Make a key, good until `expires` (UTC seconds); the secret is in the answer and nowhere else."""
        ...

    async def rotate(
        self, tenant: str, key_id: str, grace_s: float, *, by: str = "api", within: frozenset[str] | None = None
    ) -> NewKey:
        """Make a key with the scopes and label of another one, which ends after `grace_s`.

        Raises `NotFound`, and `Forbidden` for a key that may do more than `within` (None: whatever it may).
        """
        ...

    async def keys(self, tenant: str) -> Sequence[KeyRecord]:
        """The tenant's keys, without secrets."""
        ...

    async def revoke(self, tenant: str, key_id: str, *, by: str = "api", within: frozenset[str] | None = None) -> None:
        """Revoke a key; raises as `rotate` does."""
        ...


class Tenants(Protocol):
    """Tenants and quotas; called in a thread. Implemented by `serving.tenancy.tenants.TenantStore`."""

    def put(self, actor: Caller, name: str, quota: Quota) -> Tenant:
        """Name a tenant, or replace its quota; raises `Unprocessable`."""
        ...

    def get(self, name: str) -> Tenant:
        """A tenant; raises `NotFound`."""
        ...

    def all(self) -> Sequence[Tenant]:
        """Every tenant that was named, by name."""
        ...

    def delete(self, actor: Caller, name: str) -> None:
        """Forget a tenant; raises `NotFound`, and `Conflict` while it has anything."""
        ...


class Trail(Protocol):
    """The audit; called in a thread. Implemented by `serving.registry.catalog.Catalog`."""

    def audit(
        self,
        tenant: str | None,
        *,
        after: int,
        limit: int,
        space: str | None = None,
        name: str | None = None,
        action: str | None = None,
    ) -> Sequence[AuditEntry]:
        """A page of a tenant's audit (None: of everybody's), newest first; `after` is the last `sequence` seen."""
        ...


class Submit(Protocol):
    """Rows to replies. Implemented by `serving.dispatch.dispatcher.Dispatcher`."""

    async def submit(self, tickets: Sequence[Ticket], timeout_s: float) -> Sequence[Reply]:
        """One reply per ticket, in order. Cancelling the call cancels the tickets in the engines."""
        ...


class Fleet(Protocol):
    """The engines as an operator sees them. Implemented by `serving.routing.Fleet`."""

    async def reports(self) -> Sequence[ReplicaReport]:
        """One report per live engine replica; one that does not answer is told as not ready."""
        ...

    async def preload(self, resolved: Resolved, *, pinned: bool) -> dict[str, str]:
        """Load a version on every replica (and pin it); replica -> "device" | "host" | "error: " and why not."""
        ...

    async def room(self, refs: Sequence[AdapterRef]) -> Sequence[tuple[str, int, int]]:
        """For every replica: its id, the device bytes that pinning these takes, and those that pins may still take.

        A replica that can not load one of them has no numbers to give. Raises `NotReady` where one does not answer.
        """
        ...

    async def unload(self, resolved: Resolved) -> dict[str, str]:
        """Evict and unpin a version everywhere it is not leased; replica -> outcome, or "error: " and why not."""
        ...

    async def retire(self, refs: Sequence[AdapterRef]) -> None:
        """Have packages that no name leads to any more leave every engine, each once its last lease ends."""
        ...

    def gateways(self) -> int:
        """How many gateways live, this one included: each holds its part of every quota."""
        ...

    def holdings(self) -> Mapping[str, Holding]:
        """What each live engine last said of itself, by replica; the values are replaced when it says more."""
        ...

    async def metrics(self) -> dict[str, str]:
        """Prometheus text of every engine replica and every other gateway that gives it at once, by replica id."""
        ...

    async def ready(self) -> bool:
        """Whether at least one engine answers."""
        ...


@dataclass(frozen=True)
class Services:
    """All that the HTTP surface stands on."""

    profile: BackboneProfile
    limits: Limits
    tokenizer_json: bytes | None  # None: the backbone reads images
    directory: Directory
    control: Control
    keyring: Keyring
    tenants: Tenants
    trail: Trail
    submit: Submit
    fleet: Fleet
    metrics: GatewayMetrics
    replica: str
    tracing: Tracing = field(default_factory=Tracing)  # off
    decode: Callable[[bytes], Awaitable[Picture]] | None = None  # of images: their pixels; raises `ServiceError`
    watched: Path | None = None  # the data folder in which a watching process tells what it does
