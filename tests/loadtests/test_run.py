"""Whole runs, client processes and all, against a service of one thread that answers as the real one does, honestly or not."""

import json
import os
import signal
from pathlib import Path

import pytest

from loadtests.__main__ import main
from loadtests.results.folder import read
from tests.loadtests.fake import FakeService, Served

SCENARIO = """
about = "a small load"
[adapters]
count = 4
texts = 2
[arrivals]
rate = 80
[requests]
rows = 2
[time]
seconds = 1.0
warmup_s = 0.2
probe_s = 0.5
"""


@pytest.fixture
def served(profile):
    fake = FakeService(profile)
    fake.metrics_for = "ck_1"
    with Served(fake) as held:
        yield held


@pytest.fixture
def run(served, tmp_path, monkeypatch):
    """The exit code and the record of a run against the fake; pictures are drawn only where they are looked for."""

    def go(*words, text=SCENARIO, drawn=False):
        if not drawn:
            monkeypatch.setattr("loadtests.run.draw_all", lambda run, folder: (Path(folder, "report.html"),))
        (tmp_path / "small.toml").write_text(text)
        (tmp_path / "key").write_text("ck_1")
        out = tmp_path / "out"
        given = ["run", str(tmp_path / "small.toml"), "--url", served.url, "--out", str(out), "--quiet"]
        # the machine may be busy with other things: how late a client may be is not what is tested here
        late = ["--set", 'thresholds=[{figure="client_lag_p99_ms", at_most=1e6}]']
        code = main([*given, "--key-file", str(tmp_path / "key"), *late, *words])
        return code, read(out) if (out / "run.json").exists() else None

    return go


def lines(tmp_path, name="requests.jsonl"):
    return [json.loads(line) for line in (tmp_path / "out" / name).read_text().splitlines()]


def test_an_honest_service_passes_and_leaves_its_report(run, served, tmp_path, capsys):
    code, found = run(drawn=True)
    assert code == 0
    assert found.figures["wrong"] == 0
    assert found.figures["requests"] == len(lines(tmp_path)) == sum(found.takes[0].all_verdicts.values())
    assert found.figures["tokens_per_s"] > found.figures["rows_per_s"] > found.figures["throughput"] > 0
    assert 0.4 < found.figures["hit_ratio"] < 0.9
    assert found.population["fingerprints"] == "asked alone before the load"
    assert found.takes[0].counted.hit_ratio["device"] == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "run.json", "requests.jsonl", "publishes.jsonl", "report.html", "time.png", "percentiles.png",
    }  # fmt: skip
    told = capsys.readouterr().out
    assert "passed" in told
    assert "holds" in told
    assert served.fake.keys == {"Bearer ck_1"}


def test_what_was_published_is_retired_unless_it_is_to_stay(run, served):
    run()
    assert len(served.fake.deleted) == 4
    assert set(served.fake.deleted) == set(served.fake.names)


def test_a_run_that_stops_early_clears_away_as_well(run, served):
    served.fake.alike = True
    assert run()[0] == 2
    assert set(served.fake.deleted) == set(served.fake.names)


def test_weights_that_can_not_be_set_are_told(run):
    code, found = run("--set", 'tenants=[{name="default", weight=2.0}]')
    assert code == 0
    assert any("weights were not set" in note for note in found.notes)


def test_what_is_to_stay_stays(run, served):
    assert run("--leave")[0] == 0
    assert served.fake.deleted == []


def test_the_library_itself_tells_what_is_right_where_the_backbone_is_at_hand(run, capsys):
    from tests.loadtests.conftest import TINY

    code, found = run("--backbone", str(TINY))  # the fake's answers are not the library's
    assert code == 1
    assert found.population["fingerprints"] == "computed by the library"
    assert found.figures["wrong"] == found.figures["requests"]
    assert "logits off by" in found.faults[0]


def test_a_wrong_answer_makes_the_run_fail(run, served):
    def drift(answer):
        answer["outputs"][1][0]["score"] += 0.001
        return answer

    served.fake.honest, served.fake.lie = 80, drift
    code, found = run()
    assert code == 1
    assert found.figures["wrong"] > 10
    assert any("logits off by 0.001" in fault for fault in found.faults)
    assert [check.figure for check in found.checks if not check.holds] == ["wrong"]


def test_a_threshold_that_does_not_hold_makes_the_run_fail(run):
    code, found = run("--set", 'thresholds=[{figure="throughput", at_least=1e4}]')
    assert code == 1
    assert "throughput" in [check.figure for check in found.checks if not check.holds]


def test_adapters_that_answer_alike_make_the_check_worthless_and_stop_the_run(run, served, capsys):
    served.fake.alike = True
    code, found = run()
    assert (code, found) == (2, None)
    assert "a mix-up would not show" in capsys.readouterr().err


def test_a_sweep_of_shares_of_a_peak_finds_the_peak_first(run, tmp_path):
    code, found = run(
        "--set", "arrivals.load=0.2", "--set", 'sweep={over="load", values=[0.1, 0.2]}', "--set", "time.rounds=2",
        "--clients", "2",
    )  # fmt: skip
    assert [(take.value, take.round) for take in found.takes] == [(0.1, 0), (0.2, 0), (0.2, 1), (0.1, 1)]
    assert found.takes[0].peak > 0
    assert found.takes[1].rate == pytest.approx(2 * found.takes[0].rate)
    assert found.takes[0].peak != found.takes[2].peak
    assert found.takes[0].client.processes == 2
    assert {line["step"] for line in lines(tmp_path)} == {0.1, 0.2}
    assert code in (0, 1)


def test_versions_are_published_beside_a_closed_loop(run, served, tmp_path):
    code, found = run(
        "--set", "arrivals.closed=4", "--set", "publishing={per_s=8.0, megabytes=0.05}", "--set", "time.phase_s=0.5",
    )  # fmt: skip
    assert code == 0
    assert len(found.takes[0].published) == len(lines(tmp_path, "publishes.jsonl")) == 4
    assert all(0.7 <= one.intended < 1.2 for one in found.takes[0].published)
    assert found.figures["publish_failed"] == 0
    assert found.figures["first_answer_p50_ms"] > 0
    assert found.takes[0].rate is None
    assert found.figures["busy_over_quiet_throughput"] > 0
    assert set(served.fake.deleted) == set(served.fake.names)
    assert any(name.startswith("hot-") for name in served.fake.deleted)


def test_several_tenants_need_a_key_each(run, tmp_path, capsys):
    two = ["--set", 'tenants=[{name="a"}, {name="b"}]']
    assert run(*two)[0] == 2
    assert "write one key alone, or lines" in capsys.readouterr().err
    keys = tmp_path / "keys"
    keys.write_text("a ck_a\nb ck_b\n")
    code, found = run(*two, "--key-file", str(keys))
    assert code == 0
    assert set(found.takes[0].tenants) == {"a", "b"}
    assert found.population["adapters"] == 8
    assert any("may not read the service's metrics" in note for note in found.notes)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--set", "arrivals.rate=-1"], "small.toml: arrivals.rate"),
        (["--set", 'sweep={over="device", values=[1, 2]}'], "only a service of our own has"),
        (["--url", "nowhere"], "--url nowhere"),
        (["--url", "http://127.0.0.1:1"], "GET /v1/limits"),
        (["--clients", "0"], "--clients"),
        (["--backbone", "nowhere"], "no config.json there"),
    ],
)
def test_a_run_that_can_not_be_made_says_why(run, words, says, capsys):
    assert run(*words) == (2, None)
    told = capsys.readouterr().err
    assert says in told
    assert "Traceback" not in told


def test_a_folder_that_holds_something_is_not_written_into(run, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert run()[0] == 2
    assert "give a new folder" in capsys.readouterr().err


def test_a_room_that_can_not_be_applied_is_told(run):
    code, found = run("--set", "room.device=10")
    assert code == 0
    assert any("cache room was not applied" in note for note in found.notes)


@pytest.fixture
def interruptible():
    """Interrupts reach this process also where whoever started it has switched them off, as a shell does in the background."""
    held = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, held)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_run_says_so_in_a_line_and_clears_away(run, served, capsys):
    def interrupt(answer):
        if served.fake.predictions == served.fake.honest + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return answer

    served.fake.honest, served.fake.lie = 40, interrupt
    assert run("--set", "time.seconds=60.0") == (130, None)
    told = capsys.readouterr().err
    assert told == "error: interrupted\n"
    assert set(served.fake.deleted) == set(served.fake.names)


def test_a_run_leaves_signals_as_they_were(run):
    before = signal.getsignal(signal.SIGTERM)
    run("--set", "arrivals.rate=-1")
    assert signal.getsignal(signal.SIGTERM) == before
