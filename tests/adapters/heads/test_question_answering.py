from dataclasses import replace

from adapters.heads.question_answering import QUESTION_ANSWERING
from adapters.heads.table import head_reasons, head_shapes
from tests.adapters.heads.made import HIDDEN, SPECS, heads, run, states


def test_every_token_has_a_start_and_an_end_score():
    spec = SPECS["qa"]
    (held,) = heads(spec, 1)
    x = states([4])
    (answer,) = run(spec, [held], [4], [0], x)
    assert answer.shape == (4, 2)
    start = x[2] @ held["0.weight"][0] + held["0.bias"][0]
    assert abs(float(answer[2, 0] - start)) < 1e-5
    assert QUESTION_ANSWERING.places == "tokens"


def test_other_numbers_of_outputs_are_refused():
    assert head_shapes(SPECS["qa"], 4)["head/0/weight"] == (2, 4)
    reasons = head_reasons(replace(SPECS["qa"], labels=("start", "end", "none")), HIDDEN, has_pooler=True)
    assert reasons == ["a question_answering head has two outputs, start and end, not 3"]
