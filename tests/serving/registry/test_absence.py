from serving.errors import REFUSALS
from serving.registry.absence import missing_name


def test_a_near_name_of_the_callers_own_is_suggested():
    error = missing_name("adapter", "sentimnt", ["sentiment", "topic"])
    assert error.detail == "no adapter 'sentimnt'; did you mean 'sentiment'?"
    assert (error.code, error.status) == ("adapter_not_found", 404)


def test_nothing_is_suggested_where_nothing_is_near():
    assert missing_name("embedding", "klingon", ["xx"]).detail == "no token embedding 'klingon'"


def test_the_code_says_which_space():
    assert missing_name("embedding", "a").code == "embedding_not_found"
    assert missing_name("embedding", "a").code not in REFUSALS
