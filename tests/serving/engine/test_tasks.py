"""Every task from the JSON of a request to a forward pass of a tiny backbone and back, without Ray between them."""

import asyncio
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from adapters.formats import native
from adapters.manifest import HeadSpec, Manifest, TargetSpec
from adapters.weights import Package
from serving.api.app import build_app
from serving.api.schemas import PredictAnswer
from serving.tenancy.keys import SCOPES, Caller
from tests.adapters import builders
from tests.serving.engine.bench import Bench, fusion_package
from tests.serving.fakes import make_fakes
from tests.serving.samples import WORDS

HEADS = {
    "tone": HeadSpec("classification", 1, None, True, "first_token", ("NEG", "POS"), "single_label"),
    "tags": HeadSpec("tagging", 1, None, True, "tokens", ("O", "B-X", "I-X"), "token"),
    "reader": HeadSpec("question_answering", 1, None, True, "tokens", ("start", "end"), "span"),
    "chooser": HeadSpec("multiple_choice", 1, None, True, "first_token", (), "choice"),
    "filler": HeadSpec("masked_lm", 1, None, True, "tokens", (), "vocabulary", vocabulary=90, width=builders.HIDDEN),
    "parser": HeadSpec("dependency_parsing", 1, None, True, "tokens", ("a", "b"), "tree"),
}


@dataclass
class Straight:
    """`Submit` over one engine of this process; remembers what it was sent."""

    engine: object
    seen: list

    async def submit(self, tickets, timeout_s):
        self.seen.extend(tickets)
        replies, done = {}, threading.Event()

        def sink(group):
            replies.update((reply.ticket, reply) for reply in group)
            if len(replies) == len(tickets):
                done.set()

        self.engine.submit(tickets, sink)
        assert await asyncio.to_thread(done.wait, 60)
        return [replies[ticket.id] for ticket in tickets]


@pytest.fixture
def bench(tmp_path):
    made = Bench(tmp_path / "engine")
    made.engine.start()
    yield made
    assert made.engine.check() == ()
    made.engine.close()


@pytest.fixture
def predict(bench, tmp_path):
    fakes = make_fakes(tmp_path, profile=builders.profile("bert"))
    straight = Straight(bench.engine, [])
    client = TestClient(build_app(replace(fakes.services, submit=straight)), base_url="http://127.0.0.1:8000")

    def publish(name, package):
        bench.publish(name, package, tenant="default")

        async def chunks():
            yield native.write(package)

        asyncio.run(fakes.control.publish(Caller("default", SCOPES, "t"), "adapter", name, chunks(), promote=False))
        bench.packages.update(dict.fromkeys(refs(fakes, name), package))

    for seed, (name, head) in enumerate(HEADS.items()):
        publish(name, builders.package("bert", [builders.PARTS["seq_bn"]], head, seed))
    publish("prompt", builders.package("bert", [builders.PARTS["prompt"]], HEADS["tone"], 20))
    publish("fused", fusion_package(21))
    target = Manifest("target", builders.requires("bert"), target=TargetSpec({"stack": ["tone", "tags"]}))
    publish("whole", Package(target, {}))

    def post(inputs, adapters, **body):
        response = client.post("/v1/predict", json={"inputs": inputs, "adapters": adapters, **body})
        assert response.status_code == 200, response.text
        PredictAnswer.model_validate(response.json(), extra="forbid", strict=True)
        return response.json()

    post.seen = straight.seen
    return post


def refs(fakes, name):
    return [version.ref for version in fakes.directory.records["default", "adapter", name].versions]


def raw(**parameters):
    return {"parameters": {"function_to_apply": "none", **parameters}}


def test_raw_scores_are_the_librarys_logits(predict, bench):
    (scores,) = predict(["i love it"], "tone", **raw(top_k=None))["outputs"]
    assert [s["score"] for s in scores] == pytest.approx(bench.alone(predict.seen[-1]).tolist(), abs=1e-5)
    (tags,) = predict(["i love it"], "whole", **raw())["outputs"]
    own = bench.alone(predict.seen[-1])[1:-1]
    assert [t["score"] for t in tags] == pytest.approx(own.max(axis=1).tolist(), abs=1e-5)
    ((window,),) = predict([{"question": "i", "context": "it you"}], "reader", **raw())["outputs"]
    whole = bench.alone(predict.seen[-1])
    assert window["start_logits"] == pytest.approx(whole[:, 0].tolist(), abs=1e-5)
    assert window["end_logits"] == pytest.approx(whole[:, 1].tolist(), abs=1e-5)


def test_choices_masks_and_trees(predict, bench):
    (choices,) = predict([{"text": "i", "choices": ["love", "hate"]}], "chooser", **raw(top_k=None))["outputs"]
    logits = [bench.alone(ticket)[0] for ticket in predict.seen[-2:]]
    assert [c["score"] for c in choices] == pytest.approx(logits, abs=1e-5)
    (fillings,) = predict(["i [MASK] it"], "filler", parameters={"targets": ["love", "hate"]})["outputs"]
    whole = bench.alone(predict.seen[-1])[2]
    likely = np.exp(whole) / np.exp(whole).sum()
    assert {f["token_str"]: f["score"] for f in fillings} == pytest.approx(
        {word: float(likely[WORDS.index(word)]) for word in ("love", "hate")}, rel=1e-4
    )
    (arcs,) = predict([{"words": ["you", "unbelievable"]}], "parser", **raw())["outputs"]
    tree = bench.alone(predict.seen[-1])
    assert [arc["arc_logits"] for arc in arcs] == [pytest.approx(row.tolist(), abs=1e-5) for row in tree[:, :, 0]]


def test_states_and_sentences(predict, bench):
    (states,) = predict(["i love"], [], task="feature-extraction")["outputs"]
    (vector,) = predict(["i love"], [], task="sentence-embedding")["outputs"]
    assert np.allclose(states, bench.alone(predict.seen[-2]), atol=1e-5)
    assert np.allclose(vector, np.mean(states, axis=0), atol=1e-5)


@pytest.mark.parametrize(
    "composition",
    [
        ["tone", {"fuse": ["tone", "tags"], "name": "fused"}],
        {"average": ["tags", "tone"], "weights": [1, 3]},
        {"split": ["tags", "tone"], "splits": [2, 9]},
        ["prompt", {"average": ["tags", "tone"]}],
    ],
    ids=str,
)
def test_compositions_run_as_the_library_runs_them(predict, bench, composition):
    answer = predict(["i love it", "you"], composition, head="tone", **raw(top_k=None))
    for output, ticket in zip(answer["outputs"], predict.seen[-2:], strict=True):
        assert [s["score"] for s in output] == pytest.approx(bench.alone(ticket).tolist(), abs=1e-5)


def test_branches_and_tasks_answer_as_they_do_alone(predict):
    both = predict(["i", "you"], {"parallel": ["tone", "tags"]})["outputs"]
    for name, at in (("tone", 0), ("tags", 1)):
        alone = predict(["i", "you"], [name])["outputs"]
        assert [parts[at]["head"] for parts in both] == [name] * 2
        for parts, single in zip(both, alone, strict=True):
            theirs = [item["score"] for item in single]
            assert [item["score"] for item in parts[at]["output"]] == pytest.approx(theirs, abs=1e-6)
    tasks = predict(["i", "you"], {"multi_task": ["tone", "prompt"]}, parameters={"task_ids": [1, "tone"]})["outputs"]
    singles = [predict("i", "prompt")["outputs"][0], predict("you", "tone")["outputs"][0]]
    assert [[s["score"] for s in output] for output in tasks] == [
        pytest.approx([s["score"] for s in output], abs=1e-6) for output in singles
    ]


def test_long_texts_travel_as_windows_and_come_back_as_one_answer(predict):
    context = "you hate it i love it " * 12
    answer = predict([{"question": "i", "context": context}], "reader", parameters={"top_k": 2, "doc_stride": 4})
    assert len(predict.seen) == 3
    for span in answer["outputs"][0]:
        assert context[span["start"] : span["end"]] == span["answer"]
    groups = predict(context, "tags", parameters={"aggregation_strategy": "simple", "stride": 4, "ignore_labels": []})
    assert groups["outputs"][0][-1]["end"] == len(context) - 1
