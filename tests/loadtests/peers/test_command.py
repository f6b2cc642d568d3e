import json
from dataclasses import replace

import pytest

from loadtests.peers import command
from loadtests.peers.command import PEERS, QUICK_ROUNDS, ROUNDS, main
from loadtests.peers.contenders import CHORUS, METHODS, PRECISIONS
from loadtests.peers.process import PeerFailed
from loadtests.peers.workload import BASE, MINILM
from tests.loadtests.peers.conftest import WRONG


@pytest.fixture
def ran(monkeypatch, outcome):
    """Settings of every run; each finds what `found` holds."""
    seen, found = [], [outcome]

    def run(settings, start):
        seen.append(settings)
        assert list(start.folder.iterdir()) == []
        return replace(found[0], backbone=settings.backbone)

    monkeypatch.setattr(command, "run", run)
    return seen, found


def test_all_take_part_on_both_backbones_unless_told_otherwise(ran, tmp_path):
    seen, _ = ran
    assert main(["--out", str(tmp_path)]) == 0
    assert [settings.backbone for settings in seen] == [MINILM, BASE]
    assert {one.library for one in seen[0].contenders} == {CHORUS, *PEERS}
    assert {one.precision for one in seen[0].contenders} == set(PRECISIONS)
    assert seen[0].methods == METHODS
    assert seen[0].rounds == ROUNDS


def test_what_is_chosen_is_what_runs(ran, tmp_path):
    seen, _ = ran
    words = (
        "--contender peft --precision bf16 --method lora --backbone bert-base --rounds 2 --rows 4 --threads 1 --seed 7"
    )
    assert main([*words.split(), "--out", str(tmp_path)]) == 0
    (settings,) = seen
    assert {one.library for one in settings.contenders} == {CHORUS, "peft"}
    assert {one.precision for one in settings.contenders} == {"bf16"}
    assert settings.methods == ("lora",)
    assert (settings.rounds, settings.rows, settings.threads, settings.seed) == (2, 4, 1, 7)


def test_quick_is_few_rounds_on_the_small_backbone(ran, tmp_path):
    seen, _ = ran
    assert main(["--quick", "--out", str(tmp_path)]) == 0
    assert [(settings.backbone, settings.rounds) for settings in seen] == [(MINILM, QUICK_ROUNDS)]


def test_json_picture_and_page_are_written(ran, tmp_path, capsys):
    main(["--quick", "--out", str(tmp_path / "new")])
    told = json.loads((tmp_path / "new" / "peers.json").read_text())
    assert told["settings"]["quick"] is True
    assert told["backbones"][0]["backbone"] == MINILM
    assert (tmp_path / "new" / "peers.png").stat().st_size > 1000
    assert "<h1>" in (tmp_path / "new" / "peers.html").read_text()
    assert f"written to {tmp_path / 'new'}" in capsys.readouterr().out


def test_a_ratio_below_its_bound_fails_only_where_one_is_to_judge(ran, tmp_path):
    assert main(["--quick", "--out", str(tmp_path)]) == 0  # the outcome misses one bound
    assert main(["--quick", "--judge", "--out", str(tmp_path)]) == 1


def test_where_nothing_is_to_judge_nothing_holds(ran, tmp_path, outcome, capsys):
    _, found = ran
    found[0] = replace(outcome, standings=tuple(one for one in outcome.standings if one.contender.library != "peft"))
    assert main(["--quick", "--judge", "--out", str(tmp_path)]) == 2
    assert "no ratio of these contenders has a bound" in capsys.readouterr().err


def test_wrong_answers_always_fail(ran, tmp_path, outcome):
    _, found = ran
    found[0] = replace(outcome, standings=(*outcome.standings[:-1], replace(outcome.standings[-1], agreement=WRONG)))
    assert main(["--quick", "--out", str(tmp_path)]) == 1


def test_a_library_that_can_not_run_is_told(monkeypatch, capsys, tmp_path):
    def fails(settings, start):
        raise PeerFailed("openvino", "no such instruction")

    monkeypatch.setattr(command, "run", fails)
    assert main(["--out", str(tmp_path / "none")]) == 4
    assert capsys.readouterr().err == "error: openvino: no such instruction\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--rows", "-3"], "--rows must be at least 1"),
        (["--threads", "4096"], "--threads 4096: there are"),
        (["--contender", "chorus"], "invalid choice"),
    ],
)
def test_a_usage_error_says_what_is_wrong(words, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert told in capsys.readouterr().err
