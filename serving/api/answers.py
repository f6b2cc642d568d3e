"""What the control plane answers, as typed JSON: one definition for the server, for its OpenAPI page and for the client.

Nothing here imports a web framework, so that the command line can use the types without paying for one.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast

from typing_extensions import TypedDict

from adapters.architectures.families import ARCHITECTURES
from adapters.manifest import Manifest
from serving.registry.records import AuditEntry, NameRecord, Published, Resolved, Version

DEFAULT_EMBEDDING = "default"  # the backbone's own vocabulary: always there, in no registry
TASKS = {  # problem type of a head -> the task that it answers; the others classify texts
    "token": "token-classification",
    "span": "question-answering",
    "choice": "multiple-choice",
    "vocabulary": "fill-mask",
    "next_token": "text-generation",
    "tree": "dependency-parsing",
}


class RequiresAnswer(TypedDict):
    """The backbone that a package was made for, and the vocabulary if it was not the default.

    `encoder_layers`: how many of an encoder-decoder's `layers` are its encoder's; `gated`: its feed-forwards have a gate;
    `averaged`: transformers' heads for rows read the mean of its states.
    """

    model_type: str
    hidden_size: int
    layers: int
    heads: int
    embedding: str | None
    encoder_layers: int
    gated: bool
    averaged: bool


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
    tags: dict[str, str]
    quarantined: str | None  # why it is not served


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


class GateAnswer(TypedDict):
    """What a promote had to pass: every replica that loaded it, the reference input, and what it was answered."""

    input: Any
    outputs: list[Any]
    replicas: dict[str, str]


class MovedAnswer(NameAnswer):
    """A name after an alias of it was set; `was` is where it pointed before."""

    alias: str
    was: int | None
    gate: GateAnswer | None


class PublishedAnswer(TypedDict):
    """The outcome of a publish; `created` is False where the same bytes were a version already."""

    name: str
    version: int
    digest: str
    bytes: int
    created: bool
    promoted: str | None


class ActiveAnswer(TypedDict):
    """Which token embedding is active."""

    name: str


class EventAnswer(TypedDict):
    """One row of the audit; `before` and `after` are small JSON values, null for none. `sequence` is its position."""

    sequence: int
    at: str
    actor: str
    action: str
    space: str
    name: str
    subject: str
    detail: str
    before: Any
    after: Any
    request_id: str


class HistoryAnswer(TypedDict):
    """The audit of one name, newest first."""

    items: list[EventAnswer]


class KeyAnswer(TypedDict):
    """A key without its secret."""

    key_id: str
    tenant: str
    scopes: list[str]
    label: str
    created: str
    expires: str | None  # null is never
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


def task_of(manifest: Manifest) -> str | None:
    """The task that a package's head serves; None for one without."""
    if manifest.head is None:
        return None
    family = ARCHITECTURES.get(manifest.requires.model_type)
    if family is not None and family.images:
        return "image-classification"
    return TASKS.get(manifest.head.problem_type, "text-classification")


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
        "task": task_of(manifest),
        "labels": [] if head is None else list(head.labels),
        "requires": cast("RequiresAnswer", asdict(manifest.requires)),
        "vocabulary": None if manifest.embedding is None else manifest.embedding.vocabulary,
        "children": list(manifest.children),
        "tags": dict(sorted(version.tags.items())),
        "quarantined": version.quarantined,
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


def event_answer(entry: AuditEntry) -> EventAnswer:
    """An audit row as JSON."""
    return {
        "sequence": entry.sequence,
        "at": timestamp(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "space": entry.space,
        "name": entry.name,
        "subject": entry.subject,
        "detail": entry.detail,
        "before": json.loads(entry.before) if entry.before else None,
        "after": json.loads(entry.after) if entry.after else None,
        "request_id": entry.request_id,
    }
