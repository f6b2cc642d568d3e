"""What a head's outputs are called, and which problem they answer; for folders that say it, and for those that do not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from adapters.errors import Misfit
from adapters.manifest import PROBLEM_TYPES, VOCABULARIES, HeadSpec
from adapters.weights import Package

_PROBLEMS: Mapping[str, str] = {
    "multilabel_classification": "multi_label",
    "tagging": "token",
    "question_answering": "span",
    "multiple_choice": "choice",
    "masked_lm": "vocabulary",
    "causal_lm": "next_token",
    "seq2seq_lm": "vocabulary",
    "dependency_parsing": "tree",
}
_NAMELESS = ("question_answering", *VOCABULARIES)  # their outputs mean what they mean
_CLASSIFICATION = ("classification", "multilabel_classification")
_CLASSIFYING = ("single_label", "multi_label", "regression")
OTHERS = "the head's file holds {} tensors of other heads as well, which are left out"
UNNAMED = "the folder does not name its labels: they are called LABEL_0, LABEL_1, ... (give names with --labels)"


@dataclass(frozen=True)
class Head:
    """A head that was read: its description, its tensors under native names, and what to tell the operator."""

    spec: HeadSpec
    tensors: Mapping[str, Tensor]
    warnings: tuple[str, ...] = ()


def ordered(label2id: object, count: int) -> tuple[str, ...] | None:
    """Labels in the order of their ids, None where there are none; raises `Misfit` where ids are not 0 .. count-1."""
    if label2id is None:
        return None
    if not isinstance(label2id, Mapping) or sorted(map(str, label2id.values())) != sorted(map(str, range(count))):
        raise Misfit([f"label2id does not number the {count} outputs of the head"])
    names = {int(number): str(label) for label, number in label2id.items()}
    return tuple(names[i] for i in range(count))


def unnamed(count: int) -> tuple[str, ...]:
    """The names that transformers gives to labels without a name."""
    return tuple(f"LABEL_{i}" for i in range(count))


def problem_of(head_type: str, outputs: int) -> str:
    """The problem that a head of this type answers; a single output is a regression (as in transformers)."""
    if head_type == "classification":
        return "regression" if outputs == 1 else "single_label"
    return _PROBLEMS[head_type]


def of_head(warning: str) -> bool:
    """Whether a warning of the readers is about the head, where an adapter brings one."""
    return warning == UNNAMED or warning.startswith(OTHERS.split("{}", maxsplit=1)[0])


def relabel(package: Package, labels: Sequence[str] | None, problem_type: str | None) -> Package:
    """The package with the operator's label names and problem type; raises `Misfit` where they do not fit its head."""
    if labels is None and problem_type is None:
        return package
    head = package.manifest.head
    if head is None:
        raise Misfit(["labels and a problem type need a head, but the folder holds none"])
    source: dict[str, Any] = dict(package.manifest.source)
    if labels is not None:
        head = _named(head, labels)
        source["warnings"] = [warning for warning in source.get("warnings", []) if warning != UNNAMED]
    if problem_type is not None:
        head = _with_problem(head, problem_type)
    return Package(replace(package.manifest, head=head, source=source), package.tensors)


def _named(head: HeadSpec, labels: Sequence[str]) -> HeadSpec:
    if head.type in _NAMELESS:
        raise Misfit([f"the outputs of a {head.type} head have no labels to be named"])
    count = head.choices if head.type == "multiple_choice" else len(head.labels)
    if count is None:
        raise Misfit(["the head takes any number of choices, so that they have no labels to be named"])
    if len(labels) != count or len(set(labels)) != len(labels):
        raise Misfit([f"the head has {count} outputs; give as many different labels, not {len(labels)}"])
    return replace(head, labels=tuple(labels))


def _with_problem(head: HeadSpec, problem_type: str) -> HeadSpec:
    if problem_type not in PROBLEM_TYPES:
        raise Misfit([f"problem type {problem_type!r} is none of {', '.join(PROBLEM_TYPES)}"])
    if problem_type == head.problem_type:
        return head
    if head.type not in _CLASSIFICATION or problem_type not in _CLASSIFYING:
        raise Misfit([f"a {head.type} head can not answer the problem type {problem_type!r}"])
    if problem_type == "regression" and len(head.labels) != 1:
        raise Misfit([f"a regression has one output, but the head has {len(head.labels)}"])
    head_type = "multilabel_classification" if problem_type == "multi_label" else "classification"
    return replace(head, type=head_type, problem_type=problem_type)
