"""What the control plane answers, as typed JSON: one definition for the server, for its OpenAPI page and for the client.

Nothing here imports a web framework, so that the command line can use the types without paying for one.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import cast

from typing_extensions import TypedDict

from serving.registry.records import AuditEntry, CheckReport, NameRecord, Published, Resolved, Version

DEFAULT_EMBEDDING = "default"  # the backbone's own vocabulary: always there, in no registry
TASKS = {  # problem type of a head -> the task that it answers; the others classify texts
    "token": "token-classification",
    "span": "question-answering",
    "choice": "multiple-choice",
    "vocabulary": "fill-mask",
    "tree": "dependency-parsing",
}


class RequiresAnswer(TypedDict):
    """The backbone that a package was made for, and the vocabulary if it was not the default."""

    model_type: str
    hidden_size: int
    layers: int
    heads: int
    embedding: str | None


class VersionAnswer(TypedDict):
    """One immutable version and what its manifest says. `created` is RFC 3339 in UTC."""

    version: int
    digest: str
    bytes: int
    created: str
    created_by: str
    kind: str
    method: str
    task: str | None
    labels: list[str]
    requires: RequiresAnswer
    vocabulary: int | None  # rows of a token embedding's matrix
    children: list[str]  # what a fusion attends to, as the library that trained it called them


class SummaryAnswer(TypedDict):
    """A name in a list. `current` is what the bare name means; None only for the embedding `default`."""

    name: str
    revision: int
    aliases: dict[str, int]
    pinned: list[int]
    versions: list[int]
    current: VersionAnswer | None


class ListAnswer(TypedDict):
    """A page of names, sorted; `next` is the `after` of the following page, or None."""

    items: list[SummaryAnswer]
    next: str | None


class EmbeddingListAnswer(ListAnswer):
    """A page of token embeddings, and which one rows use when a request names none."""

    active: str


class NameAnswer(TypedDict):
    """One name whole. `selected` is the version that the reference means; `revision` is also the ETag."""

    name: str
    revision: int
    aliases: dict[str, int]
    pinned: list[int]
    versions: list[VersionAnswer]
    selected: VersionAnswer | None
    resolved_from: str | None


class PublishedAnswer(TypedDict):
    """The outcome of a publish; `created` is False where the same bytes were a version already."""

    name: str
    version: int
    digest: str
    bytes: int
    created: bool
    promoted: str | None


class CheckAnswer(TypedDict):
    """What the checker found in an upload that was not stored."""

    digest: str
    bytes: int
    device_bytes: int
    kind: str
    method: str
    labels: list[str]
    warnings: list[str]


class ReplicasAnswer(TypedDict):
    """What each engine replica made of a preload, unload, pin or unpin: a tier, or why not."""

    name: str
    version: int
    digest: str
    action: str
    replicas: dict[str, str]


class ActiveAnswer(TypedDict):
    """Which token embedding is active."""

    name: str


class EventAnswer(TypedDict):
    """One row of the audit."""

    at: str
    actor: str
    action: str
    subject: str
    detail: str


class HistoryAnswer(TypedDict):
    """The audit of one name, newest first."""

    items: list[EventAnswer]


class EntryAnswer(TypedDict):
    """One package in one replica; `references` are the caller's names for these bytes."""

    references: list[str]
    digest: str
    tier: str
    bytes: int
    leases: int
    pinned: bool
    hits: int
    loads: int


class ReplicaAnswer(TypedDict):
    """One engine replica: bytes by tier, counters, its queue, and the caller's packages that it holds."""

    replica: str
    ready: bool
    budgets: dict[str, int]
    used: dict[str, int]
    counters: dict[str, int]
    queued: int
    running: int
    faults: int
    entries: list[EntryAnswer]


class ResidencyAnswer(TypedDict):
    """What is where."""

    replicas: list[ReplicaAnswer]


class KeyAnswer(TypedDict):
    """A key without its secret."""

    key_id: str
    tenant: str
    scopes: list[str]
    label: str
    created: str
    revoked: bool


class NewKeyAnswer(KeyAnswer):
    """A key just made."""

    secret: str  # told here and nowhere else


class KeyListAnswer(TypedDict):
    """The keys of the caller's tenant."""

    items: list[KeyAnswer]


def timestamp(seconds: float) -> str:
    """UTC seconds as RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def version_answer(version: Version) -> VersionAnswer:
    """A version as JSON."""
    manifest, head = version.manifest, version.manifest.head
    return {
        "version": version.ref.version,
        "digest": version.ref.digest,
        "bytes": version.nbytes,
        "created": timestamp(version.created),
        "created_by": version.created_by,
        "kind": manifest.kind,
        "method": manifest.method,
        "task": None if head is None else TASKS.get(head.problem_type, "text-classification"),
        "labels": [] if head is None else list(head.labels),
        "requires": cast("RequiresAnswer", asdict(manifest.requires)),
        "vocabulary": None if manifest.embedding is None else manifest.embedding.vocabulary,
        "children": list(manifest.children),
    }


def summary_answer(record: NameRecord) -> SummaryAnswer:
    """A name for a list."""
    return {
        "name": record.name,
        "revision": record.revision,
        "aliases": dict(sorted(record.aliases.items())),
        "pinned": sorted(record.pinned),
        "versions": [version.ref.version for version in record.versions],
        "current": version_answer(record.current),
    }


def name_answer(record: NameRecord, selected: Resolved | None = None) -> NameAnswer:
    """A name whole; without `selected`, the version that the bare name means."""
    return {
        "name": record.name,
        "revision": record.revision,
        "aliases": dict(sorted(record.aliases.items())),
        "pinned": sorted(record.pinned),
        "versions": [version_answer(version) for version in record.versions],
        "selected": version_answer(record.current if selected is None else selected.version),
        "resolved_from": None if selected is None else selected.resolved_from,
    }


def default_embedding_summary() -> SummaryAnswer:
    """The embedding `default` in a list."""
    return {"name": DEFAULT_EMBEDDING, "revision": 0, "aliases": {}, "pinned": [], "versions": [], "current": None}


def default_embedding() -> NameAnswer:
    """The embedding `default` whole."""
    return {
        "name": DEFAULT_EMBEDDING,
        "revision": 0,
        "aliases": {},
        "pinned": [],
        "versions": [],
        "selected": None,
        "resolved_from": None,
    }


def published_answer(published: Published) -> PublishedAnswer:
    """A publish as JSON."""
    version = published.version
    return {
        "name": version.ref.name,
        "version": version.ref.version,
        "digest": version.ref.digest,
        "bytes": version.nbytes,
        "created": published.created,
        "promoted": published.promoted,
    }


def check_answer(report: CheckReport) -> CheckAnswer:
    """A check as JSON."""
    head = report.manifest.head
    return {
        "digest": report.digest,
        "bytes": report.nbytes,
        "device_bytes": report.device_bytes,
        "kind": report.manifest.kind,
        "method": report.manifest.method,
        "labels": [] if head is None else list(head.labels),
        "warnings": list(report.warnings),
    }


def event_answer(entry: AuditEntry) -> EventAnswer:
    """An audit row as JSON."""
    return {
        "at": timestamp(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "detail": entry.detail,
    }
