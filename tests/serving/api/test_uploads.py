"""An image as the body, with a query for the rest: the same answer as in JSON."""

import pytest

from tests.serving.api.imaged import base64, served
from tests.serving.images.samples import drawn, saved

PNG = saved(drawn(31, 20))


@pytest.fixture
def images(tmp_path):
    return served(tmp_path)[1]


def upload(client, query="adapters=pets", data=PNG, media="image/png"):
    return client.post(f"/v1/predict?{query}", content=data, headers={"content-type": media})


@pytest.mark.parametrize("media", ["image/png", "image/whatever; q=1", "application/octet-stream"])
def test_an_upload_is_answered_as_the_same_image_in_json(images, media):
    body = {"inputs": {"image": base64(PNG)}, "adapters": "pets", "parameters": {"top_k": 2}, "timeout_ms": 5000}
    in_json = images.post("/v1/predict", json=body).json()
    found = upload(images, "adapters=pets&top_k=2&timeout_ms=5000", media=media)
    assert found.status_code == 200, found.text
    for member in ("task", "target", "outputs", "usage"):
        assert found.json()[member] == in_json[member]


def test_a_plus_in_a_query_is_a_stack(images):
    told = upload(images, "adapters=pets+pets").json()
    assert [item["name"] for item in told["target"]["adapters"]] == ["pets"]
    assert upload(images, "adapters=pets%2Bpets").json()["outputs"] == told["outputs"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("adapters=pets&top=2", "query parameter top:"),
        ("adapters=pets&top_k=none", "query parameter top_k:"),
        ("adapters=pets&adapters=pets", "query parameter adapters: it is given twice"),
        ("adapters=pets&embedding=x", "query parameter embedding:"),
    ],
)
def test_fields_that_mean_nothing_are_refused(images, query, told):
    answer = upload(images, query)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")
    assert told in answer.json()["detail"]


def test_what_is_wrong_is_told_as_in_json(tmp_path):
    _, client = served(tmp_path, max_image_bytes=len(PNG))
    assert upload(client, "").json()["code"] == "missing_adapters"
    assert upload(client, "adapters=nobody").status_code == 404
    assert upload(client, data=b"GIF89a").json()["errors"][0]["pointer"] == "/inputs/image"
    assert upload(client, data=PNG + b"x").status_code == 413
    assert upload(client, media="multipart/form-data; boundary=x").status_code == 415
    asked = client.post("/v1/predict?adapters=pets", json={"inputs": {"image": base64(PNG)}})
    assert asked.status_code == 422, "beside JSON a query says nothing"


def test_a_backbone_of_text_takes_no_upload(client, publish):
    publish("tone")
    assert upload(client, "").status_code == 415
    assert "image/*" not in client.get("/openapi.json").text


def test_openapi_tells_of_both_bodies_and_the_query(images):
    told = images.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]
    assert set(told["requestBody"]["content"]) == {"application/json", "image/*", "application/octet-stream"}
    assert {"adapters", "head", "task", "top_k"} <= {field["name"] for field in told["parameters"]}
