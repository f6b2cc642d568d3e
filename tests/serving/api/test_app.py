import asyncio
import json
import sys
from subprocess import run

import httpx2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.api.app import build_app
from serving.api.middleware import AccessLog, BodyCap, LoopbackOnly, RequestId
from serving.api.problems import Problems

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from(["inputs", "adapters", "embedding", "head", "task", "parameters", "timeout_ms", "x"])


def test_no_torch_and_no_ray_come_with_the_front():
    code = (
        "import sys; import serving.api.app; print([m for m in ('torch', 'transformers', 'ray') if m in sys.modules])"
    )
    assert run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_refusals_of_the_middleware_have_an_id_and_a_log_line(fakes):
    order = [item.cls for item in build_app(fakes.services).user_middleware]
    assert order.index(RequestId) < order.index(AccessLog) < order.index(Problems)
    assert order.index(Problems) < order.index(LoopbackOnly)
    assert order.index(Problems) < order.index(BodyCap)


def test_unknown_paths_methods_and_slashes_are_problems(client):
    for method, path, status, code in (
        ("GET", "/nope", 404, "route_not_found"),
        ("GET", "/v1/predict/", 404, "route_not_found"),
        ("GET", "/v1/predict", 405, "method_not_allowed"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
    ):
        response = client.request(method, path)
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/predict").headers["allow"] == "POST"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(body=st.dictionaries(members, json_values, max_size=5) | json_values)
def test_no_body_is_ever_a_500(client, body):
    response = client.post("/v1/predict", content=json.dumps(body), headers={"content-type": "application/json"})
    assert response.status_code in {200, 400, 404, 413, 422}, response.text


def test_requests_at_once_get_their_own_answers(fakes, publish):
    for i in range(8):
        publish(f"a{i}")

    async def scenario() -> list[dict]:
        transport = httpx2.ASGITransport(build_app(fakes.services))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            calls = [client.post("/v1/predict", json={"inputs": "i", "adapters": f"a{i % 8}"}) for i in range(40)]
            return [response.json() for response in await asyncio.gather(*calls)]

    answers = asyncio.run(scenario())
    assert [answer["target"]["adapters"][0]["name"] for answer in answers] == [f"a{i % 8}" for i in range(40)]
    assert len({answer["id"] for answer in answers}) == 40
