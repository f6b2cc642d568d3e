import pytest

from serving.errors import NotFound, PreconditionFailed, Unprocessable
from serving.registry.tags import MAX_TAGS, MAX_VALUE
from tests.serving.registry.given import ACME, OTHER, report_of


@pytest.fixture
def named(catalog):
    for data in (b"one", b"two"):
        catalog.add_version(ACME, "adapter", "ada", report_of(data), promote=False)
    return catalog


def tags(catalog):
    return [dict(version.tags) for version in catalog.since(0).names["acme", "adapter", "ada"].versions]


def test_tags_are_replaced_as_a_whole_and_belong_to_one_version(named):
    named.set_tags(ACME, "adapter", "ada", 2, {"stage": "gold", "team/owner": "nlp"})
    assert tags(named) == [{}, {"stage": "gold", "team/owner": "nlp"}]
    record = named.set_tags(ACME, "adapter", "ada", 2, {"stage": ""}).value
    assert tags(named) == [{}, {"stage": ""}]
    assert record.versions[1].tags == {"stage": ""}
    named.set_tags(ACME, "adapter", "ada", 2, {})
    assert tags(named) == [{}, {}]


def test_the_audit_says_what_they_were(named):
    named.set_tags(ACME, "adapter", "ada", 1, {"b": "2", "a": "1"})
    named.set_tags(ACME, "adapter", "ada", 1, {"c": "3"})
    last, first = named.history("acme", "adapter", "ada")[:2]
    assert (first.action, first.before, first.after) == ("tag", "{}", '{"a":"1","b":"2"}')
    assert (last.before, last.after) == ('{"a":"1","b":"2"}', '{"c":"3"}')


def test_the_same_tags_again_are_no_change(named):
    named.set_tags(ACME, "adapter", "ada", 1, {"a": "1"})
    before = named.since(0).names
    named.set_tags(ACME, "adapter", "ada", 1, {"a": "1"})
    assert named.since(0).names == before


def test_followers_hear_of_tags_and_publishing_the_same_bytes_keeps_them(named):
    seen = named.since(0).revision
    named.set_tags(ACME, "adapter", "ada", 1, {"a": "1"})
    (record,) = named.since(seen).names.values()
    assert record.versions[0].tags == {"a": "1"}
    again = named.add_version(ACME, "adapter", "ada", report_of(b"one"), promote=False).value
    assert again.version.tags == {"a": "1"}


def test_tags_go_with_their_version(named):
    named.set_tags(ACME, "adapter", "ada", 1, {"a": "1"})
    named.delete(ACME, "adapter", "ada", 1)
    named.add_version(ACME, "adapter", "ada", report_of(b"one"), promote=False)
    assert tags(named) == [{}, {}]


def test_another_tenants_version_has_no_tags_to_set(named):
    with pytest.raises(NotFound):
        named.set_tags(OTHER, "adapter", "ada", 1, {"a": "1"})
    with pytest.raises(NotFound):
        named.set_tags(ACME, "adapter", "ada", 3, {"a": "1"})


def test_tags_are_set_only_while_the_name_is_at_the_revision_that_was_seen(named):
    seen = named.since(0).names["acme", "adapter", "ada"].revision
    record = named.set_tags(ACME, "adapter", "ada", 1, {"a": "1"}, if_match=seen).value
    assert record.revision > seen
    with pytest.raises(PreconditionFailed, match=f"at revision {record.revision}, not {seen}"):
        named.set_tags(ACME, "adapter", "ada", 1, {"a": "2"}, if_match=seen)
    assert tags(named) == [{"a": "1"}, {}]
    named.set_tags(ACME, "adapter", "ada", 1, {"a": "2"}, if_match=record.revision)
    assert tags(named) == [{"a": "2"}, {}]


def test_what_is_wrong_is_told_at_once_and_nothing_is_stored(named):
    wrong = {"Up": "x", "ok": "y" * (MAX_VALUE + 1), "nul": "\0", "half": "\ud800"}
    with pytest.raises(Unprocessable) as caught:
        named.set_tags(ACME, "adapter", "ada", 1, wrong)
    assert [fault.pointer for fault in caught.value.faults] == ["/tags", "/tags/ok", "/tags/nul", "/tags/half"]
    with pytest.raises(Unprocessable, match=f"at most {MAX_TAGS} tags"):
        named.set_tags(ACME, "adapter", "ada", 1, {f"t{n}": "" for n in range(MAX_TAGS + 1)})
    assert tags(named) == [{}, {}]
    named.set_tags(ACME, "adapter", "ada", 1, {f"t{n}": "v" * MAX_VALUE for n in range(MAX_TAGS)})
    assert len(tags(named)[0]) == MAX_TAGS
