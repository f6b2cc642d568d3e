import numpy as np
import pytest

from adapters.formats import native
from loadtests.proofs.fingerprints import LABELS, METHODS, TOLERANCE, Book, Forge, Identity

ADA, BOB = Identity("ada", "fp/000", 1), Identity("bob", "fp/000", 1)


@pytest.fixture(scope="module")
def made(forge):
    return {Identity("ada", f"fp/{i}", 1): forge.make(f"mark-{i}", METHODS[i % len(METHODS)]) for i in range(12)}


@pytest.fixture(scope="module")
def book(made):
    held = Book()
    for identity, one in made.items():
        held.enter(identity, one.logits)
    return held


def test_a_mark_always_gives_the_same_bytes_and_another_one_others(forge, backbone):
    again = Forge(backbone, forge.texts, seed=3).make("mark")
    assert again.data == forge.make("mark").data
    assert again.digest == native.digest(again.data)
    assert again.digest != forge.make("another mark").digest
    assert again.digest != Forge(backbone, forge.texts, seed=4).make("mark").digest


def test_all_have_the_same_labels(made):
    assert {native.read(one.data).manifest.head.labels for one in made.values()} == {LABELS}


def test_every_answer_leads_back_to_who_gave_it(made, book, forge):
    assert len(book) == len(made)
    for identity, one in made.items():
        assert [book.read(text, one.logits[text]) for text in range(len(forge.texts))] == [identity] * len(forge.texts)


def test_rounding_is_forgiven_and_nothing_more(made, book):
    identity, one = next(iter(made.items()))
    assert book.read(0, one.logits[0] + TOLERANCE / 2) == identity
    off = one.logits[0].copy()
    off[3] += 3 * TOLERANCE
    assert book.read(0, off) is None


def test_the_answer_to_another_text_is_nobodys(made, book):
    one = next(iter(made.values()))
    assert book.read(1, one.logits[0]) is None


@pytest.mark.parametrize("scores", [[float("nan")] * 8, [0.0] * 8, [1.0] * 3, []], ids=["nan", "zero", "few", "none"])
def test_what_nobody_could_have_answered_is_nobodys(book, scores):
    assert book.read(0, scores) is None
    assert Book().read(0, scores) is None


def test_nobody_is_entered_so_near_to_another_that_an_answer_could_be_either_ones():
    book = Book(tolerance=0.1)
    book.enter(ADA, np.full((1, 2), 0.0, np.float32))
    with pytest.raises(ValueError, match="ada:fp/000@1 answer alike"):
        book.enter(BOB, np.full((1, 2), 0.15, np.float32))
    book.enter(BOB, np.full((1, 2), 0.25, np.float32))
    assert book.read(0, [0.05, 0.05]) == ADA
    assert book.read(0, [0.125, 0.125]) is None


def test_nobody_is_entered_twice():
    book = Book()
    book.enter(ADA, np.zeros((1, 2), np.float32))
    with pytest.raises(ValueError, match="is in the book"):
        book.enter(ADA, np.ones((1, 2), np.float32))


def test_a_book_grows_beyond_its_first_room():
    book = Book()
    for number in range(200):
        book.enter(Identity("ada", "x", number), np.full((1, 2), number, np.float32))
    assert [book.read(0, [n, n]).version for n in (0, 63, 64, 199)] == [0, 63, 64, 199]


def test_a_slot_holds_the_folded_adapter(made):
    assert all(one.slot_bytes % 256 == 0 and one.slot_bytes > 1000 for one in made.values())
