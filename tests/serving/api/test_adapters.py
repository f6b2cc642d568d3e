import asyncio

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from tests.serving import fakes


@pytest.fixture
def held(tmp_path):
    held = fakes.make_fakes(tmp_path)
    for name in ("a", "b/one", "b/two", "c"):
        asyncio.run(held.publish(name))
    return held


@pytest.fixture
def http(held):
    return TestClient(build_app(held.services), base_url="http://127.0.0.1")


def names(answer):
    return [item["name"] for item in answer["items"]]


def test_the_list_is_sorted_and_tells_what_a_bare_name_means(held, http):
    asyncio.run(held.publish("a", fakes.adapter_manifest(method="ia3")))
    answer = http.get("/v1/adapters").json()
    assert names(answer) == ["a", "b/one", "b/two", "c"]
    assert (answer["items"][0]["versions"], answer["items"][0]["current"]["method"]) == ([1, 2], "ia3")


def test_pages_join_to_the_whole_list(http):
    first = http.get("/v1/adapters", params={"limit": 3}).json()
    assert (names(first), first["next"]) == (["a", "b/one", "b/two"], "b/two")
    second = http.get("/v1/adapters", params={"limit": 3, "after": first["next"]}).json()
    assert (names(second), second["next"]) == (["c"], None)


def test_a_prefix_narrows_the_list(http):
    assert names(http.get("/v1/adapters", params={"prefix": "b/"}).json()) == ["b/one", "b/two"]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"page": 2}])
def test_a_wrong_query_is_422(http, query):
    assert http.get("/v1/adapters", params=query).status_code == 422


def test_the_description_names_every_operation_once(http):
    schema = http.get("/openapi.json").json()
    paths = [path for path in schema["paths"] if path.startswith("/v1/adapters")]
    operations = [operation for path in paths for operation in schema["paths"][path].values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == 14
    assert set(schema["paths"]["/v1/adapters/{name}"]) == {"get", "put", "delete"}
    body = schema["paths"]["/v1/adapters/{name}"]["put"]["requestBody"]["content"]
    assert list(body) == ["application/octet-stream"]
