"""Every task and every block over HTTP, against an engine whose numbers are known."""

import numpy as np
import pytest

from adapters.composition import Average, Fuse, Leaf, Parallel, Split, Stack
from serving.api.schemas import PredictAnswer
from tests.serving.samples import adapter_manifest, fusion_manifest, head_of, head_spec, target_manifest

HEADS = {
    "sentiment": head_spec(),
    "tagger": head_spec(("O", "B-X", "I-X"), "token"),
    "reader": head_of("question_answering"),
    "chooser": head_of("multiple_choice"),
    "filler": head_of("masked_lm"),
    "parser": head_of("dependency_parsing"),
}


@pytest.fixture
def predict(client, publish):
    for name, head in HEADS.items():
        publish(name, adapter_manifest(head))
    publish("lang", adapter_manifest())
    publish("fused", fusion_manifest("a", "b"))

    def post(inputs, adapters, status=200, **body):
        response = client.post("/v1/predict", json={"inputs": inputs, "adapters": adapters, **body})
        assert response.status_code == status, response.text
        answer = response.json()
        if status == 200:
            PredictAnswer.model_validate(answer, extra="forbid", strict=True)
        return answer

    return post


@pytest.fixture
def outputs(fakes):
    return lambda: [fakes.submit.output(ticket) for ticket in fakes.submit.seen]


def first_fault(problem):
    return problem["code"], problem["errors"][0]["pointer"]


def test_entities(predict):
    text = "i love unbelievable"
    groups = predict(text, "tagger", parameters={"aggregation_strategy": "max", "ignore_labels": []})["outputs"][0]
    assert {group["entity_group"] for group in groups} <= {"O", "X"}
    assert groups[0]["start"] == 0
    assert groups[-1]["end"] == len(text)
    long = predict("i love it " * 20, "tagger", parameters={"aggregation_strategy": "simple", "stride": 4})
    assert long["usage"]["truncated"] == [False]
    assert long["usage"]["prompt_tokens"] > 62


def test_answers_to_questions(predict, outputs):
    item = {"question": "you", "context": "i love it you hate it"}
    (answer,) = predict([item], "reader")["outputs"]
    assert list(answer) == ["answer", "score", "start", "end"]
    assert answer["answer"] == item["context"][answer["start"] : answer["end"]]
    several = predict(item, "reader", parameters={"top_k": 3})["outputs"][0]
    assert several[0] == answer
    assert len(several) == 3
    long = predict({"question": "you", "context": "i love it " * 12}, "reader")
    assert long["usage"]["prompt_tokens"] > 36 + 4


def test_raw_logits_of_a_reader_for_any_text(predict, outputs):
    raw = predict(["i love", {"question": "i", "context": "it"}], "reader", parameters={"function_to_apply": "none"})
    for windows, logits in zip(raw["outputs"], outputs(), strict=True):
        assert windows[0]["start_logits"] == logits[:, 0].tolist()
        assert windows[0]["end_logits"] == logits[:, 1].tolist()
    assert raw["outputs"][0][0]["offsets"] == [[0, 0], [0, 1], [2, 6], [0, 0]]
    assert first_fault(predict("i love", "reader", 422)) == ("wrong_input", "/inputs")


def test_choices(predict, outputs):
    item = {"text": "you", "choices": ["love", "hate", "it"]}
    (found,) = predict([item], "chooser")["outputs"]
    assert sum(choice["score"] for choice in found) == pytest.approx(1)
    assert found[0]["index"] == int(np.argmax(outputs()))
    assert found[0]["label"] == item["choices"][found[0]["index"]]
    assert first_fault(predict(["i"], "chooser", 422)) == ("wrong_input", "/inputs/0")


def test_masks(predict, fakes):
    (found,) = predict(["i [MASK] it"], "filler")["outputs"]
    assert len(found) == 5
    assert list(found[0]) == ["score", "token", "token_str", "sequence"]
    (ticket,) = fakes.submit.seen
    assert ticket.reduction.positions == (2,)
    assert fakes.submit.output(ticket).shape == (1, 6)
    (both,) = predict("[MASK] you [MASK]", "filler", parameters={"top_k": 1, "targets": ["it", "hate"]})["outputs"]
    assert [len(fillings) for fillings in both] == [1, 1]
    assert both[0][0]["token_str"] in ("it", "hate")
    problem = predict(["i [MASK]", "i"], "filler", 422)
    assert first_fault(problem) == ("no_mask", "/inputs/1")
    assert "[MASK]" in problem["detail"]
    problem = predict("[MASK]", "filler", 422, parameters={"targets": ["it", "unbelievable"]})
    assert first_fault(problem) == ("unknown_target", "/parameters/targets/1")


def test_trees(predict):
    (arcs,) = predict([{"words": ["you", "love", "unbelievable"]}], "parser")["outputs"]
    assert [(arc["id"], arc["word"]) for arc in arcs] == [(1, "you"), (2, "love"), (3, "unbelievable")]
    assert {arc["head"] for arc in arcs} <= {0, 1, 2, 3}
    assert {arc["relation"] for arc in arcs} <= set(HEADS["parser"].labels)


def test_vectors(predict, outputs):
    answer = predict(["i", "i love"], [], task="sentence-embedding", parameters={"normalize": True})
    assert answer["outputs"] == [vector.tolist() for vector in outputs()]
    assert [np.linalg.norm(vector) for vector in answer["outputs"]] == pytest.approx([1, 1])


def test_parallel_gives_an_answer_per_branch(predict, outputs):
    answer = predict(["i", "you"], ["lang", {"parallel": ["sentiment", "tagger"]}])
    assert answer["task"] == "parallel"
    assert [(part["head"], part["task"]) for part in answer["outputs"][0]] == [
        ("sentiment", "text-classification"),
        ("tagger", "token-classification"),
    ]
    assert [adapter["name"] for adapter in answer["target"]["adapters"]] == ["lang", "sentiment", "tagger"]
    assert answer["target"]["head"] is None
    alike = predict("i", {"parallel": ["sentiment", ["lang", "sentiment"]]})
    assert alike["task"] == "text-classification"
    assert [list(part) for part in alike["outputs"][0]] == [["head", "output"]] * 2
    assert len(outputs()) == 4 + 2


def test_what_travels_has_no_parallel_and_no_multi_task(predict, fakes):
    predict("i", {"stack": ["lang", {"fuse": ["lang", "sentiment"], "name": "fused"}]})
    predict("i", {"split": ["lang", "sentiment"], "splits": [2, 9]})
    predict("i", {"average": ["lang", "sentiment"], "weights": [1, 2]})
    predict("i", {"parallel": ["sentiment", "tagger"]}, task="feature-extraction")
    predict("i", {"multi_task": ["tagger", "sentiment"]}, parameters={"task_ids": ["sentiment"]})
    blocks = [ticket.composition.block for ticket in fakes.submit.seen]
    kinds = [type(child) for block in blocks for child in (block.children if isinstance(block, Stack) else (block,))]
    assert kinds == [Leaf, Fuse, Split, Average, Leaf, Leaf, Leaf]
    assert Parallel not in kinds
    assert [ref.name for ref in fakes.submit.seen[0].refs] == ["lang", "sentiment", "fused"]


def test_the_fusion_that_ran_is_told(predict):
    answer = predict("i", ["lang", {"fuse": ["lang", "sentiment"], "name": "fused"}])
    assert [adapter["name"] for adapter in answer["target"]["adapters"]] == ["lang", "sentiment", "fused"]
    assert set(answer["residency"]) == {"lang", "sentiment", "fused"}


def test_a_split_that_is_too_short_says_row_tokens_and_sum(predict):
    problem = predict(["i", "i love it"], {"split": ["lang", "sentiment"], "splits": [2, 2]}, 422)
    assert first_fault(problem) == ("too_long", "/inputs/1")
    assert "row 1: 5 tokens, but the lengths of the split add up to 4" in problem["detail"]


def test_a_target_answers_by_one_name(predict, publish):
    publish("whole", target_manifest({"stack": ["lang", "sentiment"]}), promote=True)
    answer = predict("i", "whole")
    assert [adapter["name"] for adapter in answer["target"]["adapters"]] == ["lang", "sentiment"]
    assert answer["target"]["stood_for"]["name"] == "whole"
    assert answer["target"]["stood_for"]["resolved_from"] == "prod"
    assert first_fault(predict("i", ["whole", "sentiment"], 422)) == ("wrong_kind", "/adapters/0")
