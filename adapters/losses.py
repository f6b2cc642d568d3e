"""What training minimises: a head's answers against the goals of their rows, as AdapterHub's heads compare them.

A row is compared on its own, without padding: a softmax over tokens or words ranges over those of the row (AdapterHub
lets padding take part). Nothing counted gives 0, where torch's mean over nothing would be NaN.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from adapters.manifest import HeadSpec

IGNORED = -100  # a goal that does not count, as everywhere in torch


def loss(spec: HeadSpec, answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    """The mean loss [] of rows: one answer of the head each (`adapters.heads`), and one goal.

    single_label: a class [] (cross entropy).         multi_label: [labels] of 0 and 1 (binary cross entropy).
    regression: a number [] (squared error).          token, vocabulary: [tokens], IGNORED where none counts.
    span: [2] first and last token, half the sum of both cross entropies; a place outside of the row does not count.
    next_token: [tokens], where a token's answer is compared with the goal of the token behind it.
    choice: a class [] per question, with as many answers one after another as a question has choices.
    tree: [2, words] head (0 is the root) and relation of each word, negative where none counts; the sum of both.
    """
    return _LOSSES[spec.problem_type](answers, goals)


def _classes(answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    return _cross_entropy(torch.stack(list(answers)), torch.stack(list(goals)))


def _numbers(answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    scores = torch.cat(list(answers))
    return functional.mse_loss(scores, torch.stack(list(goals)).to(scores.dtype))


def _sets(answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    scores = torch.stack(list(answers))
    return functional.binary_cross_entropy_with_logits(scores, torch.stack(list(goals)).to(scores.dtype))


def _tokens(answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    return _cross_entropy(torch.cat(list(answers)), torch.cat(list(goals)))


def _following(answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    return _tokens([answer[:-1] for answer in answers], [goal[1:] for goal in goals])


def _spans(answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    lowest = torch.finfo(answers[0].dtype).min
    scores = pad_sequence(list(answers), batch_first=True, padding_value=lowest)  # [rows, tokens, 2]
    places = torch.stack(list(goals))
    lengths = torch.tensor([len(answer) for answer in answers], device=places.device)[:, None]
    places = places.masked_fill((places < 0) | (places >= lengths), IGNORED)
    first, last = (_cross_entropy(scores[:, :, side], places[:, side]) for side in range(2))
    return (first + last) / 2


def _choices(answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    return _cross_entropy(torch.cat(list(answers)).view(len(goals), -1), torch.stack(list(goals)))


def _trees(answers: Sequence[Tensor], goals: Sequence[Tensor]) -> Tensor:
    widest, lowest = max(answer.shape[1] for answer in answers), torch.finfo(answers[0].dtype).min
    wide = [functional.pad(answer, (0, 0, 0, widest - answer.shape[1]), value=lowest) for answer in answers]
    goal = torch.cat(list(goals), dim=1)
    counted = goal[0] >= 0
    words, heads, relations = torch.cat(wide)[counted], goal[0][counted], goal[1][counted]
    chosen = words[torch.arange(len(heads), device=words.device), heads, 1:]
    return _cross_entropy(words[:, :, 0], heads) + _cross_entropy(chosen, relations)


def _cross_entropy(scores: Tensor, goals: Tensor) -> Tensor:
    if not bool((goals != IGNORED).any()):
        return scores.sum() * 0.0
    return functional.cross_entropy(scores, goals, ignore_index=IGNORED)


_LOSSES: Mapping[str, Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]] = {
    "single_label": _classes,
    "regression": _numbers,
    "multi_label": _sets,
    "token": _tokens,
    "vocabulary": _tokens,
    "next_token": _following,
    "span": _spans,
    "choice": _choices,
    "tree": _trees,
}
