"""AdapterHub's configuration of a flexible head and our specification of it, in both directions.

Members that a configuration lacks have the defaults of the library's classes; members that are not known are refused,
because they may change what the head computes.
"""

from collections.abc import Mapping
from typing import Any

from adapters.architectures.record import Architecture
from adapters.errors import Misfit
from adapters.formats.adapterhub.activations import activation
from adapters.formats.adapterhub.wording import settings_of
from adapters.formats.labels import ordered, problem_of, unnamed
from adapters.formats.static_heads import OwnSettings
from adapters.heads.base import MAX_LAYERS
from adapters.heads.question_answering import LABELS
from adapters.manifest import MAX_LABELS, VOCABULARIES, HeadSpec
from adapters.members import MAX_COUNT

_POOLED: Mapping[str, Any] = {
    "num_labels": 2,
    "layers": 2,
    "activation_function": "tanh",
    "use_pooler": False,
    "bias": True,
}
_TOKENS: Mapping[str, Any] = {"num_labels": 2, "layers": 1, "activation_function": "tanh", "bias": True}
_IMAGE = "image_classification"  # what the library calls our classification heads in families of images
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "classification": _POOLED,
    "multilabel_classification": _POOLED,
    _IMAGE: {**_POOLED, "multilabel": False},
    "tagging": _TOKENS,
    "question_answering": _TOKENS,
    "multiple_choice": {
        "num_choices": 2,
        "layers": 2,
        "activation_function": "tanh",
        "use_pooler": False,
        "bias": True,
    },
    "masked_lm": {
        "vocab_size": None,
        "embedding_size": None,
        "layers": 2,
        "activation_function": "gelu",
        "layer_norm": True,
        "bias": True,
    },
    "causal_lm": {
        "vocab_size": None,
        "embedding_size": None,
        "layers": 1,
        "activation_function": None,
        "layer_norm": False,
        "bias": False,
    },
    "seq2seq_lm": {
        "vocab_size": None,
        "embedding_size": None,
        "layers": 1,
        "activation_function": None,
        "layer_norm": False,
        "bias": False,
    },
    "dependency_parsing": {"num_labels": 2, "layers": 1, "activation_function": None, "bias": True},
}
_MOST: Mapping[str, int] = {
    "layers": MAX_LAYERS,
    "num_labels": MAX_LABELS,
    "num_choices": MAX_LABELS,
    "vocab_size": MAX_COUNT,
    "embedding_size": MAX_COUNT,
}
_FLAGS = ("bias", "layer_norm", "use_pooler", "multilabel")
# Members that say nothing about what a trained head computes.
_SILENT = frozenset(["head_type", "label2id", "id2label", "dropout_prob", "shift_labels"])
_OF_IMAGES = ("classification", "multilabel_classification")
SCALED = ("seq2seq_lm", "question_answering")  # heads that read T5's states as its head over the vocabulary does
# Classes whose constructors take no `bias`: their last map always has one.
_ALWAYS_BIASED = ("tagging", "question_answering", "multiple_choice")


def spec_of(saved: Mapping[str, Any], config: Mapping[str, Any], own: OwnSettings) -> HeadSpec:
    """The specification of the head in a whole `head_config.json`; raises `Misfit` with every reason."""
    head_type = config.get("head_type")
    if not isinstance(head_type, str) or head_type not in _DEFAULTS:
        raise Misfit([f"AdapterHub's head type {head_type!r} is not served; served are {', '.join(_DEFAULTS)}"])
    held = {**_DEFAULTS[head_type], **config}
    for member, size in (("vocab_size", own.vocabulary), ("embedding_size", own.width)):
        if member in held and held[member] is None:
            held[member] = size
    settings = settings_of("head_config.json", held, (*_DEFAULTS[head_type], *_SILENT))
    for member in _FLAGS:
        if member in held:
            settings.flag(member)
    for member, most in _MOST.items():
        if member in held:
            settings.count(member, most)
    name = held["activation_function"]
    if name is not None and not isinstance(name, str):
        settings.wrong(f"activation_function must be the name of an activation or nothing, not {name!r}")
    if head_type == "question_answering" and held["num_labels"] != len(LABELS):
        settings.wrong(f"a question_answering head has two outputs, start and end, not {held['num_labels']!r}")
    settings.done()
    return _spec(head_type, saved, held, own)


def names_labels(config: Mapping[str, Any]) -> bool:
    """Whether a configuration names what its outputs are, or its outputs need no names."""
    nameless = config.get("head_type") in ("question_answering", "multiple_choice", *VOCABULARIES)
    return nameless or _label2id(config) is not None


def config_of(spec: HeadSpec, family: Architecture) -> dict[str, Any]:
    """The configuration that the library builds an equal head of a family from; raises `Misfit` where it has none."""
    label2id = {label: i for i, label in enumerate(spec.labels)}
    common: dict[str, Any] = {"head_type": spec.type, "layers": spec.layers, "activation_function": spec.activation}
    if spec.type == "dependency_parsing":
        return {"head_type": spec.type, "num_labels": len(spec.labels), "label2id": label2id}
    if not spec.segments:
        raise Misfit(["AdapterHub's models heed segment ids, which this head was trained without"])
    if not spec.inverse:
        raise Misfit(["AdapterHub's flexible heads undo an invertible adapter before they read the vocabulary"])
    if spec.type in VOCABULARIES:
        width = {} if spec.type == "seq2seq_lm" else {"embedding_size": spec.width}
        return (
            common
            | width
            | {
                "vocab_size": spec.vocabulary,
                "layer_norm": spec.norm_eps is not None,
                "bias": spec.bias,
                "shift_labels": spec.type == "causal_lm",
                "label2id": None,
            }
        )
    common |= {"dropout_prob": None, "label2id": label2id}
    if family.images and spec.type in _OF_IMAGES:
        common |= {"head_type": _IMAGE, "multilabel": spec.type == _OF_IMAGES[1]}
    elif family.images:
        raise Misfit([f"AdapterHub has no {spec.type} head for images"])
    if spec.type == "multiple_choice":
        if spec.choices is None:
            raise Misfit(["AdapterHub's flexible heads for multiple choice are made for a fixed number of choices"])
        names = spec.labels or unnamed(spec.choices)
        common |= {"num_choices": spec.choices, "label2id": {label: i for i, label in enumerate(names)}}
    else:
        common["num_labels"] = len(spec.labels)
    if spec.type not in _ALWAYS_BIASED:
        common["bias"] = spec.bias
    if spec.pooling not in ("tokens", "pooler", family.hub_pooling):
        raise Misfit([f"AdapterHub's heads of {family.model_type!r} do not read {spec.pooling!r}"])
    if spec.pooling != "tokens":
        common["use_pooler"] = spec.pooling == "pooler"
    return common


def flexible_keys(name: str, spec: HeadSpec, *, last_bias: bool) -> dict[str, str]:
    """Native name -> key: the places of the maps among the head's modules.

    Most are [dropout, linear, activation] x (layers - 1), dropout, linear; heads over the vocabulary [linear,
    activation, norm] x (layers - 1), linear. Without an activation or a norm its slot is gone.
    """
    stem = f"heads.{name}"
    if spec.type == "dependency_parsing":
        return {
            "head/arcs/weight": f"{stem}.biaffine_arcs.weight",
            "head/relations/weight": f"{stem}.biaffine_rels.weight",
        }
    keys: dict[str, str] = {}
    language = spec.type in VOCABULARIES
    slot = 0 if language else 1
    for i in range(spec.layers):
        last = i == spec.layers - 1
        keys[f"head/{i}/weight"] = f"{stem}.{slot}.weight"
        if last_bias if last else (spec.bias or language):
            keys[f"head/{i}/bias"] = f"{stem}.{slot}.bias"
        slot += 1 if spec.activation is None else 2
        if language and spec.norm_eps is not None and not last:
            keys |= {f"head/{i}/norm.{kind}": f"{stem}.{slot}.{kind}" for kind in ("weight", "bias")}
            slot += 1
        slot += 0 if language else 1
    return keys


def _spec(head_type: str, saved: Mapping[str, Any], held: Mapping[str, Any], own: OwnSettings) -> HeadSpec:
    name = held["activation_function"]
    function = None if not name else activation(name, versioned="version" in saved)
    if head_type == _IMAGE:
        head_type = _OF_IMAGES[held["multilabel"]]
    language, layers, bias = head_type in VOCABULARIES, held["layers"], held["bias"]
    pooling = "tokens" if "use_pooler" not in held else "pooler" if held["use_pooler"] else own.pooling
    return HeadSpec(
        type=head_type,
        layers=layers,
        activation="leaky_relu" if function == "leakyrelu" else function,
        bias=bias if language else layers > 1 or bias,
        pooling=pooling,
        labels=_labels(head_type, held),
        problem_type=problem_of(head_type, held.get("num_labels", 0)),
        name=None if saved.get("name") is None else str(saved["name"]),
        choices=held.get("num_choices"),
        vocabulary=held.get("vocab_size"),
        width=held.get("embedding_size"),
        norm_eps=own.norm_eps if language and held["layer_norm"] and layers > 1 else None,
        scale=own.scale if head_type in SCALED else None,
    )


def _labels(head_type: str, held: Mapping[str, Any]) -> tuple[str, ...]:
    if head_type == "question_answering":
        return LABELS
    if head_type in VOCABULARIES:
        return ()
    count = held["num_choices"] if head_type == "multiple_choice" else held["num_labels"]
    names = ordered(_label2id(held), count)
    if head_type == "multiple_choice":
        return () if names == unnamed(count) else names or ()
    return names or unnamed(count)


def _label2id(config: Mapping[str, Any]) -> Mapping[Any, Any] | None:
    """Ids by label; the library also takes labels by id. Raises `Misfit`."""
    for member in ("id2label", "label2id"):
        if not isinstance(config.get(member), Mapping | None):
            raise Misfit([f"head_config.json: {member} must be an object, not {config[member]!r}"])
    by_id = config.get("id2label")
    if by_id is not None:
        if not all(isinstance(label, str) for label in by_id.values()):
            raise Misfit([f"head_config.json: the labels of id2label must be texts, not {[*by_id.values()]!r}"])
        return {label: number for number, label in by_id.items()}
    return config.get("label2id")
