import json
import math
from dataclasses import replace

from loadtests.peers import report
from loadtests.proofs.evidence import Figure
from tests.loadtests.peers.conftest import WRONG

GOOD = Figure("a ratio", 3.5, ">=", 3.0, "ratio")
VOID = Figure("another", math.nan, ">=", 3.0, "ratio")


def test_a_line_shows_the_time_the_rate_and_both_ratios(outcome):
    (line,) = [line for line in report.lines(outcome) if line.startswith("fp32 PEFT")]
    assert line.startswith("fp32 PEFT mixed batch, LoRA ")
    assert line.split()[5:] == ["4000.0", "8.0", "3.00x", "(3.00", "to", "3.50)", "8.00x", "(7.00", "to", "10.00)"]


def test_chorus_itself_has_no_ratio_and_notes_are_shown(outcome):
    told = report.lines(outcome)
    assert any("Chorus packed, backbone only" in line and line.endswith("-") for line in told)
    assert any("OpenVINO padded, backbone only (<notes>)" in line for line in told)
    assert told[0] == "minilm: 32 rows, 1000 tokens"


def test_wrong_answers_are_called_so(outcome):
    worse = replace(outcome, standings=tuple(replace(one, agreement=WRONG) for one in outcome.standings))
    assert sum("WRONG: off by 3, cosine 0.2000" in line for line in report.lines(worse)) == len(worse.standings)


def test_the_verdict_has_a_line_per_figure():
    assert report.verdict([GOOD, VOID]) == ["holds  a ratio: 3.50 >= 3", "FAILS  another: nan >= 3"]


def test_all_of_it_is_valid_json(outcome):
    told = json.loads(json.dumps(report.as_json([outcome], [GOOD, VOID], {"rows": 32}), allow_nan=False))
    assert [figure["value"] for figure in told["figures"]] == [3.5, None]
    assert [figure["holds"] for figure in told["figures"]] == [True, False]
    assert told["settings"] == {"rows": 32}
    assert told["machine"]["cores"] >= 1
    assert told["backbones"][0]["tokens"] == 1000


def test_the_processor_is_named_with_what_its_arithmetic_can(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512_bf16\n\n")
    told = report.machine(file)
    assert told["processor"] == "Some CPU"
    assert told["instructions"] == ["avx2", "avx512_bf16"]
    assert "processor" not in report.machine(tmp_path / "none")
