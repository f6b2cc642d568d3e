import pytest

from loadtests.__main__ import main
from loadtests.compare import bound, verdict, worse
from loadtests.results.comparing import Line
from loadtests.results.folder import write
from tests.loadtests.fake import plain_run, sweep_run


@pytest.fixture
def runs(tmp_path, monkeypatch):
    for name, run in {"fast": plain_run(0.01), "slow": plain_run(0.02), "sweep": sweep_run()}.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name, run)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")


def test_two_runs_stand_side_by_side(runs, capsys):
    assert main(["compare", "fast", "slow"]) == 0
    told = capsys.readouterr().out
    (line,) = [line for line in told.splitlines() if line.strip().startswith("p50_ms")]
    assert "2.000" in line
    assert "worse" in line


def test_two_steps_of_a_run_stand_side_by_side(runs, capsys):
    assert main(["compare", "sweep@0.5", "sweep@1.5"]) == 0
    told = capsys.readouterr().out
    assert "sweep@0.5" in told
    assert "throughput" in told


@pytest.mark.parametrize(
    ("sides", "within", "code"),
    [
        (("fast", "slow"), "p50_ms=0.5", 1),
        (("fast", "slow"), "p50_ms=1.5", 0),
        (("slow", "fast"), "p50_ms=0.1", 0),
        (("fast", "slow"), "throughput=0.05", 0),
        (("fast", "slow"), "knee_rate=0.1", 1),
    ],
)
def test_a_comparison_can_be_a_check(runs, sides, within, code):
    assert main(["compare", *sides, "--within", within]) == code


@pytest.mark.parametrize("words", [["fast", "none"], ["fast", "sweep@9"], ["fast", "slow", "--within", "p42=1"]])
def test_what_can_not_be_compared_is_told(runs, words, capsys):
    assert main(["compare", *words]) == 2
    assert "error: " in capsys.readouterr().err


def line(figure, ratio, low=None, high=None):
    return Line(figure, 1.0, ratio, ratio, low, high)


def test_a_difference_that_the_spread_explains_is_none():
    assert not worse(line("p99_ms", 1.3, 0.9, 1.6), 0.1)
    assert worse(line("p99_ms", 1.3, 1.2, 1.6), 0.1)
    assert not worse(line("throughput", 0.8, 0.7, 0.95), 0.1)
    assert worse(line("throughput", 0.8, 0.7, 0.85), 0.1)
    assert worse(line("p90_ms", 1.2), 0.1)
    assert worse(Line("wrong", 0.0, 2.0, None, None, None), 0.1)
    assert not worse(Line("wrong", 0.0, 0.0, None, None, None), 0.1)


@pytest.mark.parametrize(
    ("figure", "a", "b", "expected"),
    [
        ("throughput", 0.0, 50.0, False),
        ("knee_rate", 0.0, 50.0, False),
        ("p99_ms", None, 5.0, False),
        ("p99_ms", 5.0, None, True),
        ("p99_ms", 0.0, 5.0, True),
    ],
)
def test_beside_nothing_the_direction_decides(figure, a, b, expected):
    assert worse(Line(figure, a, b, None, None, None), 0.1) is expected


def test_better_and_worse_are_told_where_the_spread_tells():
    assert "better" in verdict(line("p99_ms", 0.5, 0.4, 0.6))
    assert "worse" in verdict(line("throughput", 0.5, 0.4, 0.6))
    assert verdict(line("p99_ms", 0.9, 0.7, 1.1)) == ""
    assert verdict(line("rows_per_batch", 0.5, 0.4, 0.6)) == ""


def test_only_figures_with_a_better_side_can_be_checked():
    assert bound("p99_ms=0.1") == ("p99_ms", 0.1)
    for word in ("rows_per_batch=0.1", "p99_ms=x", "p99_ms", "p99_ms=nan", "p99_ms=inf", "p99_ms=-1"):
        with pytest.raises(ValueError):
            bound(word)
