import json

import pytest

from loadtests.peers.contenders import CHORUS, LORA, MIXED, Contender
from loadtests.peers.ratios import Spread
from tests.loadtests.peers.conftest import WRONG, standing


def by_key(outcome):
    return {(pair.own.key, pair.peer.key): pair for pair in outcome.pairs()}


def test_each_peer_meets_chorus_in_its_precision_and_float32_meets_bfloat16_too(outcome):
    found = by_key(outcome)
    assert found.keys() == {
        ("chorus mixed batch lora fp32", "peft mixed batch lora fp32"),
        ("chorus mixed batch lora bf16", "peft mixed batch lora fp32"),
        ("chorus mixed batch lora bf16", "peft mixed batch lora bf16"),
        ("chorus packed backbone only fp32", "openvino padded backbone only fp32"),
    }
    assert found["chorus mixed batch lora fp32", "peft mixed batch lora fp32"].spread == Spread(3.0, 3.0, 3.5, 3)
    assert found["chorus mixed batch lora bf16", "peft mixed batch lora fp32"].spread.median == 8.0


@pytest.mark.parametrize("library", [CHORUS, "peft"])
def test_a_ratio_with_wrong_answers_on_either_side_does_not_count(outcome, library):
    who = Contender(library, MIXED, LORA, "fp32")
    worse = tuple(
        standing(*vars(one.contender).values(), *one.seconds, agreed=WRONG) if one.contender == who else one
        for one in outcome.standings
    )
    spoilt = type(outcome)(outcome.backbone, 32, 1000, worse, outcome.versions)
    assert [one.contender for one in spoilt.wrong()] == [who]
    pairs = spoilt.pairs()
    assert {pair.counts for pair in pairs if who in (pair.own, pair.peer)} == {False}
    assert {pair.counts for pair in pairs if who not in (pair.own, pair.peer)} == {True}


def test_all_is_told_in_json(outcome):
    told = json.loads(json.dumps(outcome.json(), allow_nan=False))
    assert told["backbone"] == "minilm"
    (openvino,) = [one for one in told["contenders"] if one["library"] == "openvino"]
    assert openvino["seconds"] == [1.0, 1.0, 1.5]
    assert openvino["rows_per_second"] == 32
    assert openvino["note"] == "<notes>"
    assert openvino["agreement"]["holds"] is True
    assert {"chorus", "peer", "counts", "median", "lower", "upper", "count"} == told["ratios"][0].keys()
    assert told["versions"]["peft"]["peft"] == "0.21.2"
