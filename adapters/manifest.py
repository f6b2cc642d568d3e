"""What a native package says of itself: frozen values, and their canonical JSON.

The manifest is the `manifest` member of the safetensors `__metadata__`. It is read by the front as well, so this
module knows no torch. A part is one method's share of an adapter: `seq_bn_inv` has two (bottleneck, invertible).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from adapters import composition
from adapters.errors import InvalidComposition, InvalidName, InvalidPackage
from adapters.members import (
    as_count,
    as_flag,
    as_fraction,
    as_list,
    as_mapping,
    as_optional_count,
    as_route,
    as_text,
    members,
    one_of,
    parse,
)
from adapters.refs import parse_reference
from adapters.requires import Requires, parse_requires

FORMAT = "chorus/1"
KINDS = ("adapter", "fusion", "head", "embedding", "target")
HEAD_TYPES = (
    "classification",
    "multilabel_classification",
    "tagging",
    "question_answering",
    "multiple_choice",
    "masked_lm",
    "causal_lm",
    "dependency_parsing",
    "seq2seq_lm",
)
ENCODER_TOKENS = "encoder_tokens"
PER_TOKEN = ("tokens", ENCODER_TOKENS)  # poolings that leave every token its own state
POOLINGS = ("first_token", "pooler", *PER_TOKEN, "last_token", "counted_token", "last_eos", "mean")
VOCABULARIES = ("masked_lm", "causal_lm", "seq2seq_lm")  # heads whose outputs are a vocabulary
_ROW_PROBLEMS = ("single_label", "multi_label", "regression", "choice", "tree")
PROBLEM_TYPES = (*_ROW_PROBLEMS, "token", "span", "vocabulary", "next_token")
MAX_LABELS = 10_000
# Members that packages written before they existed lack: left out where they say nothing, so that bytes stay equal.
_LATER: Mapping[str, Mapping[str, Any]] = {
    "": {"target": None, "route": None},
    "requires": {"encoder_layers": 0, "gated": False, "averaged": False},
    "head": {
        "scale": None,
        "choices": None,
        "vocabulary": None,
        "width": None,
        "norm_eps": None,
        "inverse": True,
        "segments": True,
        "tied": False,
    },
}


@dataclass(frozen=True)
class PartSpec:
    """One method and its normalised configuration (plain JSON; the method's own module defines the members)."""

    method: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class HeadSpec:
    """A prediction head; `type` says which file of `adapters.heads` computes it, and which tensors it has.

    `layers` linear maps have `activation` between them; `bias` tells whether they have biases (heads over a vocabulary:
    the last one, as the others always do; `dependency_parsing`: nothing). `labels` has one name per output (none for a
    vocabulary, a name per choice or none for choices); regression has one output. `pooling` tells which state of a row
    is read: that of its first token, the pooler's, all tokens', that of the last token that is not the backbone's
    padding (`last_token`, as transformers has it), or that at the place n - 1 where n of the row's tokens are no
    padding (`counted_token`, as AdapterHub has it: another one if a text holds the pad id); `mean`: the mean of all. Of
    an encoder-decoder, `last_eos`: the decoder's state at the place of the row's last `eos_token_id`; every state where
    the decoder's row is not as long; `encoder_tokens`: all tokens' in its encoder. `choices`: how many it was made for,
    None for any number. For heads over a vocabulary: `vocabulary` outputs, from states of `width`, normalised with
    `norm_eps` (None: without a norm), and whether they undo the row's invertible adapter first (`inverse`). `segments`:
    whether segment ids count for the head's rows. `scale`: what the states are multiplied by first. `tied`: its matrix
    is the backbone's table of words, whose rows adapters may train (`adapters.methods.word_rows`): they count in both.
    """

    type: str
    layers: int
    activation: str | None
    bias: bool
    pooling: str
    labels: tuple[str, ...]
    problem_type: str
    name: str | None = None
    choices: int | None = None
    vocabulary: int | None = None
    width: int | None = None
    norm_eps: float | None = None
    inverse: bool = True
    segments: bool = True
    scale: float | None = None
    tied: bool = False


@dataclass(frozen=True)
class EmbeddingSpec:
    """A vocabulary: rows and width of the matrix, and whether `embedding/tokenizer/bytes` travels along."""

    vocabulary: int
    width: int
    tokenizer: bool


@dataclass(frozen=True)
class TargetSpec:
    """A composition, a vocabulary and a head under one name.

    `adapters` is the JSON of a composition (`adapters.composition.parse` reads it), `embedding` and `head` are
    references; None leaves the choice to the request's defaults.
    """

    adapters: Mapping[str, Any]
    embedding: str | None = None
    head: str | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a package came from."""

    library: str
    version: str
    source_id: str = ""


@dataclass(frozen=True)
class Manifest:
    """All that a package says of itself. `source` is the source library's configuration, kept whole.

    `children` are the names of what a fusion attends to, in order. `route`: the backbone's layers in the order in which
    the adapter has them run, whose places are its own layers; None: each once.
    """

    kind: str
    requires: Requires
    parts: tuple[PartSpec, ...] = ()
    head: HeadSpec | None = None
    embedding: EmbeddingSpec | None = None
    children: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=lambda: Provenance("chorus", "1"))
    source: Mapping[str, Any] = field(default_factory=dict)
    target: TargetSpec | None = None
    route: tuple[int, ...] | None = None

    @property
    def method(self) -> str:
        """The methods of the parts, joined by `+`: what lists and metrics show."""
        return "+".join(part.method for part in self.parts) or self.kind


def to_json(manifest: Manifest) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN."""
    value = asdict(manifest)
    for place, silent in _LATER.items():
        held = value[place] if place else value
        for name in [name for name, default in silent.items() if held is not None and held[name] == default]:
            del held[name]
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(text: str) -> Manifest:
    """Parse and check a manifest; raises `InvalidPackage` naming the member at fault."""
    value = parse(text, "manifest")
    raw = members(value, Manifest, "manifest", required=("kind", "requires"))
    if raw["kind"] not in KINDS:
        raise InvalidPackage(f"manifest.kind {raw['kind']!r} is none of {', '.join(KINDS)}")
    head, embedding, target = raw.get("head"), raw.get("embedding"), raw.get("target")
    manifest = Manifest(
        kind=raw["kind"],
        requires=parse_requires(raw["requires"]),
        parts=tuple(_part(item, i) for i, item in enumerate(as_list(raw.get("parts", []), "manifest.parts"))),
        head=None if head is None else _head(head),
        embedding=None if embedding is None else _embedding(embedding),
        children=tuple(as_text(c, "manifest.children") for c in as_list(raw.get("children", []), "manifest.children")),
        provenance=_provenance(raw.get("provenance", {"library": "unknown", "version": ""})),
        source=as_mapping(raw.get("source", {}), "manifest.source"),
        target=None if target is None else _target(target),
        route=as_route(raw.get("route"), "manifest.route"),
    )
    _consistent(manifest)
    return manifest


def _consistent(manifest: Manifest) -> None:
    kind, parts = manifest.kind, manifest.parts
    wants = {"adapter": bool(parts), "fusion": bool(parts), "head": manifest.head is not None}
    if not wants.get(kind, True):
        raise InvalidPackage(f"a package of kind {kind!r} lacks its {kind}")
    for only, held in (("embedding", manifest.embedding), ("target", manifest.target)):
        if (kind == only) != (held is not None):
            raise InvalidPackage(f"manifest.{only} belongs to kind {only!r}, and only there")
    if kind not in ("adapter", "fusion") and parts:
        raise InvalidPackage(f"a package of kind {kind!r} holds no method parts")
    if kind == "fusion" and not manifest.children:
        raise InvalidPackage("a package of kind 'fusion' names its children in manifest.children")
    if kind == "target" and manifest.head is not None:
        raise InvalidPackage("a package of kind 'target' refers to a head and holds none")


def _target(value: object) -> TargetSpec:
    where = "manifest.target"
    raw = members(value, TargetSpec, where, required=("adapters",))
    adapters = as_mapping(raw["adapters"], f"{where}.adapters")
    try:
        composition.parse(adapters)
    except InvalidComposition as error:
        raise InvalidPackage(f"{where}.adapters{error.pointer}: {error}") from error
    return TargetSpec(
        adapters=adapters,
        embedding=_reference(raw.get("embedding"), f"{where}.embedding"),
        head=_reference(raw.get("head"), f"{where}.head"),
    )


def _reference(value: object, where: str) -> str | None:
    if value is None:
        return None
    text = as_text(value, where)
    try:
        parse_reference(text)
    except InvalidName as error:
        raise InvalidPackage(f"{where}: {error}") from error
    return text


def _part(value: object, index: int) -> PartSpec:
    where = f"manifest.parts[{index}]"
    raw = members(value, PartSpec, where, required=("method", "config"))
    return PartSpec(as_text(raw["method"], f"{where}.method"), as_mapping(raw["config"], f"{where}.config"))


def _head(value: object) -> HeadSpec:
    where = "manifest.head"
    raw = members(value, HeadSpec, where, required=("type", "layers", "activation", "bias", "pooling", "labels"))
    for member in ("bias", "inverse", "segments", "tied"):
        as_flag(raw.get(member, True), f"{where}.{member}")
    activation, name = raw["activation"], raw.get("name")
    spec = HeadSpec(
        type=one_of(raw["type"], HEAD_TYPES, f"{where}.type"),
        layers=as_count(raw["layers"], f"{where}.layers"),
        activation=None if activation is None else as_text(activation, f"{where}.activation"),
        bias=raw["bias"],
        pooling=one_of(raw["pooling"], POOLINGS, f"{where}.pooling"),
        labels=tuple(as_text(label, f"{where}.labels") for label in as_list(raw["labels"], f"{where}.labels")),
        problem_type=one_of(raw.get("problem_type"), PROBLEM_TYPES, f"{where}.problem_type"),
        name=None if name is None else as_text(name, f"{where}.name"),
        choices=as_optional_count(raw.get("choices"), f"{where}.choices"),
        vocabulary=as_optional_count(raw.get("vocabulary"), f"{where}.vocabulary"),
        width=as_optional_count(raw.get("width"), f"{where}.width"),
        norm_eps=as_fraction(raw.get("norm_eps"), f"{where}.norm_eps"),
        inverse=raw.get("inverse", True),
        segments=raw.get("segments", True),
        scale=as_fraction(raw.get("scale"), f"{where}.scale"),
        tied=raw.get("tied", False),
    )
    _check_labels(spec, f"{where}.labels")
    return spec


def _check_labels(spec: HeadSpec, where: str) -> None:
    """As many different labels as the type of head has outputs to name."""
    if len(set(spec.labels)) != len(spec.labels) or len(spec.labels) > MAX_LABELS:
        raise InvalidPackage(f"{where} must be at most {MAX_LABELS} different names")
    if spec.type in VOCABULARIES and spec.labels:
        raise InvalidPackage(f"{where} must be empty: the outputs of a {spec.type} head are its vocabulary")
    if spec.type not in (*VOCABULARIES, "multiple_choice") and not spec.labels:
        raise InvalidPackage(f"{where} must be 1 to {MAX_LABELS} different names")
    if spec.type == "multiple_choice" and spec.labels and len(spec.labels) != spec.choices:
        raise InvalidPackage(f"{where} must be empty, or as many as manifest.head.choices")


def _embedding(value: object) -> EmbeddingSpec:
    where = "manifest.embedding"
    raw = members(value, EmbeddingSpec, where, required=("vocabulary", "width", "tokenizer"))
    if not isinstance(raw["tokenizer"], bool):
        raise InvalidPackage(f"{where}.tokenizer must be true or false")
    return EmbeddingSpec(
        as_count(raw["vocabulary"], f"{where}.vocabulary"), as_count(raw["width"], f"{where}.width"), raw["tokenizer"]
    )


def _provenance(value: object) -> Provenance:
    raw = members(value, Provenance, "manifest.provenance", required=("library", "version"))
    return Provenance(**{key: as_text(item, f"manifest.provenance.{key}") for key, item in raw.items()})
