import re

import pytest

from serving.api.auth import OPEN_PATHS
from serving.api.schemas import PredictRequest


@pytest.fixture
def schema(client):
    return client.get("/openapi.json").json()


def references(value) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(references(item) for item in value))
    return set()


def test_every_reference_leads_somewhere(schema):
    known = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
    found = references(schema)
    assert found <= known
    assert "#/components/schemas/PredictRequest" in found


def test_every_operation_tells_of_problems_and_of_its_key(schema):
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]
            assert "422" not in operation["responses"]
            assert bool(operation["security"]) == (path not in OPEN_PATHS), path


def test_what_publishing_and_downloading_answer_is_described(client, schema, publish):
    publish("tone")
    operations = schema["paths"]["/v1/adapters/{name}"]
    package = client.get("/v1/adapters/tone:package")
    described = schema["paths"]["/v1/adapters/{name}:package"]["get"]["responses"]["200"]["content"]
    assert list(described) == [package.headers["content-type"]]
    again = client.put(
        "/v1/adapters/tone", content=package.content, headers={"content-type": "application/octet-stream"}
    )
    for status in (str(again.status_code), "201"):
        answer = operations["put"]["responses"][status]["content"]["application/json"]["schema"]
        assert answer == {"$ref": "#/components/schemas/PublishedAnswer"}
    assert again.status_code == 200


def test_operations_have_ids_of_their_own(schema):
    ids = [operation["operationId"] for operations in schema["paths"].values() for operation in operations.values()]
    assert len(ids) == len(set(ids))


def test_the_examples_of_predict_are_accepted(schema):
    model = schema["components"]["schemas"]["PredictRequest"]
    assert model["additionalProperties"] is False
    for example in model["examples"]:
        PredictRequest.model_validate(example)


def test_the_contracts_surfaces_are_there(schema):
    assert {"/v1/predict", "/v1/adapters", "/v1/token-embeddings", "/v1/residency", "/v1/limits"} < set(schema["paths"])
    assert {"/livez", "/readyz", "/metrics"} < set(schema["paths"])


def test_docs_lists_every_path_and_loads_nothing(client, schema):
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in schema["paths"]:
        assert f"<code>{path}</code>" in page.text
    assert not re.findall(r"https?://|<script|<link", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_no_summary_is_made_from_the_name_of_a_function(schema):
    made = [
        operation["summary"]
        for operations in schema["paths"].values()
        for operation in operations.values()
        if operation["summary"].istitle() and len(operation["summary"].split()) > 1
    ]
    assert made == []


def test_only_what_may_be_a_target_is_described_as_one(schema):
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            told = f"{operation['summary']} {operation.get('description', '')}".lower()
            assert "of a target" not in told or not path.startswith("/v1/token-embeddings"), (method, path)
