"""Answers of rows as transformers' outputs: padded tensors under the names of each kind of head, and the loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import ModelOutput

from adapters.door.inputs import Given
from adapters.errors import InvalidRow
from adapters.losses import loss
from adapters.manifest import HeadSpec
from adapters.passes import Answers


@dataclass
class DependencyParsingOutput(ModelOutput):  # type: ignore[misc]  # transformers has no types
    """Scores of arcs [rows, words, words + 1] and relations [rows, words, words + 1, relations]; 0 is the root."""

    loss: Tensor | None = None
    arc_preds: Tensor | None = None
    rel_preds: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


@dataclass
class MultiHeadOutput(ModelOutput):  # type: ignore[misc]  # transformers has no types
    """One output per branch of `Parallel`, or per head of a `BatchSplit`; the loss is the sum of theirs."""

    loss: Tensor | None = None
    head_outputs: tuple[Any, ...] | None = None


@dataclass(frozen=True, eq=False)
class Goals:
    """What a caller wants to be answered; tensors with a row for every row (or question) of the batch."""

    labels: Tensor | None = None
    start_positions: Tensor | None = None
    end_positions: Tensor | None = None
    labels_arcs: Tensor | None = None
    labels_rels: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Group:
    """Rows that one head answers: `rows` of the batch, and their places among the answers of the pass."""

    spec: HeadSpec | None
    rows: tuple[int, ...]
    places: tuple[int, ...]


def output(group: Group, answers: Answers, given: Given, goals: Goals, *, states: bool) -> Any:
    """The output of transformers for one group, with all hidden states if asked for; raises `InvalidRow`."""
    layers = answers.states if states else answers.states[-1:] if group.spec is None else ()
    hidden = tuple(given.padded([layer[i] for i in group.places], group.rows) for layer in layers)
    extra = {"hidden_states": hidden} if states else {}
    if group.spec is None:
        return BaseModelOutput(last_hidden_state=hidden[-1], **extra)
    logits = [answers.logits[i] for i in group.places]
    wanted = _goals(group, given, goals, logits)
    value = None if wanted is None else loss(group.spec, logits, wanted)
    return _KINDS[group.spec.problem_type](group, logits, given, {"loss": value, **extra})


def together(outputs: Sequence[Any]) -> Any:
    """One output of several groups: itself if there is one, else all of them with the sum of their losses."""
    if len(outputs) == 1:
        return outputs[0]
    losses = [item.get("loss") for item in outputs]
    total = None if any(value is None for value in losses) else torch.stack(losses).sum()
    return MultiHeadOutput(loss=total, head_outputs=tuple(outputs))


def _goals(group: Group, given: Given, goals: Goals, logits: Sequence[Tensor]) -> list[Tensor] | None:
    """A goal for every answer, as `losses.loss` wants them; None where the caller gives none."""
    assert group.spec is not None
    problem, device = group.spec.problem_type, logits[0].device
    if problem == "span":
        pair = _pair(goals.start_positions, goals.end_positions, "start_positions", "end_positions")
        own = given.own.long().argmax(dim=1).to(device)  # where a row's own tokens begin
        return (
            None
            if pair is None
            else [torch.stack([side.to(device).reshape(-1)[row] - own[row] for side in pair]) for row in group.rows]
        )
    if problem == "tree":
        pair = _pair(goals.labels_arcs, goals.labels_rels, "labels_arcs", "labels_rels")
        return (
            None
            if pair is None
            else [
                torch.stack([side[row].to(device)[: len(words)] for side in pair])
                for row, words in zip(group.rows, logits, strict=True)
            ]
        )
    if goals.labels is None:
        return None
    labels = goals.labels.to(device)
    if problem in ("token", "vocabulary"):
        own_labels = given.goals(labels)
        return [own_labels[row] for row in group.rows]
    step = _count(group, given) if problem == "choice" else 1
    entries = [labels[row // step] for row in group.rows[::step]]
    return [entry if problem == "multi_label" else entry.reshape(()) for entry in entries]


def _pair(first: Tensor | None, second: Tensor | None, *names: str) -> tuple[Tensor, Tensor] | None:
    if first is None and second is None:
        return None
    if first is None or second is None:
        raise InvalidRow(f"give both {names[0]} and {names[1]}, or neither")
    return first, second


def _count(group: Group, given: Given) -> int:
    """Rows of one question."""
    assert group.spec is not None
    count = given.choices or group.spec.choices
    if count is None or len(group.rows) % count:
        raise InvalidRow("multiple choice takes input_ids [questions, choices, length]")
    return count


def _pooled(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    return SequenceClassifierOutput(logits=torch.stack(list(logits)), **extra)


def _tokens(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    return TokenClassifierOutput(logits=given.padded(logits, group.rows), **extra)


def _words(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    return MaskedLMOutput(logits=given.padded(logits, group.rows), **extra)


def _spans(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    lowest = torch.finfo(logits[0].dtype).min  # no answer lies in the padding
    first, last = given.padded(logits, group.rows, lowest).unbind(-1)
    return QuestionAnsweringModelOutput(start_logits=first, end_logits=last, **extra)


def _choices(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    return MultipleChoiceModelOutput(logits=torch.cat(list(logits)).view(-1, _count(group, given)), **extra)


def _trees(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    words = max(len(answer) for answer in logits)
    wide = [functional.pad(answer, (0, 0, 0, words + 1 - answer.shape[1])) for answer in logits]
    scores = pad_sequence(wide, batch_first=True)
    return DependencyParsingOutput(arc_preds=scores[..., 0], rel_preds=scores[..., 1:], **extra)


_KINDS: Mapping[str, Callable[[Group, Sequence[Tensor], Given, Mapping[str, Any]], Any]] = {
    "single_label": _pooled,
    "regression": _pooled,
    "multi_label": _pooled,
    "token": _tokens,
    "vocabulary": _words,
    "span": _spans,
    "choice": _choices,
    "tree": _trees,
}
