import numpy as np
import pytest

from loadtests.proofs.calls import Told
from loadtests.proofs.fingerprints import Book, Identity
from loadtests.proofs.judging import fault_of, is_wrong

ADA, BOB = Identity("ada", "x", 1), Identity("bob", "x", 1)


@pytest.fixture
def book():
    held = Book()
    held.enter(ADA, np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
    held.enter(BOB, np.array([[5.0, 6.0], [7.0, 8.0]], np.float32))
    return held


def told(*rows, name="x", version=1, status=200, **body):
    outputs = [[{"label": "a", "score": score} for score in row] for row in rows]
    answer = {"target": {"adapters": [{"name": name, "version": version}]}, "outputs": outputs, **body}
    return Told(status, answer, 0.0, 1.0, {})


def test_the_right_answer_has_no_fault(book):
    assert fault_of(told([1.0, 2.0]), ("x", 1), book, ADA) == ""
    assert fault_of(told([3.0, 4.0], [1.0, 2.0]), ("x", 1), book, ADA, [1, 0]) == ""


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (told([5.0, 6.0]), "wrong: another package answered"),
        (told([1.0, 2.5]), "wrong: another package answered"),
        (told([3.0, 4.0]), "wrong: another package answered"),
        (told([1.0, 2.0], version=2), "wrong: it names another version"),
        (told([1.0, 2.0], name="y"), "wrong: it names another version"),
        (told([1.0, 2.0], [1.0, 2.0]), "wrong: another number of outputs"),
        (told([1.0, 2.0], target={}), "wrong: an answer of another shape: KeyError('adapters')"),
    ],
    ids=["foreign", "off", "other-text", "version", "name", "more", "shape"],
)
def test_every_other_answer_is_wrong(book, answer, fault):
    found = fault_of(answer, ("x", 1), book, ADA)
    assert found == fault
    assert is_wrong(found)


def test_an_answer_of_somebody_who_is_not_known_is_wrong(book):
    assert is_wrong(fault_of(told([1.0, 2.0]), ("x", 1), book, None))


def test_a_refusal_is_a_fault_and_no_wrong_answer(book):
    found = fault_of(told(status=503, code="not_ready"), ("x", 1), book, ADA)
    assert found == "503 not_ready"
    assert not is_wrong(found)
