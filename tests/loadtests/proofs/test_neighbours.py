import random
from collections import Counter
from dataclasses import replace

import pytest

from loadtests.proofs.firing import Volley
from loadtests.proofs.given import Given
from loadtests.proofs.neighbours import (
    CASES,
    DEADLINE_MS,
    FLOOD,
    LOAD,
    ROWS,
    WARM_S,
    House,
    Seen,
    Size,
    _evidence,
    _plan,
    shares,
    slower,
)
from loadtests.proofs.stage import Stage
from loadtests.proofs.volley import Question, Shot
from loadtests.proofs.workload import LONGEST, SHORT

SIZE = Size(1, 10.0, 20.0, 3)


def question(name):
    return Question("/v1/predict", name, "{}", name, ())


def shot(number, done, *, seconds=0.1, fault="", late=0.0, forward_ms=40.0):
    due = done - seconds
    return Shot(number, due, due + late, done, 200 if not fault else 503, fault, False, forward_ms)


WRONG = shot(2, 6.0, fault="wrong: another package answered")


def test_one_step_is_taken_off_what_was_waited_beside_the_neighbour():
    assert slower([0.2] * 100, [0.1] * 100, 0.05) == pytest.approx(1.5)


def test_shares_are_of_the_right_answers_of_a_time():
    shots = [shot(0, 1.5), shot(1, 1.5), shot(1, 1.9), shot(1, 2.5), shot(0, 0.5), shot(0, 1.6, fault="503 x")]
    assert shares(Volley(tuple(shots), 0.0, 3.0, 0.0, 0.0), 1.0, 2.0) == {0: 1 / 3, 1: 2 / 3}


def house(tmp_path):
    one, two = (question("b0"), question("b1")), tuple(map(question, "cde"))
    heavies = tuple(map(question, ("h1", "h2", "h4")))
    return House(Stage(tmp_path, tmp_path), one, (question("a"),), two, (question("long"),), heavies)


@pytest.mark.parametrize(("part", "rows"), [("flood", ROWS), ("cold adapters", ROWS), ("longest rows", 1)])
def test_the_neighbour_asks_as_much_beside_a_case_as_alone_and_a_adds_its_own(tmp_path, part, rows):
    at_home, rate = house(tmp_path), 200.0
    alone = _plan(at_home, "alone", rate, 60.0, random.Random(1))
    beside = _plan(at_home, part, rate, 60.0, random.Random(1))
    assert [item for item in beside.at if item[1] < 2] == list(alone.at)
    assert len(alone.at) / 60.0 == pytest.approx(LOAD * rate, rel=0.1)
    added = Counter(number for _, number in beside.at if number >= 2)
    assert len(added) == len(beside.questions) - 2
    assert max(added.values()) - min(added.values()) <= 1
    asked = sum(added.values()) * rows / 60.0
    wanted = {
        "flood": FLOOD * rate / 2,
        "cold adapters": FLOOD * rate / 2,
        "longest rows": FLOOD * rate / 2 * (SHORT + 2) / (LONGEST + 2),
    }[part]
    assert asked == pytest.approx(wanted, rel=0.02)
    assert list(beside.at) == sorted(beside.at)


def evidence(tmp_path, *, beside=0.15, counts=(10, 20, 40), fault="", late=0.0, others=None):
    seen, others = Seen(rows_per_s=100.0), [shot(2, 6.0)] if others is None else others
    for part in ("alone", *CASES):
        seconds = 0.1 if part == "alone" else beside
        seen.mine[part] = [shot(0, 5.0, seconds=seconds, late=late) for _ in range(100)]
        seen.forward_ms[part] = [40.0]
    seen.mine["flood"].append(shot(0, 5.0, fault=fault))
    for part in CASES:
        seen.volleys[part] = [Volley((*seen.mine[part], *others), 0.0, 15.0, 0.1, 0.9)]
    answers = [shot(number, WARM_S + 1.0) for number, count in enumerate(counts) for _ in range(count)]
    seen.backlog = Volley(tuple(answers), 0.0, 30.0, 0.1, 0.9)
    return [figure.name for figure in _evidence(Given(tmp_path), seen, SIZE).broken]


def test_what_a_is_refused_is_no_fault_of_the_service(tmp_path):
    assert evidence(tmp_path, others=[shot(2, 6.0), shot(2, 6.0, fault="503 overloaded_now")]) == []


def test_a_neighbour_that_hardly_waits_longer_and_exact_shares_keep_the_promise(tmp_path):
    assert evidence(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ({"beside": 0.20}, [f"p99 beside {case}, less a step, over p99 alone" for case in CASES]),
        ({"fault": "503 overloaded_now"}, ["errors of the neighbour"]),
        ({"counts": (10, 20, 30)}, ["shares of weights 1, 2 and 4: largest miss"]),
        ({"counts": (0, 20, 40)}, ["shares of weights 1, 2 and 4: largest miss"]),
        ({"late": 0.01}, ["client late, p99"]),
        ({"others": []}, ["cases in which A was answered nothing"]),
        ({"others": [shot(2, 6.0, fault="503 overloaded_now")]}, ["cases in which A was answered nothing"]),
        ({"others": [shot(2, 6.0), replace(WRONG, status=200)]}, ["wrong answers, and none at all"]),
        ({"others": [shot(2, 6.0), replace(WRONG, status=0)]}, ["wrong answers, and none at all"]),
    ],
)
def test_each_breach_breaks_its_figure(tmp_path, change, broken):
    assert evidence(tmp_path, **change) == broken


def test_nobody_is_refused_for_a_deadline_of_its_own():
    assert DEADLINE_MS >= 30_000
