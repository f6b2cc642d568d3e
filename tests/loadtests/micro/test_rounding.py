import json

import pytest

from loadtests.micro import rounding
from loadtests.micro.promises import METHODS
from tests.loadtests.conftest import TINY


def test_every_method_is_measured_and_told(capsys):
    code = rounding.main(["--backbone", str(TINY), "--rows", "3"])
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["method"] for line in told] == list(METHODS)
    assert all(0.9 < line["least_cosine"] <= line["mean_cosine"] <= 1 for line in told)
    assert all(line["least_cosine"] < 1 for line in told), "bfloat16 rounds"
    assert all(0 < line["logits"] < 0.3 for line in told)
    assert code == (0 if all(line["holds"] for line in told) else 1)


def test_a_method_that_turns_the_states_too_far_fails(monkeypatch, capsys):
    monkeypatch.setattr(rounding, "LEAST", 1.1)
    assert rounding.main(["--backbone", str(TINY), "--rows", "1", "--method", "lora"]) == 1
    assert json.loads(capsys.readouterr().out)["holds"] is False


def test_an_unknown_method_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        rounding.main(["--method", "magic"])
    assert stopped.value.code == 2
    assert "unknown method magic" in capsys.readouterr().err
