"""The vendored cases: every method, head, vocabulary, stack and mixture, alone and in random mixed batches."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.conformance.run import Options, run

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def report():
    return run(Options(DATA, mixed=25, seed=11))


def test_every_served_case_gives_the_outputs_of_its_library(report):
    wrong = [(case.id, case.reason) for case in report.cases if case.outcome == "failed"]
    assert wrong == []
    assert Counter(case.outcome for case in report.cases)["passed"] == 70


def test_the_errors_are_those_of_rounding(report):
    assert max(case.max_error for case in report.cases if case.outcome == "passed") < 1e-4


def test_nothing_is_refused(report):
    assert [(case.id, case.reason) for case in report.cases if case.outcome == "refused"] == []


def test_mixed_batches_give_every_row_its_own_answer_in_one_forward_pass(report):
    wrong = [(batch.index, batch.reason) for batch in report.batches if batch.outcome != "passed"]
    assert wrong == []
    assert len(report.batches) == 25
    for batch in report.batches:
        assert batch.forwards == 1
        assert 8 <= batch.rows <= 32
        assert batch.cases >= 4
        assert len(batch.methods) >= 2
        assert batch.compared > 0


def test_the_batches_mix_widely(report):
    methods = {method for batch in report.batches for method in batch.methods}
    assert len(methods) >= 8
    assert len({batch.backbone for batch in report.batches}) >= 2


def test_the_json_has_the_agreed_shape(report, tmp_path):
    path = tmp_path / "report.json"
    report.write(path)
    told = json.loads(path.read_text())
    assert told.keys() == {"cases", "batches"}
    assert all(case.keys() == {"id", "outcome", "reason", "max_error"} for case in told["cases"])


def test_the_data_stays_small():
    files = [path for path in DATA.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 10 * 2**20
