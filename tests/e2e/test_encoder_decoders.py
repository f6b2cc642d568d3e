"""A tiny BART and a tiny T5 served for real: adapters of several methods in one crowd answer as Python computes them."""

import asyncio

import httpx2
import pytest
import torch

from adapters.formats import native
from adapters.manifest import HeadSpec
from adapters.model import AdapterModel
from serving.tasks.tokenization import Text, Tokenizer
from tests.adapters import builders
from tests.e2e.service import Service, free_port
from tests.serving.samples import WORDS, tokenizer_json

pytestmark = pytest.mark.ray

OCTETS = {"content-type": "application/octet-stream"}
SEP = WORDS.index("[SEP]")
SPECIAL = {"pad_token_id": 0, "eos_token_id": SEP, "decoder_start_token_id": SEP}
MOOD = HeadSpec("classification", 2, "tanh", True, "last_eos", ("bad", "good", "mixed"), "single_label", name="mood")
SPAN = HeadSpec("question_answering", 1, None, True, "tokens", ("start", "end"), "span", name="span")
SPEAKS = HeadSpec(
    "seq2seq_lm", 1, None, False, "tokens", (), "vocabulary", vocabulary=90, width=builders.HIDDEN, name="speaks"
)
PACKAGES = {
    "lora": ((builders.PARTS["lora_qv"], builders.CROSS_PARTS["prefix_cross"]), MOOD),
    "bottleneck": ((builders.CROSS_PARTS["cross_bn"], builders.PARTS["word_prompt"]), MOOD),
    "span": ((builders.PARTS["ia3"],), SPAN),
}
TEXTS = ("i love it !", "you hate unbelievable cafe", "it", "i hate it i love you cafe !")


@pytest.fixture(scope="module", params=["bart", "t5"])
def backbone(request, tmp_path_factory):
    folder = builders.variant(request.param, **SPECIAL)
    (folder / "tokenizer.json").write_bytes(tokenizer_json())
    return folder


@pytest.fixture(scope="module")
def packages(backbone, tmp_path_factory):
    folder, family = tmp_path_factory.mktemp("packages"), backbone.name.removesuffix("-tiny")
    made = {name: folder / f"{name}.safetensors" for name in PACKAGES}
    for seed, (name, (parts, head)) in enumerate(PACKAGES.items()):
        made[name].write_bytes(native.write(builders.package(family, parts, head, seed)))
    return made


@pytest.fixture(scope="module")
def service(backbone, packages, tmp_path_factory):
    running = Service(backbone, tmp_path_factory.mktemp("served") / "data", engines=1, gateways=1, port=free_port())
    try:
        running.start()
        with running.client() as client:
            for name, path in packages.items():
                told = client.put(f"/v1/adapters/{name}", content=path.read_bytes(), headers=OCTETS)
                assert told.status_code == 201, told.text
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


@pytest.fixture(scope="module")
def alone(backbone, packages):
    """What `AdapterModel` answers to each adapter and text: scores, and the decoder's states."""
    model, headless = AdapterModel.from_pretrained(backbone), AdapterModel.from_pretrained(backbone)
    tokenizer = Tokenizer(tokenizer_json(), vocabulary=90, types=0)
    for name, path in packages.items():
        model.load_adapter(path, load_as=name)
        headless.load_adapter(path, load_as=name, with_head=False)
    found = {}
    for name in packages:
        for text in TEXTS:
            ids = torch.tensor([tokenizer.encode([Text(text)])[0].input_ids.tolist()])
            with torch.no_grad():
                states = headless(ids, adapter_names=name).last_hidden_state[0]
                found[name, text] = (model(ids, adapter_names=name), states)
    return found


def ask(name, text, **members):
    return {"inputs": text, "adapters": name, "timeout_ms": 60000, **members}


def test_a_crowd_of_all_adapters_is_what_python_computes(service, alone):
    plain = {"parameters": {"function_to_apply": "none"}}
    keys = [*alone] * 3

    async def crowd():
        async with httpx2.AsyncClient(base_url=service.url, timeout=60) as client:
            scores = [client.post("/v1/predict", json=ask(name, text, **plain)) for name, text in keys]
            states = [
                client.post("/v1/predict", json=ask(name, text, task="feature-extraction")) for name, text in keys
            ]
            return await asyncio.gather(*scores), await asyncio.gather(*states)

    scores, states = asyncio.run(crowd())
    for key, score, state in zip(keys, scores, states, strict=True):
        assert (score.status_code, state.status_code) == (200, 200), score.text + state.text
        (want, states_alone), output = alone[key], score.json()["outputs"][0]
        if key[0] == "span":
            for name in ("start_logits", "end_logits"):
                assert output[0][name] == pytest.approx(want[name][0].tolist(), abs=1e-5)
        else:
            told = {item["label"]: item["score"] for item in output}
            assert [told[label] for label in MOOD.labels] == pytest.approx(want.logits[0].tolist(), abs=1e-5)
        assert torch.allclose(torch.tensor(state.json()["outputs"][0]), states_alone, atol=1e-5)


def test_an_answer_is_found_in_a_context(service):
    asked = ask("span", {"question": "you hate it", "context": "i love unbelievable cafe"})
    with service.client() as client:
        told = client.post("/v1/predict", json=asked)
    assert told.status_code == 200, told.text
    answer = told.json()["outputs"][0]
    assert answer["answer"] == "i love unbelievable cafe"[answer["start"] : answer["end"]] != ""


def test_what_is_published_can_be_tried_gated_and_embedded(service, packages):
    with service.client() as client:
        tried = client.post("/v1/adapters/mine:validate", content=packages["bottleneck"].read_bytes(), headers=OCTETS)
        assert tried.status_code == 200, tried.text
        assert tried.json()["trial"]["answer"]["label"] in MOOD.labels
        gate = {"version": 1, "gate": {"input": "i love it"}}
        moved = client.put("/v1/adapters/bottleneck/aliases/prod", json=gate)
        assert moved.status_code == 200, moved.text
        told = client.post("/v1/predict", json=ask("bottleneck", "you love it", task="sentence-embedding"))
        assert len(told.json()["outputs"][0]) == builders.HIDDEN


def test_a_head_that_generates_is_published_and_told_apart(service, backbone):
    family = backbone.name.removesuffix("-tiny")
    package = native.write(builders.package(family, (builders.PARTS["lora_qv"],), SPEAKS, 9))
    with service.client() as client:
        assert client.put("/v1/adapters/speaks", content=package, headers=OCTETS).status_code == 201
        told = client.post("/v1/predict", json=ask("speaks", "i love it"))
        assert (told.status_code, told.json()["code"]) == (422, "wrong_task")
        assert "generates" in told.json()["detail"]
        states = client.post("/v1/predict", json=ask("speaks", "i love it", task="feature-extraction"))
        assert states.status_code == 200, states.text
