import json

import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from serving.config import Limits
from serving.tenancy.keys import SCOPES
from tests.serving import fakes

ROOT = "/v1/token-embeddings"
OCTETS = {"content-type": "application/octet-stream"}
EMBEDDING = fakes.package_bytes(fakes.adapter_manifest(kind="embedding"))


@pytest.fixture
def held(tmp_path):
    return fakes.make_fakes(tmp_path)


@pytest.fixture
def http(held):
    return TestClient(build_app(held.services), base_url="http://127.0.0.1")


@pytest.fixture
def klingon(http):
    assert http.put(f"{ROOT}/klingon", content=EMBEDDING, headers=OCTETS).status_code == 201


def active(http):
    assert http.get(f"{ROOT}/active").json() == {"name": http.get(ROOT).json()["active"]}
    return http.get(ROOT).json()["active"]


def test_default_is_always_listed_and_active_until_another_is(http, klingon):
    answer = http.get(ROOT).json()
    assert [item["name"] for item in answer["items"]] == ["default", "klingon"]
    assert answer["items"][0]["current"] is None
    assert answer["items"][1]["current"]["vocabulary"] == fakes.adapter_manifest(kind="embedding").embedding.vocabulary
    assert active(http) == "default"


def test_pages_hold_default_once(http, klingon):
    first = http.get(ROOT, params={"limit": 1}).json()
    second = http.get(ROOT, params={"after": "a"}).json()
    assert [[item["name"] for item in page["items"]] for page in (first, second)] == [
        ["default", "klingon"],
        ["klingon"],
    ]
    assert [item["name"] for item in http.get(ROOT, params={"prefix": "k"}).json()["items"]] == ["klingon"]


def test_an_embedding_becomes_active_and_default_again(http, klingon):
    assert http.put(f"{ROOT}/active", json={"name": "klingon"}).json() == {"name": "klingon"}
    assert active(http) == "klingon"
    assert http.put(f"{ROOT}/active", json={"name": "default"}).status_code == 200
    assert active(http) == "default"


def test_deleting_the_active_one_makes_default_active(http, klingon):
    http.put(f"{ROOT}/active", json={"name": "klingon"})
    assert http.delete(f"{ROOT}/klingon").status_code == 204
    assert active(http) == "default"


def test_an_unknown_embedding_does_not_become_active(http, klingon):
    answer = http.put(f"{ROOT}/active", json={"name": "vulcan"})
    assert (answer.status_code, answer.json()["code"]) == (404, "embedding_not_found")
    assert answer.json()["errors"][0]["pointer"] == "/name"
    assert http.put(f"{ROOT}/active", json={"name": "NO NAME"}).json()["errors"][0]["pointer"] == "/name"
    assert active(http) == "default"


def test_of_two_tokenizers_neither_is_blamed(http):
    both = {"reference_embedding": "default", "reference_tokenizer": json.loads(TOKENIZER), "tokenizer": {"x": 1}}
    answer = add(http, **both)
    assert (answer.json()["code"], answer.json()["errors"]) == ("does_not_fit", [])


@pytest.mark.parametrize("body", [{}, {"name": 3}, {"name": "klingon", "x": 1}])
def test_a_wrong_body_is_422(http, klingon, body):
    assert http.put(f"{ROOT}/active", json=body).status_code == 422


def test_default_is_shown_and_neither_replaced_nor_deleted(http):
    assert http.get(f"{ROOT}/default").json()["name"] == "default"
    for answer in (
        http.delete(f"{ROOT}/default"),
        http.put(f"{ROOT}/default", content=EMBEDDING, headers=OCTETS),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "default_embedding")


def test_choosing_needs_the_scope_publish(held, http, klingon):
    weak = held.keyring.add("default", *(SCOPES - {"publish"}))
    headers = {"authorization": f"Bearer {weak.secret}"}
    assert http.put(f"{ROOT}/active", json={"name": "klingon"}, headers=headers).status_code == 403
    assert http.delete(f"{ROOT}/default", headers=headers).status_code == 403
    assert http.get(f"{ROOT}/active", headers=headers).json() == {"name": "default"}


TOKENIZER = fakes.tokenizer_json()


def add(http, name="vulcan", tokenizer=None, **members):
    return http.post(
        ROOT, json={"name": name, "tokenizer": json.loads(TOKENIZER) if tokenizer is None else tokenizer, **members}
    )


def test_adding_makes_publishes_and_activates(held, http):
    answer = add(http, seed=7)
    assert (answer.status_code, answer.headers["location"]) == (201, f"{ROOT}/vulcan@1")
    assert active(http) == "vulcan"
    (extension,) = held.control.extensions
    assert json.loads(extension.tokenizer) == json.loads(TOKENIZER)
    assert (extension.copy, extension.reference, extension.reference_tokenizer, extension.seed) == (
        False,
        None,
        None,
        7,
    )
    assert add(http, "romulan", activate=False).status_code == 201
    assert active(http) == "vulcan"


def test_a_tokenizer_as_text_keeps_its_bytes(held, http):
    text = TOKENIZER.decode().replace("{", "{ ", 1)
    add(http, tokenizer=text, reference_embedding="default", reference_tokenizer=json.loads(TOKENIZER))
    (extension,) = held.control.extensions
    assert extension.tokenizer == text.encode()
    assert extension.copy
    assert extension.reference is None
    assert json.loads(extension.reference_tokenizer) == json.loads(TOKENIZER)


def test_letters_beyond_ascii_arrive_as_they_are(held, http):
    value = json.loads(TOKENIZER)
    value["model"]["vocab"]["größe"] = len(value["model"]["vocab"])
    add(http, tokenizer=value)
    assert "größe".encode() in held.control.extensions[0].tokenizer


def test_a_reference_is_pinned_to_the_version_that_it_means(held, http, klingon):
    assert add(http, reference_embedding="klingon@1").status_code == 201
    (extension,) = held.control.extensions
    assert (extension.copy, extension.reference.version.ref.version) == (True, 1)


def test_a_reference_tokenizer_without_its_embedding_is_refused(held, http):
    answer = add(http, reference_tokenizer=json.loads(TOKENIZER))
    assert (answer.status_code, answer.json()["code"]) == (422, "half_reference")
    assert held.control.extensions == []


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"reference_embedding": "nothing"}, 404, "embedding_not_found", "/reference_embedding"),
        ({"reference_embedding": "NOT A NAME"}, 422, "invalid_name", "/reference_embedding"),
        ({"name": "klingon"}, 409, "name_taken", None),
        ({"name": "default"}, 409, "default_embedding", None),
        ({"name": "active"}, 422, "unprocessable", "/name"),
        ({"name": "NOT A NAME"}, 400, "invalid_name", "/name"),
        ({"tokenizer": ""}, 422, "invalid_value", "/tokenizer"),
        ({"tokenizer": {"x": 1}}, 422, "does_not_fit", "/tokenizer"),
        ({"tokenizer": [1]}, 422, "invalid_value", "/tokenizer"),
        ({"seed": -1}, 422, "invalid_value", "/seed"),
        ({"extra": 1}, 422, "invalid_value", "/extra"),
    ],
)
def test_what_can_not_be_added_says_why(http, klingon, body, status, code, pointer):
    answer = add(http, **body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert active(http) == "default"


def test_adding_needs_the_scope_publish(held, http):
    weak = held.keyring.add("default", *(SCOPES - {"publish"}))
    headers = {"authorization": f"Bearer {weak.secret}"}
    assert http.post(ROOT, json={"name": "x", "tokenizer": "{}"}, headers=headers).status_code == 403


def test_a_tokenizer_may_be_larger_than_a_request(tmp_path):
    held = fakes.make_fakes(tmp_path, limits=Limits(max_body_bytes=100, max_tokenizer_bytes=10_000))
    http = TestClient(build_app(held.services), base_url="http://127.0.0.1")
    assert add(http).status_code == 201
    assert add(http, "romulan", TOKENIZER.decode() + " " * 10_000).status_code == 413
    assert http.put(f"{ROOT}/active", json={"name": "x" * 100}).status_code == 413


def test_a_large_body_is_read_as_strictly_as_a_small_one(held, http):
    text = TOKENIZER.decode() + " " * (2 << 20)
    assert add(http, tokenizer=text).status_code == 201
    assert held.control.extensions[0].tokenizer == text.encode()
    twice = json.dumps({"name": "x", "tokenizer": text})[:-1] + ', "name": "y"}'
    answer = http.post(ROOT, content=twice, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_json")


def test_the_active_one_is_deleted_and_default_is_active_again(http):
    add(http)
    assert http.delete(f"{ROOT}/vulcan").status_code == 204
    assert active(http) == "default"
    assert add(http).json()["version"] == 2
