from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from adapters.errors import InvalidRow
from adapters.heads.table import head_reasons, head_shapes
from tests.adapters.heads.made import HIDDEN, SPECS, heads, run, states

PARSE = SPECS["parse"]


def reference(held, x, starts):
    """Word by word, in plain loops."""
    words = [x[a:b].mean(0) for a, b in pairwise(starts)]
    one = torch.ones(1)
    out = torch.zeros(len(words), len(words) + 1, 3)
    for j, word in enumerate(words):
        dependent = torch.cat([word, one])
        for k, head in enumerate([x[0], *words]):
            out[j, k, 0] = dependent @ held["arcs.weight"][0] @ head
            for r in range(2):
                out[j, k, 1 + r] = dependent @ held["relations.weight"][r] @ torch.cat([head, one])
    return out


def test_arcs_and_relations_are_those_of_the_formula():
    held = heads(PARSE, 2)
    lengths, starts = [6, 9, 4], [(1, 2, 4), (1, 3, 4, 5, 8), (2, 3)]
    x = states(lengths)
    answers = run(PARSE, held, lengths, [1, 1, 0], x, starts)
    for answer, owner, piece, own in zip(answers, [1, 1, 0], torch.split(x, lengths), starts, strict=True):
        assert answer.shape == (len(own) - 1, len(own), 3)
        assert torch.allclose(answer, reference(held[owner], piece, own), atol=1e-3)


def test_tokens_outside_of_every_word_do_not_count():
    held = heads(PARSE, 1)
    x = states([6])
    changed = x.clone()
    changed[[1, 4, 5]] = 9.0
    one, other = (run(PARSE, held, [6], [0], given, [(2, 3, 4)])[0] for given in (x, changed))
    assert torch.equal(one, other)


@pytest.mark.parametrize("starts", [None, (1,)])
def test_a_row_without_words_is_refused(starts):
    with pytest.raises(InvalidRow, match="first token of every word"):
        run(PARSE, heads(PARSE, 1), [4], [0], states([4]), [starts])


def test_tensors_follow_the_relations():
    assert head_shapes(PARSE, HIDDEN) == {
        "head/arcs/weight": (1, HIDDEN + 1, HIDDEN),
        "head/relations/weight": (2, HIDDEN + 1, HIDDEN + 1),
    }
    assert head_reasons(replace(PARSE, layers=2), HIDDEN, has_pooler=True)
