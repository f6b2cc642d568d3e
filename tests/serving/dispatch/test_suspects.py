"""Strikes, who is cleared, and who is convicted."""

from dataclasses import replace

import numpy as np
import pytest

from serving.dispatch import suspects as module
from serving.dispatch.ports import Conviction
from serving.dispatch.suspects import REMEMBERED_S, Suspects, fingerprint
from serving.request import Reduction
from tests.serving.test_affinity import Clock, ref, ticket


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def known(clock):
    made = Suspects(clock)
    yield made
    made.check()


def test_a_fingerprint_is_the_content_and_not_the_sender():
    one = ticket("x", "y", ident="t1")
    assert fingerprint(one) == fingerprint(replace(one, id="t2", deadline_ms=5.0, input_ids=one.input_ids.copy()))


@pytest.mark.parametrize(
    "change",
    [
        {"input_ids": np.array([1, 3], np.int32)},
        {"type_ids": np.array([0, 1], np.int32)},
        {"head": ref("z")},
        {"embedding": ref("z")},
        {"reduction": Reduction("logits")},
        {"composition": ticket("x").composition},
        {"word_starts": (0, 1, 2)},
        {"inserted": 1},
        {"pixels": np.zeros((1, 2, 3), np.uint8)},
    ],
)
def test_another_content_is_another_fingerprint(change):
    one = ticket("x", "y")
    assert fingerprint(one) != fingerprint(replace(one, **change))


def test_another_image_is_another_row():
    one, other = (replace(ticket("x"), pixels=np.full((1, 2, 3), value, np.uint8)) for value in (0, 1))
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(one) == fingerprint(replace(one, pixels=one.pixels.copy()))


def test_one_lost_replica_makes_a_suspect_and_two_a_convict(known):
    assert not known
    assert not known.strike("p", ["a"])
    assert (known.suspected("p"), known.convicted("p"), bool(known)) == (True, False, True)
    assert not known.strike("p", ["a"]), "one death is one strike, however many calls it ended"
    assert known.strike("p", ["b"], alone=True)
    assert (known.suspected("p"), known.convicted("p")) == (False, True)
    assert known.convictions(["p", "q"]) == {"p": Conviction(frozenset("ab"), proven=True)}


def test_an_answer_clears(known):
    known.strike("p", ["a"])
    known.clear("p")
    assert not known.suspected("p")
    assert not known.strike("p", ["b"]), "what it survived is forgotten"


def test_an_answer_clears_for_good_of_what_the_row_was_suspected_of(known, clock):
    known.strike("p", ["a"])
    known.clear("p")
    known.strike("p", ["a", "b"])
    assert known.strikes() == {"p": frozenset("b")}
    known.clear("p")
    known.strike("p", ["a", "b"])
    assert known.strikes() == {}
    clock.now += REMEMBERED_S
    known.strike("p", ["a"])
    assert known.strikes(["p"]) == {"p": frozenset("a")}


def test_a_suspicion_that_is_heard_of_again_ends_no_later(known, clock):
    known.strike("p", ["a"])
    clock.now += REMEMBERED_S - 1
    known.strike("p", ["a"])
    clock.now += 1
    assert not known.suspected("p")


def test_what_is_suspected_beyond_a_claim(known):
    known.strike("p", ["a", "b"])
    known.strike("q", ["a"])
    known.strike("r", ["c"])
    assert known.beyond({"p": frozenset("a"), "q": frozenset("ab")}) == {"p", "r"}
    assert known.beyond(known.strikes()) == frozenset()


def test_what_is_sent_to_a_replica_after_its_loss_was_heard_of_is_not_to_blame(known, clock):
    assert known.may_blame("a", 5.0), "it is not known to be lost"
    clock.now = 2.0
    known.learn("a")
    clock.now = 3.0
    known.learn("ab")
    assert [known.may_blame("a", left) for left in (1.0, 2.0, 2.5)] == [True, True, False]
    assert known.may_blame("b", 2.5)


def test_a_conviction_explains_its_losses_for_all_others(known):
    for print_ in ("p", "q", "r"):
        known.strike(print_, ["a"])
    known.strike("p", ["b"], alone=True)
    assert not known.suspected("q")
    assert not known.strike("q", ["b"]), "the second is explained as well"
    assert not known.suspected("q")
    known.strike("r", ["c"])
    assert known.strikes(["p", "q", "r"]) == {"r": frozenset("c")}


def test_other_losses_of_others_stay(known):
    known.strike("q", ["c"])
    known.strike("p", ["a"])
    known.strike("p", ["b"], alone=True)
    assert known.strikes(["q"]) == {"q": frozenset("c")}


def test_without_proof_nobody_is_convicted_on_the_spot(known):
    assert not known.strike("p", ["a", "b", "c"])
    assert (known.suspected("p"), known.convicted("p")) == (True, False)
    known.strike("q", ["a"])
    assert known.grave() == known.grave(["p", "q", "never heard of"]) == {"p"}
    assert known.grave(["q"]) == frozenset()


def test_a_grave_row_goes_free_where_proof_comes_before_the_sentence(known):
    known.strike("q", ["a", "b"])
    known.strike("r", ["b", "c", "d"])
    known.convict("p", Conviction(frozenset("ab"), proven=True))
    assert known.sentence(["q", "r"]) == {"r"}
    assert known.convictions(["q", "r"]) == {"r": Conviction(frozenset("cd"), proven=False)}
    assert not known.suspected("q")


def test_without_proof_every_row_that_was_on_board_of_both_is_refused_as_long(known, clock):
    for print_ in ("p", "q", "r"):
        known.strike(print_, ["a"])
    known.strike("p", ["b"])
    known.strike("q", ["b"])
    assert known.sentence(["p", "q", "r"]) == {"p", "q"}, "it may be either"
    assert (known.suspected("r"), known.convicted("r")) == (True, False), "and what it was on board of is not explained"
    clock.now += REMEMBERED_S - 1
    assert known.convicted("p") and known.convicted("q")
    assert not known.suspected("p"), "it is not even tried"


def test_a_conviction_that_is_heard_of_again_ends_no_later(known, clock):
    known.strike("p", ["a", "b"])
    known.sentence(["p"])
    (conviction,) = known.convictions().values()
    clock.now += REMEMBERED_S - 1
    known.convict("p", conviction)
    clock.now += 1
    assert not known.convicted("p")
    assert known.convictions() == {}


def test_proof_that_comes_later_frees_the_others(known):
    known.strike("r", ["a"])
    known.strike("p", ["a", "b"])
    known.convict("p", Conviction(frozenset("ab"), proven=True))
    assert not known.suspected("r")


def test_proof_lifts_sentences_whose_losses_it_explains_completely(known):
    for print_, losses in {"q": "ab", "r": "bc", "s": "ce"}.items():
        known.strike(print_, losses)
    known.sentence("qrs")
    known.convict("p", Conviction(frozenset("ab"), proven=True))
    assert known.convictions().keys() == {"p", "r", "s"}, "who explains the loss of c is not known"
    known.convict("o", Conviction(frozenset("cd"), proven=True))
    assert known.convictions().keys() == {"p", "o", "s"}, "two culprits explain it together"


def test_a_sentence_that_is_heard_of_after_the_proof_convicts_nobody(known):
    proven, unproven = (Conviction(frozenset("ab"), proven=proven) for proven in (True, False))
    known.convict("p", proven)
    known.convict("q", unproven)
    known.convict("p", unproven)
    assert known.convictions() == {"p": proven}
    assert known.culprits(["a", "c"]) == {"p"}


def test_proof_against_the_sentenced_row_itself_is_kept(known):
    known.strike("p", ["a", "b"])
    known.sentence(["p"])
    known.convict("p", Conviction(frozenset("ab"), proven=True))
    assert known.convictions() == {"p": Conviction(frozenset("ab"), proven=True)}


def test_all_is_forgotten_in_the_end(known, clock):
    known.strike("p", ["a"])
    known.strike("q", ["b", "c"], alone=True)
    clock.now += REMEMBERED_S
    assert not known
    assert not known.any_suspected
    assert not known.strike("q", ["b"]), "the old loss is no longer explained, and one strike is one"
    assert known.suspected("q")


def test_memory_is_bounded(known, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 3)
    for i in range(10):
        known.strike(f"p{i}", ["a"])
    assert [i for i in range(10) if known.suspected(f"p{i}")] == [7, 8, 9]
