import pytest
from starlette.testclient import TestClient

from serving.api.app import build_app
from tests.serving import fakes

OCTETS = {"content-type": "application/octet-stream"}
PACKAGE = fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec()))
TOKENIZER = fakes.tokenizer_json().decode()


@pytest.fixture
def held(tmp_path):
    return fakes.make_fakes(tmp_path)


@pytest.fixture
def http(held):
    return TestClient(build_app(held.services), base_url="http://127.0.0.1")


def put(http, key, **options):
    return http.put("/v1/adapters/tone", content=PACKAGE, headers={**OCTETS, "idempotency-key": key}, **options)


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb", "\u00e9".encode()])
def test_a_key_is_1_to_128_printable_characters(http, key):
    answer = put(http, key)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


def test_a_bad_key_is_refused_before_the_body_is_read(http):
    def never():
        yield b"x"
        raise AssertionError("the body was read")

    answer = http.put("/v1/adapters/tone", content=PACKAGE[:1], headers={**OCTETS, "idempotency-key": "x" * 200})
    assert answer.status_code == 400


def test_two_keys_on_one_request_are_refused(http):
    headers = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b"), (b"content-type", b"application/octet-stream")]
    answer = http.put("/v1/adapters/tone", content=PACKAGE, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


def test_keys_of_two_tenants_have_nothing_to_do_with_each_other(held, http):
    for tenant in ("acme", "other"):
        secret = held.keyring.add(tenant, "publish").secret
        headers = {**OCTETS, "idempotency-key": "same", "authorization": f"Bearer {secret}"}
        answer = http.put(f"/v1/adapters/{tenant}", content=PACKAGE, headers=headers)
        assert (answer.status_code, "idempotent-replayed" in answer.headers) == (201, False)


def test_a_target_put_again_is_answered_as_it_was_whatever_its_names_mean_now(http):
    put(http, "a")
    key = {"idempotency-key": "t"}
    body = {"adapters": ["tone"]}
    first = http.put("/v1/targets/news", json=body, headers=key)
    other = fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec(("A", "B"))))
    http.put("/v1/adapters/tone", content=other, headers=OCTETS)
    again = http.put("/v1/targets/news", json=body, headers=key)
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    assert http.put("/v1/targets/news", json={"adapters": ["tone@1"]}, headers=key).status_code == 422
    assert http.put("/v1/targets/news", json=body).json()["version"] == 2


def test_a_vocabulary_that_is_made_again_is_the_one_that_was_made(held, http):
    body, key = {"name": "klingon", "tokenizer": TOKENIZER}, {"idempotency-key": "e"}
    first = http.post("/v1/token-embeddings", json=body, headers=key)
    again = http.post("/v1/token-embeddings", json=body, headers=key)
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    assert len(held.control.extensions) == 1
    assert http.post("/v1/token-embeddings", json=body).status_code == 409
    assert http.post("/v1/token-embeddings", json={**body, "seed": 1}, headers=key).status_code == 422
