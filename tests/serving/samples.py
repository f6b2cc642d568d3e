"""A tiny backbone's profile, its tokenizer, and native packages that fit it."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from adapters import manifest as manifests
from adapters.architectures.geometry import Geometry
from adapters.architectures.profile import BackboneProfile
from adapters.composition import Composition, Leaf, Stack
from adapters.errors import InvalidPackage
from adapters.manifest import EmbeddingSpec, HeadSpec, Manifest, PartSpec, TargetSpec
from adapters.refs import AdapterRef, Reference
from adapters.requires import Requires
from serving.errors import Unprocessable, from_library

PROFILE = BackboneProfile(
    id="tiny-bert",
    digest="sha256:" + "b" * 64,
    geometry=Geometry(
        model_type="bert",
        hidden_size=8,
        embedding_size=8,
        intermediate_size=16,
        layers=2,
        heads=2,
        vocabulary=64,
        max_tokens=16,
        type_vocabulary=2,
        pad_token_id=0,
    ),
    has_pooler=False,
)
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "i",
    "love",
    "it",
    "you",
    "hate",
    "un",
    "##believ",
    "##able",
    "caf",
    "##e",
    "!",
    "[MASK]",
)


def tokenizer_json(words: Sequence[str] = WORDS) -> bytes:
    """A lower-casing WordPiece tokenizer in BERT's manner, with pair type ids and settings that must be stripped."""
    special = [word for word in words if word.startswith("[")]
    cls, sep = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    value = {
        "version": "1.0",
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 32},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": [
            {
                "id": words.index(word),
                "content": word,
                "special": True,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
            }
            for word in special
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, first, sep],
            "pair": [cls, first, sep, second, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
            "special_tokens": {
                word: {"id": word, "ids": [words.index(word)], "tokens": [word]} for word in ("[CLS]", "[SEP]")
            },
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {word: index for index, word in enumerate(words)},
        },
    }
    return json.dumps(value).encode()


def stack(*refs: AdapterRef | Reference, skip_layers: frozenset[int] = frozenset()) -> Composition:
    """A stack, bottom first."""
    return Composition(Stack(tuple(Leaf(ref) for ref in refs)), skip_layers)


def head_spec(labels: Sequence[str] = ("NEG", "POS"), problem_type: str = "single_label") -> HeadSpec:
    """A one-layer head; `problem_type` "token" makes it a tagger."""
    kinds = {"token": "tagging", "multi_label": "multilabel_classification"}
    pooling = "tokens" if problem_type == "token" else "first_token"
    return HeadSpec(
        kinds.get(problem_type, "classification"), 1, None, True, pooling, tuple(labels), problem_type, name="h"
    )


def head_of(kind: str, labels: Sequence[str] = (), **members: object) -> HeadSpec:
    """A head of any type, with the members that its task reads."""
    problems = {
        "question_answering": ("span", ("start", "end")),
        "multiple_choice": ("choice", ()),
        "masked_lm": ("vocabulary", ()),
        "causal_lm": ("next_token", ()),
        "dependency_parsing": ("tree", ("nsubj", "obj", "root")),
    }
    problem, usual = problems[kind]
    if kind in ("masked_lm", "causal_lm"):
        members = {"vocabulary": PROFILE.geometry.vocabulary, "width": 8, "norm_eps": 1e-12, **members}
    pooling = "first_token" if kind == "multiple_choice" else "tokens"
    return HeadSpec(kind, 1, None, True, pooling, tuple(labels or usual), problem, **members)


def adapter_manifest(
    head: HeadSpec | None = None,
    method: str = "lora",
    config: Mapping[str, object] | None = None,
    embedding: str | None = None,
    kind: str = "adapter",
) -> Manifest:
    """A manifest that fits PROFILE; kind "head" has no parts, kind "embedding" holds a vocabulary."""
    return Manifest(
        kind=kind,
        requires=Requires("bert", 8, 2, 2, embedding),
        parts=(PartSpec(method, config or {}),) if kind == "adapter" else (),
        head=head,
        embedding=EmbeddingSpec(len(WORDS), 8, tokenizer=True) if kind == "embedding" else None,
    )


def fusion_manifest(*children: str) -> Manifest:
    """A fusion of so many adapters."""
    requires = adapter_manifest().requires
    return Manifest("fusion", requires, parts=(PartSpec("fusion", {}),), children=children)


def target_manifest(adapters: Mapping[str, object], embedding: str | None = None, head: str | None = None) -> Manifest:
    """A composition under a name of its own."""
    return Manifest("target", adapter_manifest().requires, target=TargetSpec(adapters, embedding, head))


def package_bytes(manifest: Manifest, tensors: Mapping[str, np.ndarray] | None = None) -> bytes:
    """A native package: safetensors with the manifest in its metadata (F32 and U8 arrays)."""
    held = dict(tensors or {})
    if manifest.kind == "embedding" and not held:
        held["embedding/tokenizer/bytes"] = np.frombuffer(tokenizer_json(), np.uint8)
    header: dict[str, object] = {"__metadata__": {"format": manifests.FORMAT, "manifest": manifests.to_json(manifest)}}
    blob = b""
    for name in sorted(held):
        data = held[name].tobytes()
        dtype = {"float32": "F32", "uint8": "U8"}[str(held[name].dtype)]
        header[name] = {
            "dtype": dtype,
            "shape": list(held[name].shape),
            "data_offsets": [len(blob), len(blob) + len(data)],
        }
        blob += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + blob


def read_manifest(data: bytes) -> Manifest:
    try:
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        return manifests.from_json(metadata["manifest"])
    except InvalidPackage as error:
        raise from_library(error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Unprocessable("this is no native package", code="invalid_package") from error
