"""Heads with random weights side by side in one arena, and rows of states for them."""

from itertools import accumulate, pairwise

import numpy as np
import torch

from adapters.heads.base import HeadContext
from adapters.heads.table import head_of, head_shapes
from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from adapters.manifest import HeadSpec

HIDDEN = 6
ALIGN = 8
SPECS = {
    "two_layers": HeadSpec("classification", 2, "tanh", True, "first_token", ("a", "b", "c"), "single_label"),
    "one_layer": HeadSpec("multilabel_classification", 1, None, False, "first_token", ("a", "b"), "multi_label"),
    "pooler": HeadSpec("classification", 1, None, True, "pooler", ("a", "b"), "single_label"),
    "regression": HeadSpec("classification", 3, "gelu", True, "first_token", ("score",), "regression"),
    "tagging": HeadSpec("tagging", 2, "relu", True, "tokens", ("o", "x", "y"), "token"),
    "qa": HeadSpec("question_answering", 1, None, True, "tokens", ("start", "end"), "span"),
    "choice": HeadSpec("multiple_choice", 2, "tanh", True, "first_token", (), "choice", choices=3),
    "language": HeadSpec(
        "masked_lm", 2, "gelu", True, "tokens", (), "vocabulary", vocabulary=11, width=4, norm_eps=1e-5
    ),
    "bare_language": HeadSpec("masked_lm", 1, None, False, "tokens", (), "vocabulary", vocabulary=9, width=6),
    "deep_language": HeadSpec("masked_lm", 3, "relu", True, "tokens", (), "vocabulary", vocabulary=7, width=5),
    "next_word": HeadSpec(
        "causal_lm", 2, "gelu", True, "tokens", (), "next_token", vocabulary=11, width=4, norm_eps=1e-5
    ),
    "bare_next_word": HeadSpec("causal_lm", 1, None, False, "tokens", (), "next_token", vocabulary=9, width=6),
    "translation": HeadSpec("seq2seq_lm", 1, None, False, "tokens", (), "vocabulary", vocabulary=9, width=6, scale=0.5),
    "parse": HeadSpec("dependency_parsing", 1, None, True, "tokens", ("subj", "obj"), "tree"),
}


def heads(spec, count, seed=0):
    """`count` heads as stored tensors under their short names."""
    generator = torch.Generator().manual_seed(seed)
    shapes = head_shapes(spec, HIDDEN)
    return [
        {
            name.removeprefix("head/").replace("/", "."): torch.randn(s, generator=generator)
            for name, s in shapes.items()
        }
        for _ in range(count)
    ]


def stacked(held):
    """The same parameters, as a plan gathers them from an arena in which other things lie between them."""
    pieces, offsets, used = [], {name: [] for name in held[0]}, 0
    for tensors in held:
        for name, tensor in tensors.items():
            offsets[name].append(used // ALIGN)
            gap = torch.full((-tensor.numel() % ALIGN + ALIGN,), float("nan"), dtype=tensor.dtype)
            pieces += [tensor.reshape(-1), gap]
            used += tensor.numel() + gap.numel()
    arena = torch.cat(pieces)
    return {name: Stacked(arena, np.array(at), tuple(held[0][name].shape), ALIGN) for name, at in offsets.items()}


def states(lengths, seed=1):
    return torch.randn(sum(lengths), HIDDEN, generator=torch.Generator().manual_seed(seed))


def run(spec, held, lengths, owners, x, word_starts=None, undo=None):
    """Answers of rows of these lengths, each under the head `owners[row]`; rows of one head touch."""
    rows = tuple(pairwise(accumulate(lengths, initial=0)))
    order = list(dict.fromkeys(owners))
    bounds = tuple(
        (rows[owners.index(owner)][0], rows[len(owners) - 1 - owners[::-1].index(owner)][1]) for owner in order
    )
    runs = Runs(bounds, rows, sum(lengths), torch.device("cpu"))
    context = HeadContext(rows, tuple(word_starts or [None] * len(rows)), undo)
    return head_of(spec).apply(x, runs, spec, stacked([held[owner] for owner in order]), context)
