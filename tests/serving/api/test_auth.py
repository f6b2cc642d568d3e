import re

import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers

from serving.api.app import build_app
from serving.api.auth import OPEN_PATHS, bearer, require
from serving.errors import Unauthenticated
from serving.tenancy.keys import SCOPES


def operations(app: FastAPI) -> list[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def concrete(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "x", path)


@pytest.fixture
def app(fakes):
    return build_app(fakes.services)


def test_without_a_key_every_route_but_the_open_ones_is_closed(fakes, client, app):
    fakes.keyring.add("acme", *SCOPES)
    found = operations(app)
    assert len(found) > 10
    for method, path in found:
        for headers in ({}, {"authorization": "Bearer ck_wrong"}, {"authorization": "Basic abc"}):
            response = client.request(method, concrete(path), headers=headers)
            wanted = 200 if path in OPEN_PATHS else 401
            assert response.status_code == wanted, (method, path, response.text)
            if wanted == 401:
                assert response.headers["www-authenticate"] == "Bearer"


def test_unknown_paths_are_closed_as_well(fakes, client):
    key = fakes.keyring.add("acme", *SCOPES).secret
    for path in ("/", "/v1", "/livez/", "/LIVEZ", "/docs/x", "/admin"):
        assert client.get(path).status_code == 401, path
    assert client.get("/admin", headers={"authorization": f"Bearer {key}"}).status_code == 404


def test_the_description_and_docs_are_open(fakes, client):
    fakes.keyring.add("acme", *SCOPES)
    for path in OPEN_PATHS:
        assert client.get(path).status_code == 200, path


def test_every_closed_route_asks_for_a_scope(fakes, client, app):
    powerless = fakes.keyring.add("acme").secret
    described = app.openapi()["paths"]
    for method, path in operations(app):
        if path not in OPEN_PATHS:
            body = {"json": {}} if "requestBody" in described[path][method.lower()] else {}
            headers = {"authorization": f"Bearer {powerless}"}
            response = client.request(method, concrete(path), headers=headers, **body)
            assert response.status_code == 403, (method, path, response.text)


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_a_key_reaches_what_its_scope_allows(fakes, client, publish, scope):
    publish("sentiment", tenant="acme")
    auth = {"authorization": f"bearer {fakes.keyring.add('acme', scope).secret}"}
    predict = client.post("/v1/predict", json={"inputs": "i", "adapters": "sentiment"}, headers=auth)
    assert predict.status_code == (200 if scope == "predict" else 403)
    assert client.get("/metrics", headers=auth).status_code == (
        200 if scope in ("operate", "admin", "metrics") else 403
    )
    assert client.get("/v1/limits", headers=auth).status_code == 200
    if scope != "predict":
        assert predict.json()["code"] == "missing_scope"
        assert "predict" in predict.json()["detail"]


def test_a_revoked_key_is_closed(fakes, client):
    key = fakes.keyring.add("acme", "predict")
    auth = {"authorization": f"Bearer {key.secret}"}
    assert client.get("/v1/limits", headers=auth).status_code == 200
    fakes.keyring.held[key.secret] = type(key.record)(**{**vars(key.record), "revoked": True})
    assert client.get("/v1/limits", headers=auth).status_code == 401


@pytest.mark.parametrize("values", [["Basic abc"], ["Bearer"], ["Bearer  "], ["ck_1"], ["Bearer a", "Bearer b"], [""]])
def test_a_malformed_header_is_no_key(values):
    with pytest.raises(Unauthenticated):
        bearer(Headers(raw=[(b"authorization", value.encode()) for value in values]))


def test_the_token_is_what_follows_the_scheme():
    assert bearer(Headers({"authorization": "bEaReR ck_1 "})) == "ck_1"
    assert bearer(Headers({})) is None


def test_a_route_can_not_ask_for_nothing_or_for_an_unknown_scope():
    for scopes in ((), ("root",)):
        with pytest.raises(AssertionError):
            require(*scopes)
