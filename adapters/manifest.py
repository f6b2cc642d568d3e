"""What a native package says of itself: frozen values, and their canonical JSON.

The manifest is the `manifest` member of the safetensors `__metadata__`. It is read by the front as well, so this
module knows no torch. A part is one method's share of an adapter: `seq_bn_inv` has two (bottleneck, invertible).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from adapters.errors import InvalidPackage

FORMAT = "chorus/1"
KINDS = ("adapter", "fusion", "head", "embedding", "target")
HEAD_TYPES = ("classification", "multilabel_classification", "tagging")
POOLINGS = ("first_token", "pooler", "tokens")
PROBLEM_TYPES = ("single_label", "multi_label", "regression", "token")
MAX_LABELS = 10_000


@dataclass(frozen=True)
class PartSpec:
    """One method and its normalised configuration (plain JSON; the method's own module defines the members)."""

    method: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Requires:
    """The backbone that a package was made for. `embedding` names the vocabulary it was trained on, if not the default."""

    model_type: str
    hidden_size: int
    layers: int
    heads: int
    embedding: str | None = None


@dataclass(frozen=True)
class HeadSpec:
    """A prediction head: `layers` linear maps with `activation` between them, over the pooled or all positions.

    Tensors: `head/<i>/weight` [out, in] and, if `bias`, `head/<i>/bias` [out], i = 0 .. layers-1. Hidden maps are
    square. `labels` has one name per output; regression has one output.
    """

    type: str
    layers: int
    activation: str | None
    bias: bool
    pooling: str
    labels: tuple[str, ...]
    problem_type: str
    name: str | None = None


@dataclass(frozen=True)
class EmbeddingSpec:
    """A vocabulary: rows and width of the matrix, and whether `embedding/tokenizer/bytes` travels along."""

    vocabulary: int
    width: int
    tokenizer: bool


@dataclass(frozen=True)
class Provenance:
    """Where a package came from."""

    library: str
    version: str
    source_id: str = ""


@dataclass(frozen=True)
class Manifest:
    """All that a package says of itself. `source` is the source library's configuration, kept whole."""

    kind: str
    requires: Requires
    parts: tuple[PartSpec, ...] = ()
    head: HeadSpec | None = None
    embedding: EmbeddingSpec | None = None
    children: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=lambda: Provenance("chorus", "1"))
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """The methods of the parts, joined by `+`: what lists and metrics show."""
        return "+".join(part.method for part in self.parts) or self.kind


def to_json(manifest: Manifest) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(asdict(manifest), sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> Manifest:
    """Parse and check a manifest; raises `InvalidPackage` naming the member at fault."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidPackage(f"the manifest is not JSON: {error}") from error
    raw = _members(value, Manifest, "manifest", required=("kind", "requires"))
    if raw["kind"] not in KINDS:
        raise InvalidPackage(f"manifest.kind {raw['kind']!r} is none of {', '.join(KINDS)}")
    head, embedding = raw.get("head"), raw.get("embedding")
    manifest = Manifest(
        kind=raw["kind"],
        requires=_requires(raw["requires"]),
        parts=tuple(_part(item, i) for i, item in enumerate(_list(raw.get("parts", []), "manifest.parts"))),
        head=None if head is None else _head(head),
        embedding=None if embedding is None else _embedding(embedding),
        children=tuple(_text(c, "manifest.children") for c in _list(raw.get("children", []), "manifest.children")),
        provenance=_provenance(raw.get("provenance", {"library": "unknown", "version": ""})),
        source=_mapping(raw.get("source", {}), "manifest.source"),
    )
    _consistent(manifest)
    return manifest


def _consistent(manifest: Manifest) -> None:
    wants = {"adapter": bool(manifest.parts), "head": manifest.head is not None}
    if not wants.get(manifest.kind, True):
        raise InvalidPackage(f"a package of kind {manifest.kind!r} lacks its {manifest.kind}")
    if (manifest.kind == "embedding") != (manifest.embedding is not None):
        raise InvalidPackage("manifest.embedding belongs to kind 'embedding', and only there")
    if manifest.kind != "adapter" and manifest.parts:
        raise InvalidPackage(f"a package of kind {manifest.kind!r} holds no method parts")


def _requires(value: object) -> Requires:
    raw = _members(value, Requires, "manifest.requires", required=("model_type", "hidden_size", "layers", "heads"))
    embedding = raw.get("embedding")
    return Requires(
        model_type=_text(raw["model_type"], "manifest.requires.model_type"),
        hidden_size=_count(raw["hidden_size"], "manifest.requires.hidden_size"),
        layers=_count(raw["layers"], "manifest.requires.layers"),
        heads=_count(raw["heads"], "manifest.requires.heads"),
        embedding=None if embedding is None else _text(embedding, "manifest.requires.embedding"),
    )


def _part(value: object, index: int) -> PartSpec:
    where = f"manifest.parts[{index}]"
    raw = _members(value, PartSpec, where, required=("method", "config"))
    return PartSpec(_text(raw["method"], f"{where}.method"), _mapping(raw["config"], f"{where}.config"))


def _head(value: object) -> HeadSpec:
    where = "manifest.head"
    raw = _members(value, HeadSpec, where, required=("type", "layers", "activation", "bias", "pooling", "labels"))
    labels = tuple(_text(label, f"{where}.labels") for label in _list(raw["labels"], f"{where}.labels"))
    head_type, pooling = _one_of(raw["type"], HEAD_TYPES, f"{where}.type"), raw["pooling"]
    if not 1 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels):
        raise InvalidPackage(f"{where}.labels must be 1 to {MAX_LABELS} different names")
    activation, name = raw["activation"], raw.get("name")
    if not isinstance(raw["bias"], bool):
        raise InvalidPackage(f"{where}.bias must be true or false")
    return HeadSpec(
        type=head_type,
        layers=_count(raw["layers"], f"{where}.layers"),
        activation=None if activation is None else _text(activation, f"{where}.activation"),
        bias=raw["bias"],
        pooling=_one_of(pooling, POOLINGS, f"{where}.pooling"),
        labels=labels,
        problem_type=_one_of(raw.get("problem_type"), PROBLEM_TYPES, f"{where}.problem_type"),
        name=None if name is None else _text(name, f"{where}.name"),
    )


def _embedding(value: object) -> EmbeddingSpec:
    where = "manifest.embedding"
    raw = _members(value, EmbeddingSpec, where, required=("vocabulary", "width", "tokenizer"))
    if not isinstance(raw["tokenizer"], bool):
        raise InvalidPackage(f"{where}.tokenizer must be true or false")
    return EmbeddingSpec(
        _count(raw["vocabulary"], f"{where}.vocabulary"), _count(raw["width"], f"{where}.width"), raw["tokenizer"]
    )


def _provenance(value: object) -> Provenance:
    raw = _members(value, Provenance, "manifest.provenance", required=("library", "version"))
    return Provenance(**{key: _text(item, f"manifest.provenance.{key}") for key, item in raw.items()})


def _members(value: object, shape: type[Any], where: str, required: tuple[str, ...]) -> dict[str, Any]:
    raw = _mapping(value, where)
    known = {item.name for item in fields(shape)}
    unknown = sorted(str(key) for key in raw if key not in known)
    missing = [key for key in required if key not in raw]
    if unknown or missing:
        raise InvalidPackage(
            f"{where}: " + ", ".join([f"unknown {k!r}" for k in unknown] + [f"no {k!r}" for k in missing])
        )
    return dict(raw)


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidPackage(f"{where} must be an object")
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidPackage(f"{where} must be a list")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise InvalidPackage(f"{where} must be a string of at most 1000 characters")
    return value


def _count(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 10_000_000:
        raise InvalidPackage(f"{where} must be a positive integer")
    return value


def _one_of(value: object, allowed: tuple[str, ...], where: str) -> str:
    if value not in allowed or not isinstance(value, str):
        raise InvalidPackage(f"{where} {value!r} is none of {', '.join(allowed)}")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number" if not math.isfinite(float(text)) else text)
