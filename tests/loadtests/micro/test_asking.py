import json
from contextlib import ExitStack

import pytest

from loadtests.micro import asking
from loadtests.micro.asking import NAME, Asked, Work
from loadtests.proofs.backbones import tiny
from loadtests.proofs.firing import Volley
from loadtests.proofs.stage import Stage, StageFailed
from loadtests.proofs.volley import Shot


def shot(due, done, forward_ms=1.0, fault=""):
    return Shot(0, due, due, done, 200, fault, False, forward_ms)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Work.of(tiny(tmp_path_factory.mktemp("backbone") / "m", 0), "float32", 0)


@pytest.fixture
def fired(monkeypatch):
    """The plans that were run, and what came of each."""
    told = {"plans": [], "shots": [shot(0.1, 0.15), shot(0.3, 0.4), shot(0.5, 0.9, 4.0), shot(0.6, 1.2)]}

    async def fire(stage, plan):
        told["plans"].append((stage.port, plan))
        return Volley(tuple(told["shots"]), 0.0, 1.2, 0.1, 0.5)

    monkeypatch.setattr(asking, "fire", fire)
    return told


@pytest.fixture
def asked(work, tmp_path):
    return Asked(Stage(work.backbone, tmp_path, port=7), work, 3)


def test_a_rate_counts_what_is_answered_between_the_head_start_and_the_end():
    volley = Volley((shot(0, 0.1), shot(0, 0.25), shot(0.1, 0.9), shot(0.9, 1.1)), 0.0, 1.1, 0.1, 0.5)
    assert asking.counted(volley, 1.0) == pytest.approx(2 / 0.8)


def test_a_question_asks_for_raw_logits_and_knows_them(work):
    eights, ones = work.questions(8), work.questions(1)
    assert (len(eights), len(ones)) == (8, 64)
    body = json.loads(eights[1].body)
    assert body["inputs"] == list(work.forge.texts[8:16])
    assert (body["adapters"], body["parameters"]["function_to_apply"]) == ([NAME], "none")
    assert [question.logits[0] for question in ones[8:16]] == list(eights[1].logits)
    assert eights[0].digest == work.made.digest


def test_texts_are_of_many_lengths_that_the_backbone_reads(work):
    tokens = [len(work.forge.ids(i)) for i in range(64)]
    assert max(tokens) <= 48
    assert len(set(tokens)) > 10


def test_so_many_requests_are_under_way_as_is_said(asked, fired):
    assert asked.rows(8, 10, 1.0) == pytest.approx(8 * 2 / 0.8)
    ((port, plan),) = fired["plans"]
    assert (port, plan.closed, plan.seconds) == (7, (2, 2, 1, 1, 1, 1, 1, 1), 1.0)
    assert (plan.core, plan.tolerance) == (3, asking.OFF["float32"])


def test_a_lone_request_is_told_without_its_step(asked, fired):
    assert asked.alone(10.0, 1.0) == pytest.approx((396, 1.0))  # of 49, 99, 396 and 599
    ((_, plan),) = fired["plans"]
    assert [due for due, _ in plan.at] == pytest.approx([n / 10 for n in range(10)])
    assert len(plan.questions) == 1


def test_a_wrong_answer_ends_the_measurement(asked, fired):
    fired["shots"] = [shot(0.3, 0.4), shot(0.3, 0.4, fault="wrong: another package answered")]
    with pytest.raises(StageFailed, match="another package"):
        asked.rows(1, 1, 1.0)


@pytest.mark.parametrize("ok", [True, False])
def test_a_service_is_started_on_its_cores_and_has_the_adapter(monkeypatch, work, tmp_path, ok):
    events = []

    class Staged(ExitStack):
        def __init__(self, stage):
            super().__init__()
            events.append((stage.program, stage.engines, stage.cores, stage.options))
            self.callback(events.append, "stopped")

    class Told:
        why = "no"

    async def publish(session, name, data):
        events.append((name, data))
        Told.ok = ok
        return Told

    monkeypatch.setattr(asking, "staged", Staged)
    monkeypatch.setattr(asking, "publish", publish)
    with ExitStack() as ending:
        if ok:
            assert Asked.started(work, tmp_path, [0, 2], "program", ending).core == 2
        else:
            with pytest.raises(StageFailed, match="front: no"):
                Asked.started(work, tmp_path, [0, 2], "program", ending)
    expected = ("program", 2, {0, 2}, ("--dtype", "float32"))
    assert events == [expected, (NAME, work.made.data), "stopped"]
