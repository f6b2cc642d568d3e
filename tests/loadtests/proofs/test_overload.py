import pytest

from loadtests.proofs.firing import Volley
from loadtests.proofs.given import Given
from loadtests.proofs.overload import DEADLINE_MS, WARM_S, Seen, _evidence, good, goodput, ratio
from loadtests.proofs.volley import Shot

LIMIT = DEADLINE_MS / 1000


def shot(done, *, due=None, status=200, fault="", retry_after=False, sent=None):
    due = done - 0.01 if due is None else due
    return Shot(0, due, due if sent is None else sent, done, status, fault, retry_after, 5.0)


GIVEN_UP = shot(105.0, status=504, fault="504 deadline_exceeded")


def volley(*shots, seconds=WARM_S + 10.0):
    return Volley(tuple(shots), 100.0, seconds, 0.1, 0.9)


def test_what_is_wrong_or_late_or_before_the_beginning_is_no_goodput():
    counted = shot(100.0 + WARM_S + 1)
    found = volley(
        counted,
        shot(100.0 + WARM_S - 1),
        shot(100.0 + WARM_S + 11),
        shot(100.0 + WARM_S + 5, due=100.0 + WARM_S + 4.9 - LIMIT),
        shot(100.0 + WARM_S + 5, fault="wrong: another package answered"),
        shot(100.0 + WARM_S + 5, status=503, fault="503 overloaded_now"),
    )
    assert goodput(found, WARM_S + 10.0) == 0.1
    assert [good(item) for item in found.shots] == [True, True, True, False, False, False]


def test_rounds_are_compared_within_themselves():
    assert ratio([{1.0: 10.0, 2.0: 9.0}, {1.0: 5.0, 2.0: 5.0}, {1.0: 8.0, 2.0: 4.0}], 2.0) == 0.9


def evidence(tmp_path, *, rounds=({1.0: 10.0, 2.0: 9.6, 5.0: 9.1},), more=(), refusals=1000):
    refusal = shot(105.0, status=503, fault="503 overloaded_now", retry_after=True)
    seen = Seen(list(rounds), {1.0: [volley(shot(105.0))]})
    seen.volleys |= {factor: [volley(shot(105.0), *[refusal] * refusals, *more)] for factor in (2.0, 5.0)}
    return [figure.name for figure in _evidence(Given(tmp_path), seen).broken]


def test_a_service_that_keeps_its_goodput_and_refuses_at_once_keeps_its_promise(tmp_path):
    assert evidence(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"rounds": [{1.0: 10.0, 2.0: 9.4, 5.0: 8.9}]}, ["goodput at 2 times the peak", "goodput at 5 times the peak"]),
        (
            {"more": [shot(105.0, due=104.9, status=429, fault="429 overloaded", retry_after=True)] * 20},
            ["refusals at 2 times the peak, p99", "refusals at 5 times the peak, p99"],
        ),
        ({"more": [shot(105.0, status=503, fault="503 overloaded_now")]}, ["refusals without Retry-After"]),
        ({"more": [shot(105.0, fault="wrong: another package answered")]}, ["wrong answers, and none at all"]),
        ({"more": [shot(105.0, status=0, fault="TimeoutError")]}, ["wrong answers, and none at all"]),
        ({"more": [shot(105.0, status=500, fault="500 internal_error")]}, ["wrong answers, and none at all"]),
        ({"more": [shot(105.0, sent=105.0)] * 20}, ["client late, p99"]),
        ({"refusals": 14}, ["refusals"]),
        ({"more": [GIVEN_UP] * 12}, ["late at 2 times the peak", "late at 5 times the peak"]),
        ({"more": [shot(105.0, due=104.9 - LIMIT)] * 12}, ["late at 2 times the peak", "late at 5 times the peak"]),
    ],
    ids=[
        "goodput",
        "slow-refusal",
        "no-retry-after",
        "wrong",
        "no-answer",
        "server-error",
        "client",
        "few-refusals",
        "given-up-late",
        "answered-late",
    ],
)
def test_each_breach_breaks_its_figure(tmp_path, change, broken):
    assert evidence(tmp_path, **change) == broken


def test_a_few_deadlines_may_pass(tmp_path):
    assert evidence(tmp_path, more=[GIVEN_UP] * 10) == []
