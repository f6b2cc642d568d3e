import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.tenancy.keys import SCOPES
from tests.serving import fakes


@pytest.fixture
def held(tmp_path):
    return fakes.make_fakes(tmp_path)


@pytest.fixture
def http(held):
    key = held.keyring.add("acme", *SCOPES, label="root")
    held.keyring.add("other", *SCOPES)
    return TestClient(
        build_app(held.services), base_url="http://127.0.0.1", headers={"authorization": f"Bearer {key.secret}"}
    )


def test_a_new_key_works_for_its_tenant_and_scopes_only(http):
    made = http.post("/v1/keys", json={"scopes": ["predict"], "label": "shop"})
    assert made.status_code == 201
    value = made.json()
    assert (value["tenant"], value["scopes"], value["label"], value["revoked"]) == ("acme", ["predict"], "shop", False)
    headers = {"authorization": f"Bearer {value['secret']}"}
    assert http.get("/v1/adapters", headers=headers).status_code == 200
    assert http.get("/v1/keys", headers=headers).status_code == 403


def test_the_list_tells_no_secret_and_no_other_tenants_key(http):
    secret = http.post("/v1/keys", json={"scopes": ["publish", "predict"]}).json()["secret"]
    answer = http.get("/v1/keys")
    assert [key["tenant"] for key in answer.json()["items"]] == ["acme", "acme"]
    assert answer.json()["items"][1]["scopes"] == ["predict", "publish"]
    assert secret not in answer.text


def test_a_revoked_key_is_refused_and_stays_listed(http):
    made = http.post("/v1/keys", json={"scopes": ["predict"]}).json()
    assert http.delete(f"/v1/keys/{made['key_id']}").status_code == 204
    assert http.get("/v1/adapters", headers={"authorization": f"Bearer {made['secret']}"}).status_code == 401
    assert http.get("/v1/keys").json()["items"][1]["revoked"] is True


def test_another_tenants_key_can_not_be_revoked(held, http):
    assert http.delete("/v1/keys/k2").status_code == 404
    assert not any(record.revoked for record in held.keyring.held.values())


def test_a_key_can_not_hand_on_more_than_it_may_do_itself(held, http):
    weak = held.keyring.add("acme", "operate")
    headers = {"authorization": f"Bearer {weak.secret}"}
    answer = http.post("/v1/keys", json={"scopes": ["operate", "publish"]}, headers=headers)
    assert answer.status_code == 403
    assert "publish" in answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [{}, {"scopes": []}, {"scopes": ["root"]}, {"scopes": "predict"}, {"scopes": ["predict"], "tenant": "other"}],
)
def test_a_wrong_body_is_422(http, body):
    assert http.post("/v1/keys", json=body).status_code == 422
