import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.api import health


def test_alive_says_ok(client):
    assert client.get("/livez").json() == {"status": "ok"}


def test_ready_when_the_registry_is_read_and_an_engine_answers(client):
    assert client.get("/readyz").json() == {"status": "ok"}


def test_not_ready_tells_every_reason(fakes, client):
    fakes.directory.is_ready = fakes.fleet.is_ready = False
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["code"] == "not_ready"
    assert [fault["detail"] for fault in response.json()["errors"]] == [
        "the registry has not been read yet",
        "no engine answers",
    ]
    assert client.get("/livez").status_code == 200


def test_an_engine_that_does_not_come_back_is_not_ready(fakes, client, monkeypatch):
    async def never() -> bool:
        return await asyncio.Future()

    monkeypatch.setattr(health, "PATIENCE_S", 0.0)
    fakes.fleet.ready = never
    assert "no engine answers" in client.get("/readyz").json()["detail"]


def test_metrics_of_all_processes_carry_their_replica(fakes, client):
    fakes.fleet.texts = {
        f"engine-{i}": f"# HELP chorus_batches_total Passes.\n# TYPE chorus_batches_total counter\nchorus_batches_total {i}\n"
        for i in (1, 2)
    }
    client.get("/livez")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    batches = {s.labels["replica"]: s.value for s in families["chorus_batches"].samples}
    assert batches == {"engine-1": 1.0, "engine-2": 2.0}
    own = families["chorus_http_requests"].samples[0]
    assert own.labels["replica"] == "gateway-1"
    assert own.labels["route"] == "/livez"


def test_a_scrape_tells_of_those_whom_it_lacks_itself(fakes, client):
    async def silent() -> dict[str, str]:
        fakes.services.metrics.replicas_silent.inc(2)
        return {}

    fakes.fleet.metrics = silent
    assert 'chorus_replicas_silent_total{replica="gateway-1"} 2.0' in client.get("/metrics").text


@pytest.fixture
def scrape(fakes, client):
    """The tenants of whom a scrape with a key of `acme` and these scopes tells, by replica."""
    theirs = "".join(f'chorus_tenant_served_rows_total{{tenant="{t}"}} 1.0\n' for t in ("acme", "rival", "other"))
    fakes.fleet.texts = {"engine-1": f"# TYPE chorus_tenant_served_rows_total counter\n{theirs}chorus_rows_total 3.0\n"}
    for tenant in ("acme", "rival"):
        fakes.services.metrics.refused("rate_limited", tenant)
        fakes.services.metrics.sent(tenant, 1, 2)

    def told(*scopes: str) -> dict[str, set[str]]:
        headers = {"authorization": f"Bearer {fakes.keyring.add('acme', *scopes).secret}"} if scopes else {}
        text = client.get("/metrics", headers=headers).text
        assert 'chorus_rows_total{replica="engine-1"} 3.0' in text
        assert 'chorus_gateway_rows_total{replica="gateway-1"} 2.0' in text  # of all: how busy the service is
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if "tenant" in sample.labels:
                    found.setdefault(sample.labels["replica"], set()).add(sample.labels["tenant"])
        return found

    return told


def test_an_operator_reads_nothing_that_was_counted_of_other_tenants(scrape):
    assert scrape("operate") == {"gateway-1": {"acme"}, "engine-1": {"acme"}}
    assert scrape("operate", "predict", "publish") == {"gateway-1": {"acme"}, "engine-1": {"acme"}}


@pytest.mark.parametrize(
    "scopes", [(), ("admin",), ("operate", "admin"), ("metrics",)]
)  # without keys only loopback asks
def test_who_watches_the_service_and_a_keyless_one_read_everything(scrape, scopes):
    told = scrape(*scopes)
    assert told["engine-1"] == {"acme", "rival", "other"}
    assert told["gateway-1"] >= {"acme", "rival"}
