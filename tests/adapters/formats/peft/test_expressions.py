import time

import pytest

from adapters.errors import Misfit
from adapters.formats.peft.expressions import beginning, full

QUERY = "bert.encoder.layer.11.attention.self.query"


def test_a_path_matches_as_python_s_own_expressions_match_it():
    assert full(r"^(?!.*pooler).*\.layer\.\d{1,2}\.(?:attention\.self|crossattention\.self)\.(query|value)$", QUERY)
    assert full("query", QUERY) is None
    assert beginning("bert", QUERY)[0] == "bert"
    assert beginning(r"(?:^|.*?\.)layer\.(\d+)\.", QUERY)[1] == "11"
    assert beginning("encoder", QUERY) is None


@pytest.mark.parametrize(("match", "expression"), [(full, r"(?:(?:.|.)*)*[^q-z]$"), (beginning, r"(.|.|.)*\d\d$")])
def test_an_expression_that_would_take_years_is_refused_in_time(match, expression):
    began = time.process_time()
    with pytest.raises(Misfit, match=r"takes longer than 1 s for bert\.encoder.*: name the modules in a list"):
        match(expression, QUERY)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "expression", ["a{100000000}", "(a{50000}){50000}", "(((a{100}){100}){100}){,}", "a{9000,10001}", "a{5}{4}{501}"]
)
def test_repeats_that_would_fill_the_memory_are_refused(expression):
    with pytest.raises(Misfit, match="repeats more than 10000 times"):
        full(expression, QUERY)


def test_an_expression_has_a_length():
    assert full("|".join(["query"] * 1600), QUERY) is None
    with pytest.raises(Misfit, match=r"'query\|query.*\.\.\.' of adapter_config.json has 11999 characters"):
        full("|".join(["query"] * 2000), QUERY)


@pytest.mark.parametrize("expression", ["(", "x{4294967295}", "(" * 5000, r"(?R)", r"\p{L}", "*"])
def test_what_python_s_expressions_do_not_know_is_none(expression):
    with pytest.raises(Misfit, match=r"is no regular expression|repeats more"):
        full(expression, QUERY)
