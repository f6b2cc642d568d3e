"""Dependency parsing: which word each word depends on, and by which relation (biaffine: arXiv:2008.06788).

w_j = mean of the states of word j                         d_j = [w_j; 1]
arc(j, k) = d_j^T A h_k,   rel_r(j, k) = d_j^T R_r [h_k; 1]      h_0 = the row's first state (root), h_k = w_k
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor
from torch.nn import functional

from adapters.errors import InvalidRow
from adapters.heads.base import HeadContext, Places, Shapes
from adapters.heads.linear import shared_reasons
from adapters.kernels.arena import Stacked
from adapters.kernels.ragged import row_mean
from adapters.kernels.runs import Runs
from adapters.manifest import HeadSpec


@dataclass(frozen=True)
class DependencyParsing:
    """Scores [words, words + 1, 1 + relations] of a row; channel 0 is the arc's, candidate head 0 the root.

    Tensors: `head/arcs/weight` [1, hidden + 1, hidden] and `head/relations/weight` [relations, hidden + 1, hidden + 1].
    """

    type: str = "dependency_parsing"
    places: Places = "tokens"

    def shapes(self, spec: HeadSpec, hidden: int) -> Shapes:
        """Full names and shapes of the stored tensors."""
        return {
            "head/arcs/weight": (1, hidden + 1, hidden),
            "head/relations/weight": (len(spec.labels), hidden + 1, hidden + 1),
        }

    def reasons(self, spec: HeadSpec, hidden: int, *, has_pooler: bool) -> list[str]:
        """Everything that keeps the head from running on a backbone."""
        reasons = shared_reasons(spec, self.places, ("tree",), has_pooler=has_pooler)
        if spec.layers != 1 or spec.activation is not None:
            reasons.append("a dependency_parsing head has one layer, and no activation")
        return reasons

    def apply(
        self, x: Tensor, runs: Runs, spec: HeadSpec, params: Mapping[str, Stacked], context: HeadContext
    ) -> list[Tensor]:
        """[words, words + 1, 1 + relations] per row; raises `InvalidRow` for a row without word starts."""
        starts = [_starts(held) for held in context.word_starts]
        words = _words(x, context.rows, starts)
        answers = []
        for (start, _), held, owner in zip(context.rows, words, _owners(runs, context.rows), strict=True):
            arcs, relations = params["arcs.weight"].one(owner), params["relations.weight"].one(owner)
            heads = torch.cat([x[start : start + 1], held])
            dependents = functional.pad(held, (0, 1), value=1.0)
            arc = dependents @ arcs @ heads.T  # [1, words, words + 1]
            relation = dependents @ relations @ functional.pad(heads, (0, 1), value=1.0).T
            answers.append(torch.cat([arc, relation]).permute(1, 2, 0))
        return answers


def _starts(held: tuple[int, ...] | None) -> tuple[int, ...]:
    if held is None or len(held) < 2:
        raise InvalidRow("dependency parsing needs the first token of every word, and the end of the last")
    return held


def _words(x: Tensor, rows: tuple[tuple[int, int], ...], starts: list[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """[words, hidden] of every row; the means of all rows are taken at once."""
    bounds = tuple((first + held[0], first + held[-1]) for (first, _), held in zip(rows, starts, strict=True))
    lengths = [end - start for held in starts for start, end in pairwise(held)]
    words = tuple(pairwise(accumulate(lengths, initial=0)))
    runs = Runs(bounds, words, x.shape[0], x.device)
    return torch.split(row_mean(runs.take(x), runs), [len(held) - 1 for held in starts])


def _owners(runs: Runs, rows: tuple[tuple[int, int], ...]) -> list[int]:
    """The segment, and so the head, of every row."""
    ends = list(accumulate(runs.lengths))
    return [next(i for i, end in enumerate(ends) if start < end) for start, _ in rows]


DEPENDENCY_PARSING = DependencyParsing()
