import math
from dataclasses import replace

import pytest

from loadtests.peers.contenders import BF16, CHORUS, FP32, PACKED, PADDED, SORTED, SWITCH
from loadtests.peers.judge import judge
from tests.loadtests.peers.conftest import WRONG, standing


def found(outcome):
    return {figure.name: figure for figure in judge(outcome)}


def test_mixed_batches_are_judged_in_equal_precision_and_from_their_default(outcome):
    figures = found(outcome)
    assert figures.keys() == {
        "minilm: contenders with wrong answers",
        "minilm: chorus mixed batch lora fp32 over peft mixed batch lora fp32",
        "minilm: chorus mixed batch lora bf16 over peft mixed batch lora fp32",
        "minilm: chorus mixed batch lora bf16 over peft mixed batch lora bf16",
    }
    limits = {name: figure.limit for name, figure in figures.items()}
    assert list(limits.values()) == [0, 3.0, 6.0, 3.0]
    assert [figure.holds for figure in figures.values()] == [True, True, True, False]


def test_the_larger_backbone_has_a_bound_of_its_own(outcome):
    assert {figure.limit for figure in judge(replace(outcome, backbone="bert-base"))} == {0, 2.5, 6.0}


@pytest.mark.parametrize(
    ("library", "way", "precision", "limit"),
    [
        ("openvino", PADDED, BF16, 1.5),
        ("openvino", SORTED, BF16, 1.2),
        ("openvino", PADDED, FP32, None),
        ("transformers", PADDED, BF16, None),
        ("onnxruntime", PADDED, FP32, None),
    ],
)
def test_of_the_bare_backbone_openvino_is_judged_in_bfloat16(outcome, library, way, precision, limit):
    pair = (standing(CHORUS, PACKED, None, precision, 1.0), standing(library, way, None, precision, 2.0))
    figures = judge(replace(outcome, standings=pair))[1:]
    assert [figure.limit for figure in figures] == ([] if limit is None else [limit])


def test_switching_is_shown_but_not_judged(outcome):
    one = standing("peft", SWITCH, "lora", FP32, 9.0, 9.0, 9.0)
    assert len(judge(replace(outcome, standings=(*outcome.standings, one)))) == len(judge(outcome))


def test_a_ratio_with_wrong_answers_is_no_number_and_fails(outcome):
    standings = tuple(replace(one, agreement=WRONG) for one in outcome.standings)
    figures = judge(replace(outcome, standings=standings))
    assert figures[0].value == len(standings)
    assert all(math.isnan(figure.value) for figure in figures[1:])
    assert not any(figure.holds for figure in figures)
