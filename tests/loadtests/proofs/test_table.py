"""The table, and the verb that runs what is in it."""

import json
import re
import signal

import pytest

from loadtests.__main__ import main
from loadtests.proofs.evidence import Evidence, Figure
from loadtests.proofs.stage import StageFailed
from loadtests.proofs.table import PROOFS, Proof
from serving.errors import NotReady


@pytest.fixture
def given(monkeypatch):
    """What the proof `it` was given; it holds where its seed is even."""
    seen = []

    def run(asked):
        assert asked.folder.is_dir()
        assert list(asked.folder.iterdir()) == []
        (asked.folder / "left").write_text("behind")
        seen.append(asked)
        return Evidence("it", asked.seed, (Figure("even", asked.seed % 2, "=", 0, "seeds"),), {"more": 1})

    monkeypatch.setattr("loadtests.prove.PROOFS", {"it": Proof("that it is so", run)})
    return seen


def test_every_proof_has_a_name_for_the_command_line_and_says_what_it_is_about():
    assert {"publish-kills", "churn", "freshness", "outages"} <= PROOFS.keys()
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in PROOFS)
    assert len({proof.about for proof in PROOFS.values()}) == len(PROOFS)


def test_a_promise_that_is_kept_is_told_with_the_machine(given, capsys):
    assert main(["prove", "it", "--seed", "4"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["proof"], told["holds"], told["seed"], told["quick"]) == ("it", True, 4, False)
    assert told["hardware"]["cores"] >= 1
    assert told["seconds"] >= 0
    assert not given[0].folder.exists()


def test_a_broken_one_ends_with_1(given, capsys):
    assert main(["prove", "it", "--seed", "3", "--quick"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["holds"], told["quick"]) == (False, True)
    assert given[0].quick


def test_the_evidence_is_written_and_the_folder_kept_where_that_is_asked_for(given, tmp_path, capsys):
    written, kept = tmp_path / "evidence.json", tmp_path / "a" / "folder"
    assert main(["prove", "it", "--json", str(written), "--keep", str(kept)]) == 0
    assert json.loads(written.read_text()) == json.loads(capsys.readouterr().out)
    assert (kept / "left").read_text() == "behind"
    assert given[0].folder == kept.resolve()


def test_a_folder_that_is_there_is_not_written_into(given, tmp_path):
    with pytest.raises(FileExistsError):
        main(["prove", "it", "--keep", str(tmp_path)])
    assert given == []


@pytest.mark.parametrize(
    "error",
    [StageFailed("no service"), NotReady("no model"), ExceptionGroup("in a task", [StageFailed("no service")])],
    ids=["stage", "service", "task"],
)
def test_what_could_not_start_is_neither_kept_nor_broken(monkeypatch, capsys, error):
    def run(_):
        raise error

    monkeypatch.setattr("loadtests.prove.PROOFS", {"it": Proof("that it is so", run)})
    assert main(["prove", "it"]) == 4
    assert capsys.readouterr().err.startswith("error: no ")


def test_a_proof_that_is_told_to_end_cleans_up_behind_itself(monkeypatch):
    left = []

    def run(asked):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            left.append(asked.folder)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("loadtests.prove.PROOFS", {"it": Proof("that it is so", run)})
    with pytest.raises(SystemExit) as ended:
        main(["prove", "it"])
    assert ended.value.code == 128 + signal.SIGTERM
    assert not left[0].exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_unknown_proof_is_a_mistake_of_the_command_line():
    with pytest.raises(SystemExit) as ended:
        main(["prove", "nothing"])
    assert ended.value.code == 2
