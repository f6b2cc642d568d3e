from dataclasses import replace

import pytest
import torch

from adapters.heads.table import head_of, head_reasons
from tests.adapters.heads.made import HIDDEN, SPECS, heads, run, states


@pytest.mark.parametrize(("name", "labels"), [("two_layers", 3), ("one_layer", 2), ("pooler", 2), ("regression", 1)])
def test_a_row_has_one_score_per_label(name, labels):
    spec = SPECS[name]
    answers = run(spec, heads(spec, 1), [1, 1], [0, 0], states([2]))
    assert [answer.shape for answer in answers] == [(labels,), (labels,)]
    assert head_of(spec).places == "row"


def test_scores_are_those_of_the_formula():
    spec = SPECS["two_layers"]
    (held,) = heads(spec, 1)
    x = states([1])
    hidden = torch.tanh(x @ held["0.weight"].T + held["0.bias"])
    (answer,) = run(spec, [held], [1], [0], x)
    assert torch.allclose(answer, (hidden @ held["1.weight"].T + held["1.bias"])[0], atol=1e-5)


def test_a_regression_has_one_label_and_other_problems_belong_to_other_heads():
    reasons = head_reasons(replace(SPECS["two_layers"], problem_type="regression"), HIDDEN, has_pooler=True)
    assert reasons == ["a regression head has exactly one label"]
    assert head_reasons(replace(SPECS["two_layers"], problem_type="multi_label"), HIDDEN, has_pooler=True)
    assert head_reasons(replace(SPECS["one_layer"], problem_type="regression"), HIDDEN, has_pooler=True)
