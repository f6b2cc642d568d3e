import asyncio
import re

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.api.quotas import policy, state
from serving.registry.records import Quota
from serving.request import Holding, Refusal
from serving.tenancy.meters import Standing
from tests.serving.samples import PROFILE

LAYERS = PROFILE.geometry.layers
FIELD = r'"[a-z]+"(;[a-z]+=(\d+|"[a-z-]+"))*'  # a String with Integer and String parameters (RFC 9651)


@pytest.fixture
def predict(client, publish):
    publish("sentiment")

    def post(inputs="i love it", **body):
        return client.post("/v1/predict", json={"inputs": inputs, "adapters": "sentiment", **body})

    return post


def limited(fakes, **quota):
    fakes.directory.quotas["default"] = Quota(**quota)


def test_the_fields_are_structured_as_the_draft_has_them():
    standings = (
        Standing("requests", "requests", 50, 12, 1, 1),
        Standing("cost", "cost-units", 9000, 0, 2, 7),
        Standing("concurrency", "concurrent-requests", 4, 3),
    )
    assert policy(standings) == (
        '"requests";q=50;w=1, "cost";q=9000;w=2;qu="cost-units", "concurrency";q=4;qu="concurrent-requests"'
    )
    assert state(standings) == '"requests";r=12;t=1, "cost";r=0;t=7, "concurrency";r=3'
    for field in (policy(standings), state(standings)):
        assert re.fullmatch(rf"{FIELD}(, {FIELD})*", field)


def test_answers_tell_what_is_left_and_refusals_as_well(predict, fakes):
    limited(fakes, requests_per_s=0.02, cost_per_s=1000)
    told = []
    for _ in range(2):
        response = predict()
        assert response.headers["ratelimit-policy"] == '"requests";q=1;w=50, "cost";q=1000;w=1;qu="cost-units"'
        told.append((response.status_code, response.headers["ratelimit"].split(",")[0]))
    assert told == [(200, '"requests";r=0;t=50'), (429, '"requests";r=0;t=50')]


def test_a_quota_that_is_spent_is_a_429_that_says_when(predict, fakes):
    limited(fakes, requests_per_s=0.01)
    assert predict().status_code == 200
    response = predict()
    problem = response.json()
    assert (response.status_code, problem["code"]) == (429, "rate_limited")
    assert response.headers["content-type"] == "application/problem+json"
    assert 98 < problem["retry_after"] <= 100
    assert response.headers["retry-after"] == "100"
    assert float(response.headers["retry-after-ms"]) >= problem["retry_after"] * 1000
    assert problem["error"]["type"] == "rate_limit_error"
    assert len(fakes.submit.seen) == 1


def test_every_kind_of_refusal_carries_the_fields(client, predict, fakes):
    limited(fakes, requests_per_s=100)
    bad = client.post("/v1/predict", content=b"{", headers={"content-type": "application/json"})
    for response, status in (
        (bad, 400),
        (predict(adapters="nope"), 404),
        (predict([]), 422),
        (predict(["i"] * 999), 413),
    ):
        assert response.status_code == status
        assert response.headers["ratelimit"].startswith('"requests";r=')


def test_without_a_quota_and_on_other_routes_there_are_none(client, predict, fakes):
    assert "ratelimit" not in predict().headers
    limited(fakes, requests_per_s=100)
    assert "ratelimit" not in client.get("/v1/limits").headers


def test_who_is_not_known_is_told_nothing_of_anyones_quota(client, fakes):
    limited(fakes, requests_per_s=1)
    fakes.keyring.add("acme", "predict")
    response = client.post("/v1/predict", json={"inputs": "i"})
    assert response.status_code == 401
    assert "ratelimit" not in response.headers


def test_the_quota_is_that_of_the_keys_tenant(client, publish, fakes):
    publish("sentiment", tenant="acme")
    publish("sentiment", tenant="globex")
    fakes.directory.quotas["acme"] = Quota(requests_per_s=1)
    keys = {tenant: fakes.keyring.add(tenant, "predict").secret for tenant in ("acme", "globex")}

    def ask(tenant):
        headers = {"authorization": f"Bearer {keys[tenant]}"}
        return client.post("/v1/predict", json={"inputs": "i", "adapters": "sentiment"}, headers=headers).status_code

    assert ask("acme") == 200
    assert [ask("globex") for _ in range(5)] == [200] * 5
    assert ask("acme") == 429


def test_a_request_over_the_whole_burst_is_a_422_with_numbers(predict, fakes):
    limited(fakes, cost_per_s=100)
    response = predict(["i love it you hate"] * 20)
    problem = response.json()
    cost = 20 * 7 * LAYERS
    assert (response.status_code, problem["code"]) == (422, "costs_too_much")
    assert f"{cost} units" in problem["detail"]
    assert "retry-after" not in response.headers
    assert not fakes.submit.seen


def test_rows_that_the_engines_had_no_room_for_are_given_back(predict, fakes):
    limited(fakes, cost_per_s=100, requests_per_s=1000)
    fakes.submit.refuse[0] = Refusal("", "overloaded", "full", "engine-1", retry_after=0.5)
    for _ in range(30):  # far more than the quota could pay
        response = predict()
        assert (response.status_code, response.json()["code"]) == (429, "overloaded")


def test_rows_that_ran_beside_a_refused_one_are_not(predict, fakes):
    limited(fakes, cost_per_s=0.001)  # as much at once as the longest row has, and then nothing for long
    fakes.submit.refuse[0] = Refusal("", "overloaded", "full", "engine-1")
    inputs = ["i"] * 5
    assert 5 * 3 * LAYERS <= PROFILE.geometry.max_tokens * LAYERS < 2 * 5 * 3 * LAYERS
    assert predict(inputs).json()["code"] == "overloaded"
    assert predict(inputs).json()["code"] == "rate_limited"


def test_a_line_longer_than_the_deadline_is_a_503_before_anything_is_looked_up(predict, fakes, monkeypatch):
    fakes.fleet.held = {
        "e": Holding("e", frozenset(), queued_cost=1000, cost_per_s=100.0, lines=(("default", 1000.0),)),
    }
    monkeypatch.setattr("serving.api.selections.select", lambda *_: pytest.fail("looked up"))
    response = predict(timeout_ms=5000)
    assert (response.status_code, response.json()["code"]) == (503, "overloaded_now")
    assert 5 <= response.json()["retry_after"] <= 12
    assert int(response.headers["retry-after"]) >= 5


def test_the_line_of_another_tenant_refuses_nobody(predict, fakes):
    fakes.fleet.held = {
        "e": Holding("e", frozenset(), queued_cost=1e6, cost_per_s=100.0, lines=(("flood", 1e6),)),
    }
    assert predict(timeout_ms=5000).status_code == 200


def test_requests_at_once_are_bounded_and_a_client_that_hangs_up_makes_room(publish, fakes):
    publish("sentiment")
    limited(fakes, concurrency=1)
    app = build_app(fakes.services)
    waiting, answer = asyncio.Event(), fakes.submit.submit

    async def never(tickets, timeout_s):
        waiting.set()
        await asyncio.Future()

    async def post(gone=None):
        """The status of one request over plain ASGI; its client hangs up when `gone` is set."""
        body = b'{"inputs": "i", "adapters": "sentiment"}'
        messages, status = [{"type": "http.request", "body": body, "more_body": False}], []

        async def receive():
            if messages:
                return messages.pop()
            await (gone or asyncio.Event()).wait()
            return {"type": "http.disconnect"}

        async def send(message):
            status.append(message.get("status"))

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/predict", "headers": headers, "query_string": b""}
        await app(scope, receive, send)
        return status[0] if status else None

    async def scenario():
        gone = asyncio.Event()
        fakes.submit.submit = never
        first = asyncio.create_task(post(gone))
        await waiting.wait()
        assert await post() == 429
        gone.set()
        assert await first is None
        fakes.submit.submit = answer
        assert await post() == 200

    async def bounded():
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


def test_gateways_share_a_quota(publish, fakes):
    publish("sentiment")
    limited(fakes, requests_per_s=0.02)
    fakes.fleet.live_gateways = 4
    client = TestClient(build_app(fakes.services), base_url="http://localhost")
    body = {"inputs": "i", "adapters": "sentiment"}
    assert client.post("/v1/predict", json=body).status_code == 200
    assert 190 < client.post("/v1/predict", json=body).json()["retry_after"] <= 200
