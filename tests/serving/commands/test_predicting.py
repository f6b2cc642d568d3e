import asyncio
import json
import re
from typing import get_args

import pytest

from serving.api.schemas import TaskName
from serving.commands.predicting import TaskChoice
from tests.serving import fakes
from tests.serving.api import imaged
from tests.serving.hand import Hand
from tests.serving.images.samples import drawn, saved
from tests.serving.samples import head_of
from tests.serving.server import serve


@pytest.fixture(autouse=True)
def published(held):
    asyncio.run(held.publish("tone", promote=True))
    tagger = fakes.adapter_manifest(fakes.head_spec(("O", "B"), "token"))
    asyncio.run(held.publish("tags", tagger))
    for name, kind in {
        "reader": "question_answering",
        "chooser": "multiple_choice",
        "parser": "dependency_parsing",
    }.items():
        asyncio.run(held.publish(name, fakes.adapter_manifest(head_of(kind))))


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


def test_branches_and_vectors_are_told_in_a_line(hand):
    branches = hand.run("predict", "i", "-a", '{"parallel": ["tone", "tags"]}').stdout.splitlines()[1]
    assert re.search(r"tone: (NEG|POS) .*  \|  tags: i/", branches)
    vector = hand.run("predict", "i", "--task", "sentence-embedding", "-a", "base").stdout
    assert "[8 numbers] (the numbers: --json)" in vector


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


def test_every_task_of_the_service_can_be_named(hand):
    assert get_args(TaskChoice) == get_args(TaskName)
    vectors = hand.json("predict", "i", "you", "--task", "sentence-embedding", "-a", "base", "-p", "normalize=true")
    assert [len(vector) for vector in vectors["outputs"]] == [8, 8]


def test_texts_are_questions_on_a_context(hand, tmp_path):
    file = tmp_path / "context"
    file.write_text("you hate it")
    for context in ("you hate it", f"@{file}"):
        answer = hand.json("predict", "i", "love", "-a", "reader", "--context", context)
        assert [output["answer"] in "you hate it" for output in answer["outputs"]] == [True, True]
    line = hand.run("predict", "i", "-a", "reader", "--context", "you hate it").stdout.splitlines()[1]
    assert re.fullmatch(r"i +\S.* \d\.\d{4} \[\d+:\d+\] *", line)


def test_choices_beside_each_text(hand):
    answer = hand.json("predict", "i", "you", "-a", "chooser", "--choice", "love", "--choice", "hate")
    assert [{item["label"] for item in output} for output in answer["outputs"]] == [{"love", "hate"}] * 2


def test_inputs_may_be_json_lines(hand, tmp_path):
    file = tmp_path / "inputs"
    file.write_text('{"words": ["you", "love"]}\n"i love it"\n')
    answer = hand.json("predict", "--json-lines", "-f", file, "-a", "parser")
    assert [len(output) for output in answer["outputs"]] == [2, 3]
    hand.run("predict", "--json-lines", "{", "-a", "parser", code=2)


def test_a_composition_may_be_json_and_parameters_go_by_name(hand, held):
    tasks = '{"multi_task": ["tone", "tone@1"]}'
    answer = hand.json("predict", "i", "you", "-a", tasks, "-p", "task_ids=[1, 0]", "-p", "top_k=1")
    assert [len(output) for output in answer["outputs"]] == [1, 1]
    groups = hand.json("predict", "i love", "-a", "tags", "-p", "aggregation_strategy=simple", "-p", "ignore_labels=[]")
    assert groups["outputs"][0][0]["entity_group"] in ("O", "B")
    assert "NAME=VALUE" in hand.run("predict", "i", "-a", "tone", "-p", "top_k", code=2).stderr
    assert "JSON" in hand.run("predict", "i", "-a", '{"stack": ', code=2).stderr


def test_an_image_is_sent_and_named_by_its_file(tmp_path):
    _, client = imaged.served(tmp_path)
    path = tmp_path / "cat.png"
    path.write_bytes(saved(drawn(20, 20)))
    with serve(client.app) as url:
        hand = Hand(url)
        result = hand.run("predict", "-a", "pets", "--image", path, "--image", path)
        _, first, second = result.stdout.splitlines()
        assert first.split()[0] == second.split()[0] == "cat.png"
        assert set(imaged.LABELS) <= set(first.split())
        assert "pets@1  image-classification" in result.stderr
        assert "No such file" in hand.run("predict", "-a", "pets", "--image", tmp_path / "none.png", code=2).stderr
        assert "reads images" in hand.run("predict", "-a", "pets", "i love it", code=1).stderr
