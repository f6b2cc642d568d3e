import json
from dataclasses import replace

import pytest

from serving.registry.journal import FILE, Journal, Outcome, told_in

ONE = Outcome("acme/tone", "acme", "tone", "s1", "published", 5.0, 3, "sha256:" + "a" * 64)
TWO = Outcome("acme/bad", "acme", "bad", "s2", "refused", 6.0, reasons=("no tensor", "ümlaut"))


@pytest.fixture
def watched(tmp_path):
    folder = tmp_path / "watched"
    folder.mkdir()
    return folder


@pytest.fixture
def journal(tmp_path, watched):
    opened = Journal.open(tmp_path, watched)
    for outcome in (ONE, TWO):
        opened.keep(outcome)
    return opened


def test_what_is_kept_is_read_by_others_and_after_a_start(tmp_path, watched, journal):
    assert told_in(tmp_path).outcomes == (TWO, ONE)
    again = Journal.open(tmp_path, watched)
    assert (again.of("acme/tone"), again.of("acme/bad"), again.of("other")) == (ONE, TWO, None)
    assert again.places == {"acme/tone", "acme/bad"}
    assert again.check() == ()


def test_outcomes_are_counted_by_their_word_and_go_on_after_a_start(tmp_path, watched, journal):
    journal.keep(TWO)
    journal.keep(ONE, word="unchanged")
    assert told_in(tmp_path).counts == {"published": 1, "refused": 2, "unchanged": 1}
    Journal.open(tmp_path, watched).keep(ONE)
    assert told_in(tmp_path).counts["published"] == 2
    assert told_in(tmp_path).folder == str(watched)


def test_what_is_forgotten_is_gone(tmp_path, journal):
    journal.forget("acme/tone")
    journal.forget("never/there")
    assert told_in(tmp_path).outcomes == (TWO,)


def test_the_journal_of_another_folder_is_begun_anew(tmp_path, journal):
    other = tmp_path / "other"
    other.mkdir()
    assert Journal.open(tmp_path, other).places == frozenset()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"folder": "/x"}', '{"folder": "/x", "outcomes": [], "counts": 3}', "{" * 9]
)
def test_a_damaged_journal_is_begun_anew(tmp_path, watched, text):
    (tmp_path / FILE).write_text(text)
    assert Journal.open(tmp_path, watched).places == frozenset()
    assert told_in(tmp_path) is None


def test_without_a_watcher_there_is_nothing_to_tell(tmp_path):
    assert told_in(tmp_path) is None


def test_a_file_that_another_wrote_is_a_fault(tmp_path, journal):
    value = json.loads((tmp_path / FILE).read_text())
    value["outcomes"].pop()
    (tmp_path / FILE).write_text(json.dumps(value))
    assert "is not what the watcher knows" in journal.check()[0]
    journal.keep(replace(ONE, version=4))
    assert journal.check() == ()
    assert not (tmp_path / FILE).with_suffix(".part").exists()
