import pytest

from serving.api.app import build_app
from serving.client import Client
from serving.errors import NotFound
from serving.registry.records import Quota
from serving.tenancy.keys import SCOPES
from tests.serving.fakes import make_fakes
from tests.serving.server import serve


@pytest.fixture
def held(tmp_path):
    return make_fakes(tmp_path)


@pytest.fixture
def client(held):
    root = held.keyring.add("root", *SCOPES).secret
    with serve(build_app(held.services)) as url, Client(url, root) as made:
        yield made


def test_a_quota_travels_whole(client, held):
    quota = Quota(weight=2.0, requests_per_s=1.5, concurrency=3, device_ceiling=10)
    assert client.tenants.put("acme", quota)["revision"] == 1
    assert held.tenants.held["acme"].quota == quota
    assert Quota(**client.tenants.show("acme")["quota"]) == quota
    assert [tenant["name"] for tenant in client.tenants.list()] == ["acme"]
    client.tenants.delete("acme")
    with pytest.raises(NotFound):
        client.tenants.show("acme")


def test_keys_of_another_tenant_are_reached_by_name(client, held):
    made = client.keys.of("acme").create(["predict"], "shop", expires_in_s=60.0)
    assert made["tenant"] == "acme"
    new = client.keys.of("acme").rotate(made["key_id"], 1.0)
    assert [key["key_id"] for key in client.keys.of("acme").list()] == [made["key_id"], new["key_id"]]
