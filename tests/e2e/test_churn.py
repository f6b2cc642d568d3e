"""Two gateways and two engines with device room for a few of many adapters: right answers while everything moves."""

import asyncio
import itertools
import random
import re
import time
from collections import Counter
from dataclasses import replace

import httpx2
import pytest

from adapters.architectures.profile import read_profile
from adapters.formats import native
from adapters.manifest import Manifest, PartSpec
from adapters.weights import Package
from loadtests.synthetic import make_adapters
from tests.e2e.service import Service, free_port, make_backbone

pytestmark = pytest.mark.ray

ADAPTERS, ROOM, CLIENTS, REQUESTS = 50, 5, 16, 2000
TEXTS = ("i love it", "you hate it !", "unbelievable", "cafe i i i love you", "it", "you you you", "hate !", "i !")
NATIVE = {"content-type": "application/octet-stream"}
RAW = {"function_to_apply": "none", "top_k": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The backbone's folder, and adapters of several methods for it."""
    backbone = make_backbone(tmp_path_factory.mktemp("churn") / "tiny-bert")
    return backbone, make_adapters(read_profile(backbone), ADAPTERS, seed=5)


@pytest.fixture(scope="module")
def service(made, tmp_path_factory):
    backbone, adapters = made
    room = f"{ROOM * max(len(adapter.data) for adapter in adapters)}B"
    data = tmp_path_factory.mktemp("churn-data") / "data"
    running = Service(backbone, data, engines=2, gateways=2, port=free_port(), options=("--device-cache", room))
    try:
        running.start()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def scores(output) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in output}


def body(name: str, texts) -> dict:
    return {"inputs": list(texts), "adapters": [name], "parameters": RAW}


async def published(client: httpx2.AsyncClient, name: str, data: bytes, query: str = "") -> httpx2.Response:
    return await client.put(f"/v1/adapters/{name}{query}", content=data, headers=NATIVE)


def rows_of_batches(metrics: str) -> int:
    """The least upper bound (of the histogram's buckets) that holds every batch's number of rows."""
    buckets = re.findall(r'chorus_batch_rows_bucket\{le="([0-9.]+)",replica="(\w+)"\} ([0-9.]+)', metrics)
    totals = dict(re.findall(r'chorus_batch_rows_count\{replica="(\w+)"\} ([0-9.]+)', metrics))
    assert buckets
    return max(
        min(float(le) for le, r, n in buckets if r == replica and n == total) for replica, total in totals.items()
    )


def test_many_more_adapters_than_room_each_answer_as_alone(service, made):
    _, adapters = made
    rng = random.Random(1)
    jobs = [(rng.choice(adapters).name, rng.sample(TEXTS, rng.randint(1, 8))) for _ in range(REQUESTS)]

    async def run():
        async with httpx2.AsyncClient(base_url=service.url, timeout=60) as client:
            for adapter in adapters:
                assert (await published(client, adapter.name, adapter.data)).status_code == 201
            alone = {}
            for adapter in adapters:
                answer = await client.post("/v1/predict", json=body(adapter.name, TEXTS))
                assert answer.status_code == 200, answer.text
                alone[adapter.name] = dict(zip(TEXTS, map(scores, answer.json()["outputs"]), strict=True))
            left, tiers = iter(jobs), Counter()

            async def one_client():
                for name, texts in left:
                    answer = await client.post("/v1/predict", json=body(name, texts))
                    assert answer.status_code == 200, answer.text
                    tiers[answer.json()["residency"][name]] += 1
                    for text, output in zip(texts, answer.json()["outputs"], strict=True):
                        assert scores(output) == pytest.approx(alone[name][text], abs=1e-5, rel=1e-5)

            await asyncio.gather(*(one_client() for _ in range(CLIENTS)))
            return tiers, (await client.get("/v1/residency")).json(), (await client.get("/metrics")).text

    tiers, residency, metrics = asyncio.run(run())
    assert tiers["device"] > 0
    assert tiers["host"] > 0
    for replica in residency["replicas"]:
        assert replica["used"]["device"] <= replica["budgets"]["device"]
        assert replica["counters"]["evictions_device"] > 0
        on_device = sum(entry["bytes"] for entry in replica["entries"] if entry["tier"] == "device")
        assert on_device <= replica["budgets"]["device"]
    assert 'chorus_cache_evictions_total{replica="' in metrics
    assert rows_of_batches(metrics) > 16


def test_publish_promote_and_retire_under_load_lose_no_request(service, made):
    """Version i of a name answers with label `...i`; a request that starts after the promote was acknowledged must
    be answered by that version or a later one, whichever gateway it meets."""
    backbone, _ = made
    versions = [renamed(adapter.data, i) for i, adapter in enumerate(make_adapters(read_profile(backbone), 50, seed=9))]
    acknowledged, failures, answers = [0], [], Counter()
    over = asyncio.Event()

    async def load(client: httpx2.AsyncClient) -> None:
        while not over.is_set():
            at_least = acknowledged[0]
            answer = await client.post("/v1/predict", json=body("moving", [TEXTS[0]]))
            if answer.status_code != 200:
                failures.append(answer.text)
                continue
            told = answer.json()["target"]["adapters"][0]["version"]
            label = next(iter(scores(answer.json()["outputs"][0])))
            answers[told] += 1
            if told < at_least or not label.startswith(f"v{told}."):
                failures.append(f"version {told} with label {label} after {at_least} was acknowledged")

    async def run():
        async with (
            httpx2.AsyncClient(base_url=service.url, timeout=60) as client,
            httpx2.AsyncClient(
                base_url=service.url, timeout=60, limits=httpx2.Limits(max_keepalive_connections=0)
            ) as fresh,
        ):
            first = await published(client, "moving", versions[0], "?promote=true")
            assert first.status_code == 201, first.text
            acknowledged[0] = 1
            users = [asyncio.create_task(load(c)) for c in itertools.islice(itertools.cycle((client, fresh)), 6)]
            for number, data in enumerate(versions[1:], start=2):
                made_version = await published(client, "moving", data)
                assert made_version.json()["version"] == number, made_version.text
                moved = await client.put("/v1/adapters/moving/aliases/prod", json={"version": number})
                assert moved.status_code == 200, moved.text
                acknowledged[0] = number
                retired = await client.delete(f"/v1/adapters/moving@{number - 1}")
                assert retired.status_code in (200, 204), retired.text
            over.set()
            await asyncio.gather(*users)

    started = time.monotonic()
    asyncio.run(run())
    assert not failures, failures[:3]
    assert len(answers) > 10, (answers, time.monotonic() - started)


def altered(data: bytes, manifest=lambda held: held, tensor=lambda held: held) -> bytes:
    """A native package with another manifest or other tensors."""
    package = native.read(data)
    tensors = {name: tensor(held) for name, held in package.tensors.items()}
    return native.write(Package(manifest(package.manifest), tensors))


def renamed(data: bytes, index: int) -> bytes:
    """The package with labels that tell its version, `v<version>.<label>`."""

    def relabelled(manifest: Manifest) -> Manifest:
        labels = tuple(f"v{index + 1}.{i}" for i in range(len(manifest.head.labels)))
        return replace(manifest, head=replace(manifest.head, labels=labels))

    return altered(data, relabelled)


@pytest.fixture(scope="module")
def good(made):
    return made[1][0].data


def refused(answer: httpx2.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert problem["error"]["message"]
    return problem


def test_bad_input_is_refused_clearly_and_the_service_keeps_serving(service, made, good):
    elsewhere = altered(good, lambda held: replace(held, requires=replace(held.requires, hidden_size=999)))
    nowhere = altered(good, lambda held: replace(held, parts=(PartSpec("lora", {"sites": {}}),)))
    with service.client() as client:

        def put(data: bytes) -> httpx2.Response:
            return client.put("/v1/adapters/bad-upload", content=data, headers=NATIVE)

        assert client.put("/v1/adapters/good", content=good, headers=NATIVE).status_code in (200, 201)
        assert "good" in refused(client.post("/v1/predict", json=body("goood", ["it"])), 404)["detail"]
        refused(put(good[: len(good) // 2]), 422)
        assert "NaN" in refused(put(altered(good, tensor=lambda held: held * float("nan"))), 422)["detail"]
        refused(put(b"\x80\x04\x95" + b"pickle" * 50), 415)
        refused(put(b"PK\x03\x04" + b"archive" * 50), 415)
        assert "999" in refused(put(elsewhere), 422)["detail"]
        assert "no module" in refused(put(nowhere), 422)["detail"]
        long = refused(client.post("/v1/predict", json=body("good", ["it " * 60])), 422)
        assert long["errors"][0]["pointer"] == "/inputs/0"
        headers = {"content-type": "application/json"}
        refused(client.post("/v1/predict", content=b'{"inputs": ', headers=headers), 400)
        refused(client.post("/v1/predict", json={"inputs": 3, "adapters": []}), 422)
        refused(client.post("/v1/predict", json={"inputs": "it", "adapters": {"fuse": ["good", "good"]}}), 422)
        assert client.get("/v1/adapters/bad-upload").status_code == 404
        assert client.post("/v1/predict", json=body("good", ["it"])).status_code == 200
        assert len(service.replicas()) == 2
