import asyncio
import json
from contextlib import ExitStack

import pytest

from loadtests.micro import front
from loadtests.micro.front import EIGHT, ENGINE, HOP, LONE, ONE, Ground, Round, Scale
from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.fingerprints import Forge
from loadtests.proofs.firing import Volley
from loadtests.proofs.stage import Stage, StageFailed
from loadtests.proofs.volley import Question, Shot

SCALE = Scale(rounds=2, seconds=1.0, closed=4, singles=3, rate=10.0)


def shot(due, done, forward_ms=1.0, fault=""):
    return Shot(0, due, due, done, 200, fault, False, forward_ms)


def rounds(*rates):
    return [Round(dict(zip((ENGINE, EIGHT, ONE, HOP), found, strict=True)), 5.0, 2.0) for found in rates]


@pytest.fixture
def ground(tmp_path):
    class Engines:
        def run(self, seconds):
            return 100.0 * seconds

    eights = tuple(Question(f"/{n}", "", "{}", "d", ()) for n in range(3))
    stages = [Stage(tmp_path, tmp_path / name, port=port) for name, port in (("a", 1), ("b", 2))]
    return Ground(*stages, Engines(), eights, eights[:2], 0, 1e-4)


@pytest.fixture
def fired(monkeypatch):
    """The plans that were run; each is answered as it is told here."""
    plans = []
    plans_of = {"shots": [shot(0.1, 0.15), shot(0.3, 0.4), shot(0.5, 0.9, 4.0), shot(0.6, 1.2)]}

    async def fire(stage, plan):
        plans.append((stage.port, plan))
        return Volley(tuple(plans_of["shots"]), 0.0, 1.2, 0.1, 0.5)

    monkeypatch.setattr(front, "fire", fire)
    plans_of["plans"] = plans
    return plans_of


def test_a_rate_counts_what_is_answered_between_the_head_start_and_the_end():
    volley = Volley((shot(0, 0.1), shot(0, 0.25), shot(0.1, 0.9), shot(0.9, 1.1)), 0.0, 1.1, 0.1, 0.5)
    assert front.counted(volley, 1.0) == pytest.approx(2 / 0.8)


def test_each_contender_is_asked_what_it_is_for(ground, fired):
    found = asyncio.run(ground.round([LONE, HOP, ENGINE, ONE, EIGHT], SCALE))
    lone, hop, one, eight = fired["plans"]
    assert [port for port, _ in (lone, hop, one, eight)] == [1, 2, 1, 1]
    assert [due for due, _ in lone[1].at] == pytest.approx([n / 10 for n in range(10)])
    assert hop[1].closed == one[1].closed == (2, 1)
    assert eight[1].closed == (2, 1, 1)
    assert found.rows == pytest.approx({ENGINE: 100.0, HOP: 2 / 0.8, ONE: 2 / 0.8, EIGHT: 8 * 2 / 0.8})
    assert found.beside_ms == pytest.approx(396)  # of 49, 99, 396 and 599
    assert found.step_ms == 1.0


def test_a_wrong_answer_ends_the_measurement(ground, fired):
    fired["shots"] = [shot(0.3, 0.4), shot(0.3, 0.4, fault="wrong: another package answered")]
    with pytest.raises(StageFailed, match="another package"):
        asyncio.run(ground.round([ONE], SCALE))


def test_the_first_round_warms_up_and_whoever_went_first_goes_last_in_the_next():
    orders = []

    class Noting:
        async def round(self, names, scale):
            orders.append(tuple(names))
            return len(orders)

    assert front.measure(Noting(), SCALE) == [2, 3]
    assert orders[1] == (*orders[0][1:], orders[0][0])
    assert {frozenset(order) for order in orders} == {frozenset({ENGINE, EIGHT, ONE, HOP, LONE})}


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        (rounds((100, 90, 60, 20), (100, 80, 60, 19), (100, 86, 10, 90)), True),
        (rounds((100, 84, 60, 20)), False),
        (rounds((100, 90, 59, 20)), False),
        ([Round({ENGINE: 100, EIGHT: 90, ONE: 60, HOP: 20}, 6.1, 2.0)], False),
    ],
)
def test_figures_are_medians_of_ratios_within_a_round(found, holds):
    evidence = front.judged(found, 3)
    assert evidence.holds is holds
    assert [figure.limit for figure in evidence.figures] == [0.85, 3.0, 6.0]
    told = json.loads(json.dumps(evidence.json()))
    assert told["seed"] == 3
    assert told["seen"]["cores"] >= 1


def test_a_question_asks_for_raw_logits_and_knows_them(tmp_path):
    forge = Forge(tiny(tmp_path / "m", 0), TEXTS, 0)
    made = forge.make("x")
    one, two = front.questions(forge, made, [[0, 2], [1]])
    assert json.loads(one.body)["inputs"] == [TEXTS[0], TEXTS[2]]
    assert two.logits == (tuple(map(float, made.logits[1])),)
    assert one.digest == made.digest


@pytest.mark.parametrize(("beside", "code"), [(5.0, 0), (7.0, 1)])
def test_the_exit_code_says_whether_all_figures_hold(monkeypatch, tmp_path, capsys, beside, code):
    monkeypatch.setattr(front, "prepared", lambda *_: "ground")
    monkeypatch.setattr(
        front, "measure", lambda ground, scale: [Round({ENGINE: 10, EIGHT: 9, ONE: 6, HOP: 2}, beside, 2.0)]
    )
    words = ["--backbone", str(tmp_path), "--rounds", "1", "--json", str(tmp_path / "found.json")]
    assert front.main(words) == code
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "found.json").read_text())


def test_what_could_not_be_measured_is_an_error(monkeypatch, tmp_path, capsys):
    def fails(*_):
        raise StageFailed("the service did not start")

    monkeypatch.setattr(front, "prepared", fails)
    assert front.main(["--backbone", str(tmp_path)]) == 4
    assert "the service did not start" in capsys.readouterr().err


def test_more_cores_than_there_are_is_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        front.main(["--backbone", str(tmp_path), "--cores", "100000"])
    capsys.readouterr()


def test_everything_is_started_on_the_same_cores_and_nothing_is_left(monkeypatch, tmp_path):
    started, told = [], []

    class Staged(ExitStack):
        def __init__(self, stage):
            super().__init__()
            started.append(stage)
            self.callback(told.append, "stopped")

    async def published(stage, made):
        told.append(made.digest)

    monkeypatch.setattr(front, "staged", Staged)
    monkeypatch.setattr(front, "published", published)
    backbone = tiny(tmp_path / "m", 0)
    with ExitStack() as ending:
        ground = front.prepared(backbone, "float32", [0], SCALE, tmp_path, 0, ending)
        assert ground.engines.run(0.4) > 0
        assert [(stage.program, stage.engines, stage.cores) for stage in started] == [
            ("serving.cli", 1, {0}),
            ("loadtests.micro.hop", 1, {0}),
        ]
        processes = ground.engines._processes
    assert told[2:] == ["stopped", "stopped"]
    assert all(process.returncode is not None for process in processes)
