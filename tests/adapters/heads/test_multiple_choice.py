from dataclasses import replace

import pytest

from adapters.heads.multiple_choice import MULTIPLE_CHOICE
from adapters.heads.table import head_shapes
from tests.adapters.heads.made import SPECS, heads, run, states


@pytest.mark.parametrize("labels", [(), ("a", "b", "c")])
def test_a_choice_has_one_score_however_many_there_are(labels):
    spec = replace(SPECS["choice"], labels=labels)
    assert head_shapes(spec, 4)["head/1/weight"] == (1, 4)
    answers = run(spec, heads(spec, 1), [1] * 6, [0] * 6, states([6]))
    assert [answer.shape for answer in answers] == [(1,)] * 6
    assert len({float(answer) for answer in answers}) == 6
    assert MULTIPLE_CHOICE.places == "row"
