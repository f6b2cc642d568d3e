import json
from dataclasses import replace

import numpy as np
import pytest

from adapters.refs import AdapterRef
from serving.api.outcome import finished, residency, serialised, target, task_name, timing, word
from serving.api.preparing import Part
from serving.api.rows import Rows
from serving.api.schemas import PredictRequest
from serving.api.selection import Branch, Selection
from serving.errors import DependencyFailed, EngineFailed, NotReady, Overloaded, Unprocessable
from serving.registry.records import Resolved, Space, Version
from serving.request import Refusal, Result, Timing
from serving.tasks.table import FEATURES, TASKS
from serving.tasks.task import Options, Piece, Prepared
from serving.tasks.tokenization import Text, Tokenizer
from tests.serving.samples import PROFILE, adapter_manifest, head_spec, stack, tokenizer_json

TOKENIZER = Tokenizer(tokenizer_json(), vocabulary=64, types=2)
TEXTS = (Text("i love"), Text("you"))
CLASSIFY = TASKS["text-classification"]


def pinned(name: str, version: int = 1, space: Space = "adapter", alias: str | None = None) -> Resolved:
    ref = AdapterRef("default", name, version, f"sha256:{name}{version}{space}")
    return Resolved(Version(ref, space, adapter_manifest(head_spec()), 1, 0.0, "k"), alias)


def branch(*adapters: Resolved, task=CLASSIFY) -> Branch:
    head = adapters[-1] if adapters and task is not FEATURES else None
    return Branch(stack(*(adapter.version.ref for adapter in adapters)), task, head)


def selected(*adapters: Resolved, embedding=None, task=CLASSIFY) -> Selection:
    return Selection(((branch(*adapters, task=task),),), adapters, embedding)


def rows_of(selection: Selection) -> Rows:
    found = []
    for i, (text, encoded) in enumerate(zip(TEXTS, TOKENIZER.encode(TEXTS), strict=True)):
        prepared = Prepared(text, (Piece(encoded),), TOKENIZER)
        found.append(tuple(Part.of(answering, prepared, Options()) for answering in selection.of(i)))
    return Rows(tuple(found), 0.002, "r")


def told(selection: Selection, results):
    return word(selection, rows_of(selection), results, Options())


def request(**body) -> PredictRequest:
    return PredictRequest.model_validate({"inputs": ["a", "b"], **body})


def result(ticket: str = "t", output=(0.0, 1.0), **fields) -> Result:
    values = {"timing": Timing(1.0, 2.0, 3.0), "residency": {}, "replica": "r", "batch_rows": 1, **fields}
    return Result(ticket, np.array(output, np.float32), **values)


ONE = selected(pinned("a"))
ROWS = rows_of(ONE)


def tickets():
    return ROWS.tickets("default", ONE, 1.0)


def test_results_come_back_in_order():
    sent = tickets()
    replies = [result(ticket.id, output=(i, i)) for i, ticket in enumerate(sent)]
    assert finished(request(), ROWS, sent, replies) == tuple(replies)


def test_one_refused_row_refuses_the_request():
    sent = tickets()
    replies = [result(sent[0].id), Refusal(sent[1].id, "adapter_load_failed", "torn file", "r")]
    with pytest.raises(DependencyFailed) as caught:
        finished(request(), ROWS, sent, replies)
    assert [(fault.pointer, fault.detail) for fault in caught.value.faults] == [("/inputs/1", "torn file")]


def test_the_first_refusal_decides_and_the_longest_wait_is_told():
    sent = tickets()
    replies = [Refusal(sent[i].id, "overloaded", "full", "r", retry_after=float(i + 1)) for i in range(2)]
    with pytest.raises(Overloaded) as caught:
        finished(request(), ROWS, sent, replies)
    assert caught.value.retry_after == 2.0
    assert [fault.pointer for fault in caught.value.faults] == ["/inputs/0", "/inputs/1"]


def test_an_unknown_code_is_the_engines_fault():
    sent = tickets()
    with pytest.raises(EngineFailed) as caught:
        finished(request(), ROWS, sent, [Refusal(t.id, "numerical_error", "NaN", "r") for t in sent])
    assert caught.value.code == "numerical_error"


def test_answers_to_other_rows_are_never_taken():
    sent = tickets()
    for replies in ([], [result(sent[0].id)], [result(t.id) for t in reversed(sent)], [result("x")] * 2):
        with pytest.raises(EngineFailed):
            finished(request(), ROWS, sent, replies)


def test_every_row_is_worded():
    found = told(ONE, [result(output=(0, 9)), result(output=(9, 0))])
    assert [answer[0]["label"] for answer in found] == ["POS", "NEG"]


@pytest.mark.parametrize("output", [(0.0,), (0.0, 1.0, 2.0), ((0.0, 1.0),), (np.nan, 0.0), (np.inf, 0.0)])
def test_outputs_of_another_shape_or_without_numbers_are_no_answer(output):
    with pytest.raises(EngineFailed):
        told(ONE, [result(), result(output=output)])


def test_features_have_a_vector_per_token():
    features = selected(task=FEATURES)
    good = [result(output=np.zeros((tokens, 8))) for tokens in (4, 3)]
    assert [len(vectors) for vectors in told(features, good)] == [4, 3]
    with pytest.raises(EngineFailed):
        told(features, list(reversed(good)))


def test_parallel_answers_by_branch():
    one, other = branch(pinned("a")), branch(pinned("b"))
    both = Selection(((one, other),), (pinned("a"), pinned("b")), parallel=True)
    found = told(both, [result(output=(i, 1)) for i in (0, 9, 9, 0)])
    assert [[part["head"] for part in parts] for parts in found] == [["a", "b"]] * 2
    assert [[part["output"][0]["label"] for part in parts] for parts in found] == [["POS", "NEG"], ["NEG", "POS"]]
    assert {tuple(part) for parts in found for part in parts} == {("head", "output")}
    assert task_name(both) == "text-classification"
    assert target(both, PROFILE)["head"] is None


def test_branches_of_different_tasks_say_theirs():
    mixed = Selection(((branch(pinned("a")), branch(task=FEATURES)),), (pinned("a"),), parallel=True)
    outputs = [(0, 9), np.zeros((4, 8)), (0, 9), np.zeros((3, 8))]
    found = told(mixed, [result(output=output) for output in outputs])
    assert [part["task"] for part in found[0]] == ["text-classification", "feature-extraction"]
    assert [part["head"] for part in found[1]] == ["a", None]
    assert task_name(mixed) == "parallel"


def test_a_refused_row_among_several_of_an_input_names_the_input_once():
    both = Selection(((branch(pinned("a")), branch(pinned("b"))),), (), parallel=True)
    rows = rows_of(both)
    sent = rows.tickets("default", both, 1.0)
    replies = [result(sent[0].id), result(sent[1].id)] + [Refusal(t.id, "not_ready", "away", "r") for t in sent[2:]]
    with pytest.raises(NotReady) as caught:
        finished(request(), rows, sent, replies)
    assert [(fault.pointer, fault.detail) for fault in caught.value.faults] == [("/inputs/1", "away")]


def test_the_target_tells_what_ran():
    ran = target(selected(pinned("lang", 7, alias="prod"), pinned("task")), PROFILE)
    assert ran["base"] == {"id": PROFILE.id, "digest": PROFILE.digest}
    assert ran["adapters"][0] == {
        "name": "lang",
        "version": 7,
        "digest": "sha256:lang7adapter",
        "resolved_from": "prod",
    }
    assert (ran["head"], ran["embedding"], ran["stood_for"]) == ("task", None, None)
    whole = replace(selected(pinned("task")), target=pinned("whole", 3, alias="prod"))
    assert target(whole, PROFILE)["stood_for"]["version"] == 3


def test_residency_is_by_name_and_tells_the_slowest_tier():
    lots = selected(pinned("lang"), pinned("task"))
    lang, task = (member.version.ref.digest for member in lots.adapters)
    results = [
        result(residency={lang: "device", task: "device"}),
        result(residency={lang: "host", task: "device"}),
    ]
    assert residency(lots, results) == {"lang": "host", "task": "device"}


def test_names_that_collide_stay_apart():
    lots = selected(pinned("a", 1), pinned("a", 2), embedding=pinned("a", 1, "embedding"))
    tiers = ["device", "host", "disk"]
    found = {
        package.version.ref.digest: tier
        for package, tier in zip((*lots.adapters, lots.embedding), tiers, strict=True)
        if package
    }
    assert residency(lots, [result(residency=found)]) == {"a@1": "device", "a@2": "host", "a": "disk"}
    plain = selected(pinned("b"), embedding=pinned("b", 1, "embedding"))
    found = {"sha256:b1adapter": "device", "sha256:b1embedding": "host"}
    assert residency(plain, [result(residency=found)]) == {"b": "device", "~b": "host"}


def test_times_are_those_of_the_slowest_row():
    results = [result(timing=Timing(1.0, 5.0, 2.0)), result(timing=Timing(4.0, 0.0, 3.0))]
    assert timing(ROWS, results, 0.0125) == {
        "queue": 4.0,
        "load": 5.0,
        "tokenize": 2.0,
        "forward": 3.0,
        "total": 12.5,
    }


def test_every_head_that_answered_is_told():
    first, second, idle = (pinned(name, i) for i, name in enumerate("abc", 1))
    tasks = Selection(((branch(first),), (branch(idle),), (branch(second),)), (first, second), task_ids=(2, 0))
    ran = target(tasks, PROFILE)
    assert ran["head"] is None
    assert [(head["name"], head["version"], head["digest"]) for head in ran["heads"]] == [
        ("a", 1, "sha256:a1adapter"),
        ("b", 2, "sha256:b2adapter"),
    ]
    one = target(selected(pinned("lang"), pinned("task", 4, alias="prod")), PROFILE)
    assert (one["head"], one["heads"][0]["version"], one["heads"][0]["resolved_from"]) == ("task", 4, "prod")
    assert target(selected(task=FEATURES), PROFILE)["heads"] == []
    both = Selection(((branch(first), branch(first)),), (first,), parallel=True)
    assert (target(both, PROFILE)["head"], len(target(both, PROFILE)["heads"])) == (None, 1)


def test_adapters_that_can_not_be_put_together_are_no_fault_of_an_input():
    sent = tickets()
    with pytest.raises(Unprocessable) as caught:
        finished(request(), ROWS, sent, [Refusal(t.id, "invalid_arrangement", "no sum", "r") for t in sent])
    assert caught.value.code == "invalid_arrangement"
    assert [(fault.pointer, fault.detail) for fault in caught.value.faults] == [("/adapters", "no sum")]


def test_an_answer_is_serialised_whole():
    answer = {"id": "é", "outputs": [[{"score": 0.5}], [1.0, None], "a"], "usage": {"truncated": [True]}}
    assert json.loads(serialised(answer)) == answer
    assert list(json.loads(serialised(answer))) == list(answer)
    assert json.loads(serialised({"outputs": []})) == {"outputs": []}
