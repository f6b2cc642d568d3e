from dataclasses import replace

from loadtests.peers.picture import bars, draw
from tests.loadtests.peers.conftest import WRONG


def test_bars_are_equal_precision_with_adapters_first(outcome):
    assert [(pair.peer.library, pair.peer.precision) for pair in bars(outcome)] == [
        ("peft", "fp32"),
        ("peft", "bf16"),
        ("openvino", "fp32"),
    ]


def test_wrong_answers_have_no_bar(outcome):
    assert bars(replace(outcome, standings=tuple(replace(one, agreement=WRONG) for one in outcome.standings))) == []


def test_a_png_is_written_also_where_nothing_counts(outcome, tmp_path):
    none = replace(outcome, standings=outcome.standings[:1])
    draw([outcome, none], tmp_path / "peers.png")
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
