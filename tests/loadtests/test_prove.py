import pytest

from loadtests.__main__ import main
from loadtests.proofs.stage import StageFailed
from loadtests.proofs.table import PROOFS, Proof


def test_every_proof_is_a_choice(capsys):
    with pytest.raises(SystemExit):
        main(["prove", "--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in PROOFS)


def test_a_proof_that_can_not_run_is_told(monkeypatch, capsys):
    def run(_):
        raise StageFailed("no service")

    monkeypatch.setattr("loadtests.prove.PROOFS", {"it": Proof("that it is so", run)})
    assert main(["prove", "it"]) == 4
    assert "error: no service" in capsys.readouterr().err


def test_an_unknown_proof_is_a_usage_error():
    with pytest.raises(SystemExit) as left:
        main(["prove", "nothing"])
    assert left.value.code == 2
