"""The decoding of answers, the figures, and a small churn on a real service."""

from collections import Counter

import pytest

from loadtests.proofs import churn
from loadtests.proofs.calls import Told
from loadtests.proofs.churn import ACTS, DEVICE_ROOM, Size, Tally, evidence, fault_in, room
from loadtests.proofs.given import Given
from loadtests.proofs.population import Population


@pytest.fixture(scope="module")
def population(forge):
    return Population(forge, 6)


@pytest.fixture(scope="module")
def made(population):
    """Two versions of two names of two tenants, by (tenant, name, version)."""
    found = {}
    for name in (population.names[0], population.names[1], population.names[3]):
        for _ in range(2):
            found[name.tenant, name.name, name.last + 1] = population.forge(name)
            name.last += 1
    return found


def told(*rows, name="fp/000", version=1):
    outputs = [[{"label": "x", "score": float(score)} for score in row] for row in rows]
    return Told(200, {"target": {"adapters": [{"name": name, "version": version}]}, "outputs": outputs}, 0, 1, {})


def judged(population, made, *who, right=(1,), said=1, chosen=(0,), name="fp/000"):
    """The fault of an answer of these to a request for `ada:fp/000`."""
    rows = [made[one].logits[text] for one, text in zip(who, chosen, strict=True)]
    return fault_in(told(*rows, version=said, name=name), population, population.names[0], set(right), list(chosen))


ADA = ("ada", "fp/000", 1)


def test_a_version_that_was_current_is_right(population, made):
    assert judged(population, made, ADA) == ""
    assert judged(population, made, ("ada", "fp/000", 2), right=(1, 2), said=2) == ""
    assert judged(population, made, ADA, ADA, chosen=(2, 0)) == ""


@pytest.mark.parametrize(
    ("who", "more", "fault"),
    [
        ([("bob", "fp/000", 1)], {}, "another tenant's adapter"),
        ([("ada", "fp/001", 1)], {}, "another adapter"),
        ([("ada", "fp/000", 2)], {"said": 2}, "a version that was not current"),
        ([ADA], {"said": 2}, "the answer names another version"),
        ([ADA], {"name": "fp/001"}, "the answer names another version"),
        ([ADA, ("ada", "fp/000", 2)], {"chosen": (0, 1), "right": (1, 2)}, "two answered one request"),
    ],
    ids=["tenant", "name", "stale", "says-otherwise", "says-other-name", "two"],
)
def test_every_other_answer_is_wrong(population, made, who, more, fault):
    assert judged(population, made, *who, **more) == fault


def test_an_answer_that_nobody_gives_is_wrong(population, made):
    logits = made[ADA].logits
    off = told(logits[0] + 1)
    assert fault_in(off, population, population.names[0], {1}, [0]) == "nobody answers so"
    half = told(logits[0], logits[1] + 1)
    assert fault_in(half, population, population.names[0], {1}, [0, 1]) == "two answered one request"
    short = told(logits[0])
    assert fault_in(short, population, population.names[0], {1}, [0, 1]) == "another number of outputs"


MOVED = {
    "acts": Counter({"publish": 2, "move": 1, "move through the gate": 1, "retire": 1, "retire all": 1, "preload": 2}),
    "tiers": Counter(device=2, host=2, disk=2),
    "evictions": 4,
}


def broken(tmp_path, *, planted=None, **changes):
    """The figures that do not hold of a run in which just enough moved."""
    size, caught = Size(10, 3, 5, 2, 4), Tally(right=4, wrong=Counter({"another adapter": 1}))
    honest = Tally(**{"right": 10, **MOVED, **changes})
    told = evidence(Given(tmp_path), size, honest, {"a fault": planted or caught})
    return [figure.name for figure in told.broken]


def test_the_proof_fails_for_a_wrong_answer_and_for_a_fault_that_nobody_saw(tmp_path):
    assert broken(tmp_path) == []
    assert broken(tmp_path, right=9) == ["answers"]
    assert broken(tmp_path, wrong=Counter({"another adapter": 1})) == ["wrong answers"]
    assert broken(tmp_path, failed=Counter({"503": 1})) == ["failed requests"]
    assert broken(tmp_path, failed_acts=Counter({"move: 500": 1})) == ["failed acts of operators"]
    assert broken(tmp_path, planted=Tally(right=5)) == ["wrong answers with a fault"]


@pytest.mark.parametrize("kind", ACTS)
def test_a_kind_of_act_that_hardly_took_place_proves_nothing(tmp_path, kind):
    few = {act: 0 if act in ACTS[kind] else count for act, count in MOVED["acts"].items()}
    assert broken(tmp_path, acts=Counter({**few, ACTS[kind][-1]: 1})) == [kind]


def test_answers_without_loads_and_evictions_prove_nothing(tmp_path):
    assert broken(tmp_path, tiers=Counter(device=5, host=1)) == ["answers that a load came before"]
    assert broken(tmp_path, evictions=3) == ["evictions from the devices"]


def test_there_is_room_for_so_many_of_mean_size_and_always_for_the_largest():
    assert room([100, 300], DEVICE_ROOM) == DEVICE_ROOM * 200
    assert room([100, 100, 700], 1) == 700


@pytest.mark.ray
def test_a_small_churn_on_a_real_service_is_right(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(churn, "DEVICE_ROOM", 5)
    tally = churn._stage_and_churn(Given(tmp_path, seed=2), backbone, 24, 300, fault=None)
    assert (tally.right, tally.wrong, tally.failed, tally.failed_acts) == (300, {}, {}, {})
    assert {"device", "host"} <= tally.tiers.keys()
    assert tally.acts.total() > 0
    assert tally.evictions > 0
