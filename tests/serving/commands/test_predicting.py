import asyncio
import json

import pytest

from tests.serving import fakes


@pytest.fixture(autouse=True)
def published(held):
    asyncio.run(held.publish("tone", promote=True))
    tagger = fakes.adapter_manifest(fakes.head_spec(("O", "B"), "token"))
    asyncio.run(held.publish("tags", tagger))


def test_one_line_per_input_and_who_answered(hand):
    result = hand.run("predict", "i love it", "you", "-a", "tone")
    header, first, second = result.stdout.splitlines()
    assert header.split() == ["INPUT", "ANSWER"]
    assert first.startswith("i love it  ")
    assert {"NEG", "POS"} <= set(first.split())
    assert second.startswith("you ")
    assert "tone@1  text-classification" in result.stderr


def test_options_reach_the_service(hand, held):
    answer = hand.json("predict", "i", "-a", "tone", "--top-k", 1, "--function", "none", "--timeout-ms", 700)
    assert len(answer["outputs"][0]) == 1
    assert held.submit.timeouts[-1] <= 0.7


def test_tags_and_matrices_have_their_own_line(hand):
    assert "love/" in hand.run("predict", "i love it", "-a", "tags").stdout
    result = hand.run("predict", "i love it", "-a", "base", "--task", "feature-extraction")
    assert "[5 tokens x 8]" in result.stdout


def test_inputs_come_from_a_file_or_a_pipe(hand, tmp_path):
    file = tmp_path / "texts"
    file.write_text("i love\nit\n")
    assert len(json.loads(hand.run("predict", "-f", file, "-a", "tone", "--json").stdout)["outputs"]) == 2
    assert len(hand.run("predict", "you", "-f", "-", "-a", "tone", stdin="i\nlove\n").stdout.splitlines()) == 4


def test_refusals_carry_their_exit_code_and_pointer(hand):
    hand.run("predict", "-a", "tone", code=2)
    hand.run("predict", "i", "-a", "tone", "--task", "nonsense", code=2)
    assert "/adapters" in hand.run("predict", "i", "-a", "nothing", code=3).stderr
    too_long = hand.run("predict", "i love it " * 20, "-a", "tone", code=1)
    assert "/inputs/0" in too_long.stderr
    assert hand.run("predict", "i love it " * 20, "-a", "tone", "--truncate").stdout
