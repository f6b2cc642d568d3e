import pytest

from adapters.refs import AdapterRef, Reference
from serving.errors import REFUSALS, DependencyFailed
from serving.registry.absence import missing_name, missing_selector, refuse_quarantined, retired
from serving.registry.records import NameRecord, Version
from tests.serving.registry.given import digest_of, manifest_of


def record(*numbers, last):
    refs = [AdapterRef("acme", "ada", number, digest_of(b"one")) for number in numbers]
    versions = tuple(Version(ref, "adapter", manifest_of("adapter"), 1, 0.0, "key1") for ref in refs)
    return NameRecord("acme", "adapter", "ada", versions, {"prod": numbers[0]}, frozenset(), 1, last)


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


def test_a_number_that_was_given_once_was_retired_and_a_higher_one_never_was():
    for number, code in ((2, "adapter_retired"), (4, "adapter_retired"), (5, "adapter_not_found")):
        assert missing_selector(record(1, 3, last=4), Reference("ada", version=number)).code == code
    assert retired("embedding", "kli", 2).detail == "version 2 of the token embedding 'kli' was retired"
    assert retired("embedding", "kli", 2).status == 404


def test_other_selectors_are_missing_as_ever():
    held = record(1, last=1)
    assert missing_selector(held, Reference("ada", alias="blue")).detail.endswith("(aliases: prod)")
    assert missing_selector(held, Reference("ada", digest="sha256:1")).code == "adapter_not_found"


def test_a_version_in_quarantine_is_refused_with_its_reason_and_a_remedy():
    (version,) = record(1, last=1).versions
    refuse_quarantined(version)
    confined = Version(version.ref, "adapter", version.manifest, 1, 0.0, "key1", quarantined="bit rot")
    with pytest.raises(DependencyFailed, match=r"ada@1 is in quarantine \(bit rot\): publish the same") as caught:
        refuse_quarantined(confined)
    assert (caught.value.code, caught.value.status) == ("quarantined", 424)
