"""A row that kills its engine, on real Ray: two engines at most, and nobody else's answer, whoever sends it how often.

The fault is planted in a copy of the code: an engine that is handed a certain token dies on the spot.
"""

import asyncio
import json
import shutil
import time
from collections import Counter

import httpx2
import pytest

from tests.e2e.service import ROOT, START_S, Service, free_port, make_backbone

pytestmark = pytest.mark.ray

PLACE = "        self._left.update(ids)"
FAULT = """        import os
        if any(len(ticket.input_ids) == 9 for ticket in tickets):
            os.kill(os.getpid(), 9)
"""
BODY = {"task": "feature-extraction", "adapters": [], "timeout_ms": 120_000}


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("poison")
    root = folder / "code"
    for package in ("adapters", "serving"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    listener = root / "serving" / "replicas" / "listener.py"
    text = listener.read_text()
    assert text.count(PLACE) == 1
    listener.write_text(text.replace(PLACE, FAULT + PLACE))
    backbone = make_backbone(folder / "tiny-bert")
    running = Service(backbone, folder / "data", engines=2, gateways=2, port=free_port(), root=root)
    try:
        running.start()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


def dispatched(service) -> str:
    """What all gateways logged of losses, of questions and of convictions, in the order of time."""
    lines = [line for path in service.logged() for line in path.read_text().splitlines() if line.startswith("{")]
    told = [line for line in map(json.loads, lines) if line["part"] == "dispatch"]
    return "\n".join(json.dumps(line) for line in sorted(told, key=lambda line: line["time"]))


def acquainted(service) -> int:
    """How many gateways have answered a prediction: only these know that its rows are harmless."""
    with service.client() as client:
        lines = client.get("/metrics").text.splitlines()
    counted = [line for line in lines if line.startswith("chorus_http_requests_total{")]
    return sum('route="/v1/predict"' in line and 'code="200"' in line for line in counted)


def outcome(answer) -> tuple[int, str]:
    return answer.status_code, "" if answer.is_success else answer.json()["code"]


def test_two_clients_with_one_poisonous_request_cost_two_engines_and_no_other_answer(service):
    poison, harmless = "i i i i i i i", ["i love it", "you hate it !", "i", "cafe i i i"]
    innocent, guilty, engines = Counter(), Counter(), set(service.pids("Engine"))

    async def client(until):
        async with httpx2.AsyncClient(base_url=service.url, timeout=130) as http:
            while not until.is_set():
                innocent[outcome(await http.post("/v1/predict", json={**BODY, "inputs": harmless}))] += 1

    async def attacker():
        async with httpx2.AsyncClient(base_url=service.url, timeout=130) as http:
            for _ in range(8):
                guilty[outcome(await http.post("/v1/predict", json={**BODY, "inputs": [poison]}))] += 1

    async def scenario():
        until, deadline = asyncio.Event(), time.monotonic() + START_S
        clients = [asyncio.create_task(client(until)) for _ in range(8)]
        while await asyncio.to_thread(acquainted, service) < 2:
            assert time.monotonic() < deadline, f"one gateway answers nobody: {innocent}"
            await asyncio.sleep(0.05)
        attacks = asyncio.gather(attacker(), attacker())
        while not attacks.done() or len(await asyncio.to_thread(service.replicas)) < 2:
            assert time.monotonic() < deadline, f"{guilty} {innocent}"
            engines.update(await asyncio.to_thread(service.pids, "Engine"))
            await asyncio.sleep(0.05)
        await attacks
        until.set()
        await asyncio.gather(*clients)

    asyncio.run(scenario())
    found = (dict(guilty), set(innocent), len(engines) <= 2 + 2)  # two that were there, and two that took their place
    expected = ({(422, "poisonous_request"): 16}, {(200, "")}, True)
    assert found == expected, f"{dict(guilty)} {dict(innocent)} {engines}\n{dispatched(service)}"
