from datetime import UTC, datetime, timedelta

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
    assert http.post("/v1/keys", json={"scopes": ["metrics"]}, headers=headers).status_code == 403


def test_an_administrator_makes_a_key_that_may_only_watch(held, http):
    headers = {"authorization": f"Bearer {held.keyring.add('acme', 'admin').secret}"}
    made = http.post("/v1/keys", json={"scopes": ["metrics"]}, headers=headers)
    assert (made.status_code, made.json()["scopes"]) == (201, ["metrics"])


@pytest.mark.parametrize(
    "body",
    [{}, {"scopes": []}, {"scopes": ["root"]}, {"scopes": "predict"}, {"scopes": ["predict"], "tenant": "other"}],
)
def test_a_wrong_body_is_422(http, body):
    assert http.post("/v1/keys", json=body).status_code == 422


def test_a_key_says_when_it_expires(http):
    made = http.post("/v1/keys", json={"scopes": ["predict"], "expires_in_s": 60}).json()
    left = datetime.fromisoformat(made["expires"]) - datetime.now(UTC)
    assert timedelta(seconds=0) < left <= timedelta(seconds=60)
    assert http.post("/v1/keys", json={"scopes": ["predict"]}).json()["expires"] is None


@pytest.mark.parametrize("seconds", [0, -1, 1e12, "60"])
def test_an_impossible_lifetime_is_422(http, seconds):
    assert http.post("/v1/keys", json={"scopes": ["predict"], "expires_in_s": seconds}).status_code == 422


def test_a_rotated_key_has_a_successor_with_its_scopes_and_an_end(http):
    old = http.post("/v1/keys", json={"scopes": ["publish"], "label": "ci"}).json()
    new = http.post(f"/v1/keys/{old['key_id']}:rotate", json={"grace_s": 5})
    assert new.status_code == 201
    assert (new.json()["scopes"], new.json()["label"]) == (["publish"], "ci")
    assert new.json()["secret"] != old["secret"]
    held = {key["key_id"]: key for key in http.get("/v1/keys").json()["items"]}
    assert held[old["key_id"]]["expires"] is not None
    assert http.post("/v1/keys/nobody:rotate", json={}).status_code == 404


def test_an_operator_touches_no_other_tenants_keys(held, http):
    weak = {"authorization": f"Bearer {held.keyring.add('acme', 'operate', 'predict').secret}"}
    theirs = {"tenant": "other"}
    assert http.get("/v1/keys", params=theirs, headers=weak).status_code == 403
    assert http.post("/v1/keys", json={"scopes": ["predict"]}, params=theirs, headers=weak).status_code == 403
    assert http.delete("/v1/keys/k2", params=theirs, headers=weak).status_code == 403
    assert http.post("/v1/keys/k2:rotate", json={}, params=theirs, headers=weak).status_code == 403


def test_an_administrator_makes_any_tenants_keys_with_any_scope(held, http):
    admin = {"authorization": f"Bearer {held.keyring.add('root', 'admin').secret}"}
    made = http.post("/v1/keys", json={"scopes": ["publish"]}, params={"tenant": "new"}, headers=admin).json()
    assert (made["tenant"], made["scopes"]) == ("new", ["publish"])
    assert http.delete(f"/v1/keys/{made['key_id']}", params={"tenant": "new"}, headers=admin).status_code == 204


@pytest.mark.parametrize("scopes", [["operate"], ["operate", "predict", "publish"]])
def test_whoever_lacks_a_scope_takes_over_no_key_that_has_it_and_locks_none_out(held, http, scopes):
    root = http.get("/v1/keys").json()["items"][0]["key_id"]
    weak = {"authorization": f"Bearer {held.keyring.add('acme', *scopes).secret}"}
    for answer in (
        http.post(f"/v1/keys/{root}:rotate", json={"grace_s": 0.0}, headers=weak),
        http.delete(f"/v1/keys/{root}", headers=weak),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "missing_scope")
        assert "secret" not in answer.json()
    assert http.get("/v1/tenants").status_code == 200  # the administrator's key is as good as before


def test_an_operator_rotates_and_revokes_keys_that_may_do_as_much(held, http):
    operator = {"authorization": f"Bearer {held.keyring.add('acme', 'operate', 'predict').secret}"}
    made = http.post("/v1/keys", json={"scopes": ["predict"]}, headers=operator).json()
    new = http.post(f"/v1/keys/{made['key_id']}:rotate", json={}, headers=operator)
    assert (new.status_code, new.json()["scopes"]) == (201, ["predict"])
    assert http.delete(f"/v1/keys/{new.json()['key_id']}", headers=operator).status_code == 204


def test_an_administrator_rotates_keys_that_may_do_what_it_may_not(held, http):
    admin = {"authorization": f"Bearer {held.keyring.add('root', 'admin').secret}"}
    theirs = {"tenant": "other"}  # all scopes
    assert http.post("/v1/keys/k2:rotate", json={}, params=theirs, headers=admin).status_code == 201
    assert http.delete("/v1/keys/k2", params=theirs, headers=admin).status_code == 204
