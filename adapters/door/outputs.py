"""Answers of rows as transformers' outputs: padded tensors under the names of each kind of head, and the loss."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    Seq2SeqLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import ModelOutput

from adapters.door.inputs import Given
from adapters.errors import InvalidRow
from adapters.losses import IGNORED, loss
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


def check(groups: Sequence[Group], goals: Goals) -> None:
    """Raise `InvalidRow` for a goal that no head of the pass looks at: it would not train what the caller means."""
    problems = {group.spec.problem_type for group in groups if group.spec is not None}
    asked = {name for problem in problems for name in _PAIRS.get(problem, ("labels",))}
    for field in fields(goals):
        if getattr(goals, field.name) is not None and field.name not in asked:
            remedy = f"give it {', '.join(sorted(asked))}" if asked else "add a head, or name one"
            raise InvalidRow(f"{field.name} mean nothing to what answers here: {remedy}")


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
    if problem in _PAIRS:
        pair = _pair(goals, *_PAIRS[problem])
        if pair is None:
            return None
        for name, side in zip(_PAIRS[problem], pair, strict=True):
            _whole(name, side, given.questions)
        sides = [side.to(device).long() for side in pair]
        return _places(group, given, sides) if problem == "span" else _arcs(group, sides, logits)
    if goals.labels is None:
        return None
    if group.spec.pooling == "last_eos" and logits[0].dim() == 2:
        raise InvalidRow(
            "labels need decoder_input_ids as long as input_ids: the head answers for every state of theirs"
        )
    labels = goals.labels.to(device)
    if problem in ("token", "vocabulary", "next_token"):
        _whole("labels", labels)
        found = [given.goals(labels.long())[row] for row in group.rows]
        return [_within("labels", entry, logits[0].shape[-1]) for entry in found]
    step = _count(group, given) if problem == "choice" else 1
    _sized("labels", labels, given.questions if given.choices else len(given.ids) // step)
    entries = [labels[row // step] for row in group.rows[::step]]
    if problem == "multi_label":
        if any(entry.shape != logits[0].shape for entry in entries):
            raise InvalidRow(f"labels are {list(labels.shape)}, but each row takes {len(logits[0])} of 0 and 1")
        return entries
    if any(entry.numel() != 1 for entry in entries):
        raise InvalidRow(f"labels are {list(labels.shape)}, but each row takes one")
    if problem == "regression":
        return [entry.reshape(()) for entry in entries]
    _whole("labels", labels)
    count = step if problem == "choice" else logits[0].shape[-1]
    return [_within("labels", entry.reshape(()).long(), count) for entry in entries]


def _places(group: Group, given: Given, sides: Sequence[Tensor]) -> list[Tensor]:
    """First and last token of each row, counted from where its own tokens begin."""
    if any(side.numel() != given.questions for side in sides):
        raise InvalidRow("start_positions and end_positions take one place per row")
    own = given.own.long().argmax(dim=1).to(sides[0].device)
    return [torch.stack([side.reshape(-1)[row] - own[row] for side in sides]) for row in group.rows]


def _arcs(group: Group, sides: Sequence[Tensor], logits: Sequence[Tensor]) -> list[Tensor]:
    """Head and relation of each word of each row."""
    made = []
    for row, answer in zip(group.rows, logits, strict=True):
        words = len(answer)
        if any(side.dim() != 2 or side.shape[1] < words for side in sides):
            raise InvalidRow(f"labels_arcs and labels_rels take one number per word: a row has {words}")
        arcs, relations = (side[row][:words] for side in sides)
        _within("labels_arcs", arcs, words + 1, ignored=arcs < 0)
        _within("labels_rels", relations, answer.shape[-1] - 1, ignored=arcs < 0)
        made.append(torch.stack([arcs, relations]))
    return made


def _sized(name: str, values: Any, rows: int) -> None:
    if not isinstance(values, Tensor) or values.dim() == 0 or len(values) != rows:
        shape = list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise InvalidRow(f"{name} must be a tensor with an entry for each of the {rows} rows, not {shape}")


def _whole(name: str, values: Tensor, rows: int | None = None) -> None:
    """Raise `InvalidRow` for goals that are no whole numbers, or not as many as there are rows."""
    if rows is not None:
        _sized(name, values, rows)
    if values.is_floating_point() or values.dtype is torch.bool:
        raise InvalidRow(f"{name} must be integers, not {values.dtype}: numbers are for a head of regression")


def _within(name: str, values: Tensor, count: int, ignored: Tensor | None = None) -> Tensor:
    """The goals, if each that counts is one of so many; raises `InvalidRow`."""
    left_out = values == IGNORED if ignored is None else ignored
    wrong = values[~left_out & ((values < 0) | (values >= count))]
    if wrong.numel():
        raise InvalidRow(f"{name} have {int(wrong.flatten()[0])}, but the head knows 0 to {count - 1}")
    return values


def _pair(goals: Goals, *names: str) -> tuple[Tensor, Tensor] | None:
    first, second = (getattr(goals, name) for name in names)
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
    if logits[0].dim() == 2:  # of every state, see `HeadSpec.pooling`
        return SequenceClassifierOutput(logits=given.padded(logits, group.rows), **extra)
    return SequenceClassifierOutput(logits=torch.stack(list(logits)), **extra)


def _tokens(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    return TokenClassifierOutput(logits=given.padded(logits, group.rows), **extra)


def _words(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    if group.spec is not None and group.spec.type == "seq2seq_lm":
        return Seq2SeqLMOutput(logits=given.padded(logits, group.rows), **extra)
    return MaskedLMOutput(logits=given.padded(logits, group.rows), **extra)


def _next_words(group: Group, logits: Sequence[Tensor], given: Given, extra: Mapping[str, Any]) -> Any:
    return CausalLMOutput(logits=given.padded(logits, group.rows), **extra)


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


_PAIRS: Mapping[str, tuple[str, str]] = {  # goals that are two tensors; all others are `labels`
    "span": ("start_positions", "end_positions"),
    "tree": ("labels_arcs", "labels_rels"),
}
_KINDS: Mapping[str, Callable[[Group, Sequence[Tensor], Given, Mapping[str, Any]], Any]] = {
    "single_label": _pooled,
    "regression": _pooled,
    "multi_label": _pooled,
    "token": _tokens,
    "vocabulary": _words,
    "next_token": _next_words,
    "span": _spans,
    "choice": _choices,
    "tree": _trees,
}
