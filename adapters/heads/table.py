"""The closed table of heads, and what can be asked of any head by its specification."""

from collections.abc import Mapping

import torch
from torch import Tensor

from adapters.errors import Misfit
from adapters.heads.base import Head, Shapes
from adapters.heads.classification import CLASSIFICATION, MULTILABEL
from adapters.heads.dependency_parsing import DEPENDENCY_PARSING
from adapters.heads.language_model import CAUSAL_LM, MASKED_LM, SEQ2SEQ_LM
from adapters.heads.multiple_choice import MULTIPLE_CHOICE
from adapters.heads.question_answering import QUESTION_ANSWERING
from adapters.heads.tagging import TAGGING
from adapters.manifest import HeadSpec

_ALL: tuple[Head, ...] = (
    CLASSIFICATION,
    MULTILABEL,
    TAGGING,
    QUESTION_ANSWERING,
    MULTIPLE_CHOICE,
    MASKED_LM,
    CAUSAL_LM,
    DEPENDENCY_PARSING,
    SEQ2SEQ_LM,
)
HEADS: Mapping[str, Head] = {head.type: head for head in _ALL}
FRESH = 0.02  # standard deviation of new matrices, as in BERT


def head_of(spec: HeadSpec) -> Head:
    """The kind of a head; raises `Misfit`."""
    head = HEADS.get(spec.type)
    if head is None:
        raise Misfit([f"head type {spec.type!r} is not served; served are {', '.join(HEADS)}"])
    return head


def head_shapes(spec: HeadSpec, hidden: int) -> Shapes:
    """Full names and shapes of a head's tensors; raises `Misfit`."""
    return head_of(spec).shapes(spec, hidden)


def head_reasons(spec: HeadSpec, hidden: int, *, has_pooler: bool) -> list[str]:
    """Everything that keeps a head from running on a backbone; raises `Misfit` for a kind that is not served."""
    return head_of(spec).reasons(spec, hidden, has_pooler=has_pooler)


def initialise_head(spec: HeadSpec, hidden: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Fresh tensors for training, under the names of `head_shapes`: small maps, no biases, norms that change nothing."""
    fresh: dict[str, Tensor] = {}
    for name, shape in head_shapes(spec, hidden).items():
        if name.endswith("bias"):
            fresh[name] = torch.zeros(shape)
        elif name.endswith("norm.weight"):
            fresh[name] = torch.ones(shape)
        else:
            fresh[name] = torch.randn(shape, generator=generator) * FRESH
    return fresh
