"""The best spans of one window, from its start and end logits."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Span:
    """A run of tokens, both ends included."""

    first: int
    last: int
    score: float


def best_spans(
    logits: NDArray[np.float32], context: NDArray[np.bool_], count: int, longest: int
) -> tuple[list[Span], float]:
    """At most `count` spans within the context, of at most `longest` tokens, best first; and the score of no answer.

    logits: [tokens, 2], start and end. The softmax of either runs over the context and the first token, whose own
    probability is that of no answer, and which is no part of an answer.
    """
    heard = context.copy()
    heard[0] = True
    values = np.where(heard[:, None], logits.astype(np.float64), -np.inf)
    powers = np.exp(values - values.max(axis=0))
    starts, ends = (powers / powers.sum(axis=0)).T
    null = float(starts[0] * ends[0])
    found = np.flatnonzero(context)
    first, last = int(found[0]), int(found[-1]) + 1
    table = np.triu(np.outer(starts[first:last], ends[first:last]))
    table -= np.triu(table, longest)
    table[~context[first:last]] = table[:, ~context[first:last]] = 0.0
    flat = table.ravel()
    able = np.flatnonzero(flat >= np.partition(flat, -count)[-count]) if count < flat.size else np.arange(flat.size)
    order = able[np.argsort(-flat[able], kind="stable")][:count]
    width = table.shape[1]
    spans = [Span(first + int(i) // width, first + int(i) % width, float(flat[i])) for i in order if flat[i] > 0.0]
    return spans, null
