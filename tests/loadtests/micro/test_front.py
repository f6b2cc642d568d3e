import json
from types import SimpleNamespace

import pytest

from loadtests.micro import front
from loadtests.micro.asking import Asked, Work
from loadtests.micro.front import BESIDE, CHORUS, EIGHT, ENGINE, HOP, ONE, PLAIN, STEP, Scale
from loadtests.proofs.backbones import tiny
from loadtests.proofs.stage import StageFailed

SCALE = Scale(rounds=2, seconds=0.4, closed=4, singles=3, rate=10.0)


def service(*rates, beside=5.0):
    return [{ENGINE: alone, EIGHT: asked, BESIDE: beside, STEP: 2.0} for alone, asked in rates]


def hops(*rates):
    return [{ONE: own, HOP: plain} for own, plain in rates]


@pytest.fixture
def started(monkeypatch):
    """What is asked of services that are not there."""
    told = []

    class Fake:
        def __init__(self, work, folder, cores, program, ending):
            self.program = program
            told.append((program, cores))
            ending.callback(told.append, "stopped")

        def rows(self, *asked):
            told.append((self.program, asked))
            return 80.0

        def alone(self, *asked):
            told.append((self.program, asked))
            return 4.0, 1.0

    monkeypatch.setattr(Asked, "started", Fake)
    return told


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return Work.of(tiny(tmp_path_factory.mktemp("backbone") / "m", 0), "float32", 0)


def test_the_first_round_warms_up_and_whoever_went_first_goes_last_in_the_next():
    orders = []
    contenders = [lambda name=name: orders.append(name) or {name: len(orders)} for name in "abc"]
    assert front.interleaved(contenders, 2) == [{"b": 4, "c": 5, "a": 6}, {"c": 7, "a": 8, "b": 9}]
    assert "".join(orders) == "abcbcacab"


def test_engines_compute_the_rows_of_the_requests_without_a_service(started, work, tmp_path):
    found = front.whole(work, [0], SCALE, tmp_path)
    assert [set(part) for part in found] == [{ENGINE, EIGHT, BESIDE, STEP}] * 2
    assert all(part[ENGINE] > 0 and part[EIGHT] == 80.0 and part[BESIDE] == 4.0 for part in found)
    assert started[0] == (CHORUS, [0])
    assert (CHORUS, (8, 4, 0.4)) in started
    assert (CHORUS, (10.0, 0.4)) in started
    assert started[-1] == "stopped"


def test_both_ways_are_asked_the_same(started, work, tmp_path):
    assert front.hops(work, [0], SCALE, tmp_path) == [{ONE: 80.0, HOP: 80.0}] * 2
    assert started[:2] == [(CHORUS, [0]), (PLAIN, [0])]
    assert started[2:-2] == [(name, (1, 3, 0.4)) for name in (CHORUS, PLAIN, PLAIN, CHORUS, CHORUS, PLAIN)]


@pytest.mark.parametrize(
    ("whole", "hop", "holds"),
    [
        (service((100, 90), (100, 80), (100, 86)), hops((60, 20), (60, 19), (10, 90)), True),
        (service((100, 84)), hops((60, 20)), False),
        (service((100, 90)), hops((59, 20)), False),
        (service((100, 90), beside=6.1), hops((60, 20)), False),
    ],
)
def test_figures_are_medians_of_ratios_within_a_round(whole, hop, holds):
    evidence = front.judged(whole, hop, 3)
    assert evidence.holds is holds
    assert [figure.limit for figure in evidence.figures] == [0.85, 3.0, 6.0]
    told = json.loads(json.dumps(evidence.json()))
    assert told["seed"] == 3
    assert told["seen"]["cores"] >= 1
    assert told["seen"]["medians"].keys() == {ENGINE, EIGHT, BESIDE, STEP, ONE, HOP}


@pytest.mark.parametrize(("beside", "code"), [(5.0, 0), (7.0, 1)])
def test_the_exit_code_says_whether_all_figures_hold(monkeypatch, tmp_path, capsys, beside, code):
    seen = []

    def work(backbone, dtype, seed):
        seen.append((backbone.name, dtype, seed))
        return SimpleNamespace(backbone=backbone)

    monkeypatch.setattr(Work, "of", work)
    monkeypatch.setattr(front, "whole", lambda *_: service((10, 9), beside=beside))
    monkeypatch.setattr(front, "hops", lambda *_: hops((6, 2)))
    words = ["--backbone", str(tmp_path / "real"), "--dtype", "bfloat16", "--json", str(tmp_path / "found.json")]
    assert front.main(words) == code
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "found.json").read_text())
    assert seen == [("real", "bfloat16", 0), ("tiny", "float32", 0)]


def test_what_could_not_be_measured_is_an_error(monkeypatch, tmp_path, capsys):
    def fails(*_):
        raise StageFailed("the service did not start")

    monkeypatch.setattr(front, "whole", fails)
    assert front.main(["--backbone", str(tiny(tmp_path / "m", 0))]) == 4
    assert "the service did not start" in capsys.readouterr().err


def test_more_cores_than_there_are_is_a_usage_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        front.main(["--backbone", str(tmp_path), "--cores", "100000"])
    capsys.readouterr()
