"""Two gateways and two engines on real Ray Serve: right answers, nothing lost when one dies, nothing left behind."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest

from adapters.architectures.profile import read_profile
from loadtests.synthetic import make_adapters
from serving.premises import refuse_taken, run_folder
from tests.e2e.kills import kill_engines
from tests.e2e.service import ROOT, START_S, Service, free_port, listeners, make_backbone, maps_torch, threads_of

pytestmark = pytest.mark.ray

TEXTS = ("i love it", "you hate it !", "unbelievable", "cafe i i i love you")
NATIVE = {"content-type": "application/octet-stream"}


@pytest.fixture(scope="module")
def temporary(tmp_path_factory):
    """A folder for what the service calls temporary, with a short name: Unix sockets are in it."""
    tmp_path_factory.getbasetemp()  # pytest's own is made at its first use, and not in here
    with tempfile.TemporaryDirectory(prefix="c", dir="/tmp") as place, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", place)
        patch.setattr("tempfile.tempdir", place)
        yield Path(place)


@pytest.fixture(scope="module")
def service(tmp_path_factory, temporary):
    folder = tmp_path_factory.mktemp("cluster")
    backbone, data = make_backbone(folder / "tiny-bert"), folder / "data"
    running = Service(backbone, data, engines=2, gateways=2, port=free_port(), host="127.0.0.2")
    try:
        running.start()
        yield running
    finally:
        if running.process is not None and running.process.poll() is None:
            running.stop()


@pytest.fixture(scope="module")
def adapters(service):
    """Six published adapters of five methods; their labels hold their names."""
    made = make_adapters(read_profile(service.backbone), 6, seed=3)
    with service.client() as client:
        for adapter in made:
            published = client.put(f"/v1/adapters/{adapter.name}", content=adapter.data, headers=NATIVE)
            assert published.status_code == 201, published.text
    return made


def ask(client, name, text=TEXTS[0]):
    return client.post("/v1/predict", json={"inputs": text, "adapters": name})


def scores(answer) -> dict[str, float]:
    assert answer.status_code == 200, answer.text
    return {entry["label"]: entry["score"] for entry in answer.json()["outputs"][0]}


def gateways_of(service) -> list[str]:
    """The addresses of the gateways themselves, behind HAProxy."""
    ports = {port for pid in service.pids("Gateway") for _, port in listeners([pid]) if 30000 <= port <= 31000}
    return [f"http://127.0.0.1:{port}" for port in sorted(ports)]


def test_answers_are_the_same_alone_and_in_a_crowd(service, adapters):
    with service.client() as client:
        alone = {(a.name, text): scores(ask(client, a.name, text)) for a in adapters for text in TEXTS}
    for (name, _), answer in alone.items():
        assert {label.rsplit(".", 1)[0] for label in answer} == {name}

    async def crowd():
        async with httpx2.AsyncClient(base_url=service.url, timeout=60) as client:
            keys = [*alone] * 5
            return keys, await asyncio.gather(*(ask(client, name, text) for name, text in keys))

    keys, answers = asyncio.run(crowd())
    for key, answer in zip(keys, answers, strict=True):
        assert scores(answer) == pytest.approx(alone[key], abs=1e-5)


def test_nothing_listens_but_the_port_that_was_asked_for_and_loopback(service):
    pids = [*service.pids(), service.process.pid]
    found = listeners(pids)
    assert len(found) > 10, "Ray, replicas and HAProxy listen"
    assert [port for address, port in found if address == service.host] == [service.port]
    assert {address for address, _ in found} == {service.host, "127.0.0.1", "::ffff:127.0.0.1"}


def test_only_engines_hold_torch(service):
    gateways, engines = service.pids("Gateway"), service.pids("Engine")
    assert (len(gateways), len(engines)) == (2, 2)
    assert [maps_torch(pid) for pid in (*gateways, *engines)] == [False, False, True, True]
    assert not any(maps_torch(pid) for pid in (service.process.pid, *service.pids("Checker")))


def test_replicas_give_way_to_nobody(service):
    """Ray would run them at its own low priority, behind whatever else the machine has to do."""
    own, replicas = os.getpriority(os.PRIO_PROCESS, 0), service.pids("ServeReplica")
    threads = [thread for pid in replicas for thread in threads_of(pid)]
    assert len(threads) > len(replicas) == 5
    assert [thread for thread in threads if thread.niceness != own] == []


def test_metrics_of_all_processes_are_one_page(service, adapters):
    with service.client() as client:
        page = client.get("/metrics").text
    replicas = {line.split('replica="')[1].split('"')[0] for line in page.splitlines() if 'replica="' in line}
    assert len(replicas) == 4
    assert set(service.replicas()) < replicas


def test_an_engine_that_hangs_hides_no_other_ones_metrics_and_is_counted(service, adapters):
    engine = service.pids("Engine")[0]
    os.kill(engine, signal.SIGSTOP)
    try:
        with service.client() as client:
            page = client.get("/metrics").text
    finally:
        os.kill(engine, signal.SIGCONT)
    found = {line.split('replica="')[1].split('"')[0] for line in page.splitlines() if 'replica="' in line}
    assert len(found) == 3
    assert len(set(service.replicas()) - found) == 1
    silent = [line.split()[-1] for line in page.splitlines() if line.startswith("chorus_replicas_silent_total{")]
    assert sorted(map(float, silent)) == [0.0, 1.0]


def test_an_acknowledged_promote_is_seen_by_every_gateway_at_once(service):
    profile, gateways = read_profile(service.backbone), gateways_of(service)
    assert len(gateways) == 2
    with service.client() as client:
        for version in range(1, 9):
            (adapter,) = make_adapters(profile, 1, seed=100 + version, prefix="hot")
            done = client.put("/v1/adapters/hot?promote=true", content=adapter.data, headers=NATIVE)
            assert (done.status_code, done.json()["version"]) == (201, version)
            for gateway in gateways:
                answer = httpx2.post(f"{gateway}/v1/predict", json={"inputs": "i", "adapters": "hot"}, timeout=60)
                assert answer.json()["target"]["adapters"][0]["version"] == version
                assert scores(answer).keys() == set(adapter.labels)


def pinned_on(service, name) -> int:
    """How many engines hold the name pinned."""
    with service.client() as client:
        replicas = client.get("/v1/residency").json()["replicas"]
    return sum(any(e["pinned"] and f"{name}@1" in e["references"] for e in r["entries"]) for r in replicas)


def test_a_killed_engine_costs_no_request(service, adapters):
    victim = service.pids("Engine")[0]
    with service.client() as client:
        assert client.post(f"/v1/adapters/{adapters[0].name}:pin").status_code == 202
    assert pinned_on(service, adapters[0].name) == 2

    def recovered() -> bool:
        return pinned_on(service, adapters[0].name) == 2  # the new one is made warm as well

    bodies = [
        {"inputs": [f"{TEXTS[i % 4]} {TEXTS[i % 3]}", TEXTS[i % 4], "i"], "adapters": adapters[i % len(adapters)].name}
        for i in range(60)
    ]
    seen = asyncio.run(
        kill_engines(service.url, bodies, lambda: service.pids("Engine"), recovered, kills=1, rate=40, between=60)
    )
    assert not seen.failed
    assert victim not in service.pids()


def test_without_a_gateway_requests_wait_or_are_refused_in_json(service):
    """Both gateways die: Ray's own proxy holds requests until one is back, and what it refuses is a problem."""
    old = service.pids("Gateway")
    answered = Counter()

    async def client(until):
        async with httpx2.AsyncClient(base_url=service.url, timeout=60) as http:
            while not until.is_set():
                try:
                    answer = await http.get("/v1/adapters")
                except httpx2.RemoteProtocolError:  # the connection ended with the gateway that had it on board
                    answered["cut off"] += 1
                    continue
                kind = answer.headers["content-type"]
                assert answer.status_code == 200 or kind == "application/problem+json", answer.text
                assert answer.status_code in (200, 502) or answer.headers["retry-after"], answer.text
                answered[answer.status_code] += 1

    async def scenario():
        until = asyncio.Event()
        clients = [asyncio.create_task(client(until)) for _ in range(4)]
        deadline = time.monotonic() + START_S
        while answered[200] < 20:  # noqa: ASYNC110 - it counts what others see
            await asyncio.sleep(0.01)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        while len(gateways := await asyncio.to_thread(gateways_of, service)) < 2 or answered[200] < 60:
            assert time.monotonic() < deadline, f"{gateways} {answered}"
            await asyncio.sleep(0.05)
        until.set()
        await asyncio.gather(*clients)

    asyncio.run(scenario())
    assert answered["cut off"] <= 8, answered
    assert answered.keys() <= {200, 502, 503, "cut off"}, "neither a 404 for what is there, nor a 500"
    assert not set(old) & set(service.pids("Gateway"))


def test_a_front_whose_starter_died_answers_until_another_takes_over(service):
    old, (starter,) = set(service.pids("haproxy.cfg")), service.pids("HAProxyManager")
    answered, deadline = Counter(), time.monotonic() + START_S
    os.kill(starter, signal.SIGKILL)
    last, fronts = None, old
    while last != 200 or not fronts or fronts & old:
        assert time.monotonic() < deadline, f"{answered} by {fronts} after {old}"
        fronts = set(service.pids("haproxy.cfg"))
        try:
            last = httpx2.get(f"{service.url}/livez").status_code  # 503: the new one has not been told of the gateways
        except httpx2.TransportError:  # accepted by nobody before the old one closed
            last = "cut off"
        answered[last] += 1
    assert answered.keys() <= {200, 503, "cut off"}, answered
    assert answered["cut off"] + answered[503] < answered[200], answered


def test_clients_that_hang_up_cancel_their_rows(service, adapters):
    def count(client, name) -> float:
        lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.split()[-1]) for line in lines)

    body = json.dumps({"inputs": [f"{TEXTS[3]} " * 5] * 256, "adapters": adapters[0].name}).encode()
    head = (
        f"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    with service.client() as client:
        for _ in range(20):  # whether rows are still under way when the news arrives is the machine's choice
            before, connections = count(client, "chorus_gateway_rows_total"), []
            for _ in range(8):
                connections.append(socket.create_connection((service.host, service.port)))
                connections[-1].sendall(f"{head}\r\n\r\n".encode() + body)
            while count(client, "chorus_gateway_rows_total") == before:
                assert client.get("/livez").status_code == 200
            for connection in connections:
                connection.close()
            scores(ask(client, adapters[1].name))
            if count(client, "chorus_cancelled_rows_total"):
                return
    pytest.fail("no row was ever cancelled")


def test_what_the_service_starts_is_not_in_its_group(service):
    groups = {os.getpgid(pid) for pid in service.pids() if pid != service.process.pid}
    assert groups
    assert service.process.pid not in groups, "a signal to its group would end what it has to drain"


def test_a_data_folder_in_use_is_refused(service):
    command = [sys.executable, "-m", "serving.cli", "serve", "--backbone", service.backbone, "--data", service.data]
    done = subprocess.run(
        [*map(str, command), "--port", str(free_port())], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "is being served by another process" in done.stderr
    with service.client() as client:
        assert client.get("/readyz").status_code == 200


def test_after_kill_9_nothing_runs_and_the_same_command_serves_the_same_data(service, adapters, temporary):
    places, run = service.places(), run_folder(service.data)
    session = (run / "ray" / "session_latest").resolve(strict=True)
    assert len(places) > 10, "Ray, HAProxy and the replicas have logs, sockets and shared memory"
    with service.client() as client:
        before = scores(ask(client, adapters[0].name))
    service.kill()
    deadline = time.monotonic() + START_S
    while left := service.pids():
        assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
        time.sleep(0.05)
    refuse_taken(service.host, service.port)
    logged = service.logged()
    service.start()
    assert not session.exists(), "leftovers of the killed run"
    assert [place for place in places if place.exists() and not place.is_relative_to(run)] == []
    assert list(temporary.iterdir()) == [run]
    with service.client() as client:
        assert scores(ask(client, adapters[0].name)) == pytest.approx(before, abs=1e-6)
    assert service.complaints(logged) == []


def test_told_to_stop_it_finishes_what_runs_and_refuses_the_rest_with_a_time(service, adapters, temporary):
    seen, logged, places = Counter(), {}, service.places()

    async def client(number):
        body = {"inputs": [f"{TEXTS[number % 4]} " * 5] * 64, "adapters": adapters[number % len(adapters)].name}
        async with httpx2.AsyncClient(base_url=service.url, timeout=60) as http:
            while True:
                try:
                    answer = await http.post("/v1/predict", json=body)
                except httpx2.ConnectError:
                    return  # nobody listens any more
                told = answer.json()
                seen[answer.status_code, told.get("code"), answer.headers.get("retry-after")] += 1

    async def scenario():
        clients = [asyncio.create_task(client(number)) for number in range(6)]
        while seen.total() < 12:  # noqa: ASYNC110 - it counts what others see
            await asyncio.sleep(0.01)
        logged.update(service.logged())
        code = await asyncio.to_thread(service.stop)
        await asyncio.gather(*clients)
        return code

    assert asyncio.run(scenario()) == 0
    assert seen.keys() <= {(200, None, None), (503, "draining", "5")}, seen
    assert service.complaints(logged) == []
    assert service.pids() == []
    assert list(temporary.iterdir()) == []
    assert [place for place in places if place.exists()] == []
    refuse_taken(service.host, service.port)
