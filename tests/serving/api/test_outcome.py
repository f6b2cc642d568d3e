import numpy as np
import pytest

from adapters.refs import AdapterRef
from serving.api.outcome import finished, options_of, residency, target, timing, word
from serving.api.rows import Rows
from serving.api.schemas import PredictRequest
from serving.api.selection import Selection
from serving.errors import DependencyFailed, EngineFailed, Overloaded, Unprocessable
from serving.registry.records import Resolved, Space, Version
from serving.request import Refusal, Result, Timing
from serving.tasks.table import FEATURES, TASKS
from serving.tasks.task import Options
from serving.tasks.tokenization import Text, Tokenizer
from tests.serving.samples import PROFILE, adapter_manifest, head_spec, tokenizer_json

ENCODED = tuple(Tokenizer(tokenizer_json(), vocabulary=64, types=2).encode([Text("i love"), Text("you")]))
ROWS = Rows(ENCODED, (False, False), 0.002)
CLASSIFY = TASKS["text-classification"]


def pinned(name: str, version: int = 1, space: Space = "adapter", alias: str | None = None) -> Resolved:
    ref = AdapterRef("default", name, version, f"sha256:{name}{version}{space}")
    return Resolved(Version(ref, space, adapter_manifest(head_spec()), 1, 0.0, "k"), alias)


def selected(*members: Resolved, head=None, embedding=None, task=CLASSIFY) -> Selection:
    return Selection(task, members, frozenset(), head or (members[-1] if members else None), embedding)


def request(**body) -> PredictRequest:
    return PredictRequest.model_validate({"inputs": ["a", "b"], **body})


def result(ticket: str = "t", output=(0.0, 1.0), **fields) -> Result:
    values = {"timing": Timing(1.0, 2.0, 3.0), "residency": {}, "replica": "r", "batch_rows": 1, **fields}
    return Result(ticket, np.array(output, np.float32), **values)


def tickets():
    return ROWS.tickets("default", selected(pinned("a")), 1.0)


def test_results_come_back_in_order():
    sent = tickets()
    replies = [result(ticket.id, output=(i, i)) for i, ticket in enumerate(sent)]
    assert finished(request(), sent, replies) == tuple(replies)


def test_one_refused_row_refuses_the_request():
    sent = tickets()
    replies = [result(sent[0].id), Refusal(sent[1].id, "adapter_load_failed", "torn file", "r")]
    with pytest.raises(DependencyFailed) as caught:
        finished(request(), sent, replies)
    assert [(fault.pointer, fault.detail) for fault in caught.value.faults] == [("/inputs/1", "torn file")]


def test_the_first_refusal_decides_and_the_longest_wait_is_told():
    sent = tickets()
    replies = [Refusal(sent[i].id, "overloaded", "full", "r", retry_after=float(i + 1)) for i in range(2)]
    with pytest.raises(Overloaded) as caught:
        finished(request(), sent, replies)
    assert caught.value.retry_after == 2.0
    assert [fault.pointer for fault in caught.value.faults] == ["/inputs/0", "/inputs/1"]


def test_an_unknown_code_is_the_engines_fault():
    sent = tickets()
    with pytest.raises(EngineFailed) as caught:
        finished(request(), sent, [Refusal(t.id, "numerical_error", "NaN", "r") for t in sent])
    assert caught.value.code == "numerical_error"


def test_answers_to_other_rows_are_never_taken():
    sent = tickets()
    for replies in ([], [result(sent[0].id)], [result(t.id) for t in reversed(sent)], [result("x")] * 2):
        with pytest.raises(EngineFailed):
            finished(request(), sent, replies)


def test_every_row_is_worded():
    found = word(selected(pinned("a")), ROWS, [result(output=(0, 9)), result(output=(9, 0))], Options())
    assert [answer[0]["label"] for answer in found] == ["POS", "NEG"]


@pytest.mark.parametrize("output", [(0.0,), (0.0, 1.0, 2.0), ((0.0, 1.0),), (np.nan, 0.0), (np.inf, 0.0)])
def test_outputs_of_another_shape_or_without_numbers_are_no_answer(output):
    with pytest.raises(EngineFailed):
        word(selected(pinned("a")), ROWS, [result(), result(output=output)], Options())


def test_features_have_a_vector_per_token():
    features = Selection(FEATURES, (), frozenset(), None, None)
    good = [result(output=np.zeros((row.tokens, 8))) for row in ENCODED]
    assert [len(vectors) for vectors in word(features, ROWS, good, Options())] == [4, 3]
    with pytest.raises(EngineFailed):
        word(features, ROWS, list(reversed(good)), Options())


def test_parameters_that_mean_nothing_are_refused():
    for name, value in (("top_k", 1), ("function_to_apply", "softmax")):
        with pytest.raises(Unprocessable) as caught:
            options_of(request(parameters={name: value}), FEATURES)
        assert caught.value.faults[0].pointer == f"/parameters/{name}"
    with pytest.raises(Unprocessable):
        options_of(request(parameters={"top_k": 1}), TASKS["token-classification"])
    assert options_of(request(parameters={"top_k": None}), FEATURES) == Options()


def test_label_order_needs_raw_logits_and_an_explicit_null():
    def order(**parameters) -> bool:
        return options_of(request(parameters=parameters), CLASSIFY).label_order

    assert order(function_to_apply="none", top_k=None)
    assert not order(function_to_apply="none")
    assert not order(function_to_apply="softmax", top_k=None)
    assert not order(function_to_apply="none", top_k=1)


def test_the_target_tells_what_ran():
    told = target(selected(pinned("lang", 7, alias="prod"), pinned("task")), PROFILE)
    assert told["base"] == {"id": PROFILE.id, "digest": PROFILE.digest}
    assert told["adapters"][0] == {
        "name": "lang",
        "version": 7,
        "digest": "sha256:lang7adapter",
        "resolved_from": "prod",
    }
    assert (told["head"], told["embedding"]) == ("task", None)


def test_residency_is_by_name_and_tells_the_slowest_tier():
    stack = selected(pinned("lang"), pinned("task"))
    lang, task = (member.version.ref.digest for member in stack.members)
    results = [
        result(residency={lang: "device", task: "device"}),
        result(residency={lang: "host", task: "device"}),
    ]
    assert residency(stack, results) == {"lang": "host", "task": "device"}


def test_names_that_collide_stay_apart():
    stack = selected(pinned("a", 1), pinned("a", 2), embedding=pinned("a", 1, "embedding"))
    tiers = ["device", "host", "disk"]
    found = {
        package.version.ref.digest: tier
        for package, tier in zip((*stack.members, stack.embedding), tiers, strict=True)
        if package
    }
    assert residency(stack, [result(residency=found)]) == {"a@1": "device", "a@2": "host", "a": "disk"}
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
