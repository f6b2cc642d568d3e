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


def test_only_the_first_names_are_compared_and_only_their_beginnings(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "serving.registry.absence.get_close_matches",
        lambda name, names, n: (seen.append((name, list(names))), names)[1],
    )
    error = missing_name("adapter", "a" * 100, (f"{i:03}{'b' * 100}" for i in range(2000)))
    ((name, names),) = seen
    assert (len(name), len(names), {len(other) for other in names}) == (40, 500, {40})
    assert "did you mean '000" + "b" * 100 + "'" in error.detail
