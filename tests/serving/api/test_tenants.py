import pytest

from serving.registry.records import Quota
from serving.tenancy.keys import SCOPES

FULL = {
    "weight": 2.0,
    "requests_per_s": 50.0,
    "cost_per_s": 2e5,
    "concurrency": 64,
    "adapters": 10,
    "nbytes": 1 << 30,
    "device_floor": 1 << 20,
    "device_ceiling": 1 << 24,
}


@pytest.fixture
def header(fakes):
    def of(tenant: str, *scopes: str) -> dict[str, str]:
        return {"authorization": f"Bearer {fakes.keyring.add(tenant, *scopes).secret}"}

    return of


def test_a_tenant_is_put_shown_listed_and_forgotten(fakes, client):
    put = client.put("/v1/tenants/acme", json=FULL)
    assert (put.status_code, put.headers["location"]) == (200, "/v1/tenants/acme")
    assert fakes.tenants.held["acme"].quota == Quota(**FULL)
    assert put.json()["quota"] == FULL
    assert client.get("/v1/tenants/acme").json() == put.json()
    assert client.get("/v1/tenants").json() == {"items": [put.json()]}
    assert client.delete("/v1/tenants/acme").status_code == 204
    assert client.get("/v1/tenants/acme").json()["code"] == "tenant_not_found"


def test_a_put_replaces_the_whole_quota(fakes, client):
    client.put("/v1/tenants/acme", json=FULL)
    client.put("/v1/tenants/acme", json={"weight": 3})
    assert fakes.tenants.held["acme"].quota == Quota(weight=3.0)


def test_the_audit_names_the_key_that_wrote(fakes, client, header):
    admin = header("root", "admin")
    client.put("/v1/tenants/acme", json={}, headers=admin)
    client.delete("/v1/tenants/acme", headers=admin)
    assert fakes.tenants.by == ["k1", "k1"]


@pytest.mark.parametrize("body", [{"wieght": 1}, {"concurrency": 1.5}, {"adapters": "7"}, {"weight": None}, []])
def test_a_wrong_body_is_refused_and_changes_nothing(fakes, client, body):
    assert client.put("/v1/tenants/acme", json=body).status_code == 422
    assert not fakes.tenants.held


def test_only_an_administrator_writes_and_lists(client, header):
    for scopes in (SCOPES - {"admin"},):
        headers = header("acme", *scopes)
        assert client.put("/v1/tenants/acme", json={}, headers=headers).status_code == 403
        assert client.delete("/v1/tenants/acme", headers=headers).status_code == 403
        assert client.get("/v1/tenants", headers=headers).status_code == 403


def test_an_operator_sees_the_own_quota_and_nobody_elses(client, header):
    admin, operator = header("root", "admin"), header("acme", "operate")
    for name in ("acme", "other"):
        client.put(f"/v1/tenants/{name}", json={}, headers=admin)
    assert client.get("/v1/tenants/acme", headers=operator).json()["name"] == "acme"
    foreign, absent = (client.get(f"/v1/tenants/{name}", headers=operator) for name in ("other", "never"))
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json()["detail"].replace("other", "never") == absent.json()["detail"]
