"""Images in JSON: what comes of them, what is refused and where it stands; and what a backbone of images has no use for."""

import numpy as np
import pytest

from serving.api.pictures import BRIEF, unpacked
from serving.errors import TooLarge, Unprocessable
from serving.images.decoding import decoded
from serving.images.frame import Frame
from tests.serving.api.imaged import LABELS, base64, served
from tests.serving.images.samples import drawn, saved

PNG = saved(drawn(31, 20))


@pytest.fixture
def images(tmp_path):
    return served(tmp_path)


@pytest.fixture
def ask(images):
    _, client = images

    def post(inputs, adapters="pets", **members):
        return client.post("/v1/predict", json={"inputs": inputs, "adapters": adapters, **members})

    return post


def faults(answer) -> tuple[int, str, list[str]]:
    told = answer.json()
    return answer.status_code, told["code"], [fault["pointer"] for fault in told["errors"]]


def test_images_become_rows_of_pixels_and_answers_of_labels(images, ask):
    fakes, _ = images
    other = saved(drawn(9, 50, seed=1), "JPEG")
    sources = [base64(PNG), f"data:image/png;base64,{base64(PNG)}", base64(other)]
    told = ask([{"image": source} for source in sources]).json()
    assert told["task"] == "image-classification"
    assert [sorted(item["label"] for item in output) for output in told["outputs"]] == [sorted(LABELS)] * 3
    assert told["outputs"][0] == told["outputs"][1] != told["outputs"][2]
    assert told["usage"] == {"prompt_tokens": 21, "truncated": [False] * 3}
    assert told["target"]["embedding"] is None
    for ticket, data in zip(fakes.submit.seen, (PNG, PNG, other), strict=True):
        expected = np.frombuffer(decoded(data, Frame(8, 12, 2), 1000), np.uint8).reshape(8, 12, 3)
        np.testing.assert_array_equal(ticket.pixels, expected)
        assert ticket.input_ids.tolist() == [0] * 7


def test_one_image_is_one_input_and_an_image_longer_than_brief_is_the_same(ask):
    large = saved(drawn(300, 300))
    assert len(base64(large)) > BRIEF
    told = ask({"image": base64(large)}, parameters={"top_k": 1}).json()
    assert len(told["outputs"]) == len(told["outputs"][0]) == 1


def test_features_need_no_adapter(ask):
    (states,) = ask({"image": base64(PNG)}, adapters=None, task="feature-extraction").json()["outputs"]
    assert np.array(states).shape == (7, 8)


def test_every_image_at_fault_is_named_where_it_stands(ask):
    good = {"image": base64(PNG)}
    answer = ask([{"image": "no base64!"}, good, {"image": base64(PNG[:60])}])
    assert faults(answer) == (422, "malformed_base64", ["/inputs/0/image", "/inputs/2/image"])
    assert faults(ask({"image": base64(b"GIF89a")})) == (422, "unreadable_image", ["/inputs/image"])
    assert faults(ask({"image": 7}))[0] == 422
    assert faults(ask({"image": base64(PNG), "text": "i"}))[0] == 422


@pytest.mark.parametrize(
    "url", ["https://example.com/cat.png", "http:cat.png", "file:///etc/passwd", "data:image/png,x"]
)
def test_nothing_is_fetched(ask, url):
    answer = ask({"image": url})
    assert faults(answer) == (422, "remote_image", ["/inputs/image"])
    assert "nothing is fetched" in answer.json()["detail"]


def test_a_text_is_refused_with_what_to_send(ask):
    answer = ask(["i love it", {"image": base64(PNG)}, {"text": "i"}])
    assert faults(answer) == (422, "wrong_input", ["/inputs/0", "/inputs/2"])
    assert answer.json()["detail"] == 'this backbone (vit) reads images: send {"image": "<base64>"}'


def test_an_image_is_refused_by_a_backbone_of_text(client, publish):
    publish("tone")
    answer = client.post("/v1/predict", json={"inputs": [{"image": base64(PNG)}], "adapters": "tone"})
    assert faults(answer) == (422, "wrong_input", ["/inputs/0"])
    assert answer.json()["detail"] == "this backbone (bert) reads text: send a text"
    told = client.post("/v1/predict", json={"inputs": "i", "adapters": "tone", "task": "image-classification"})
    assert faults(told) == (422, "wrong_task", ["/task"])


def test_bytes_and_pixels_are_bounded(tmp_path):
    _, client = served(tmp_path, max_image_bytes=len(PNG), max_image_pixels=31 * 20)
    ask = {"inputs": {"image": base64(PNG)}, "adapters": "pets"}
    assert client.post("/v1/predict", json=ask).status_code == 200
    for data in (PNG + b"x", saved(drawn(32, 20, "1"))):
        answer = client.post("/v1/predict", json={**ask, "inputs": {"image": base64(data)}})
        assert faults(answer) == (413, "image_too_large", ["/inputs/image"])


def test_a_body_of_images_may_be_larger_than_one_of_texts(tmp_path):
    _, client = served(tmp_path, max_body_bytes=500, max_image_body_bytes=9000)
    ask = {"inputs": {"image": base64(PNG)}, "adapters": "pets"}
    assert client.post("/v1/predict", json=ask).status_code == 200
    assert client.post("/v1/predict", json={**ask, "inputs": {"image": "A" * 9000}}).status_code == 413
    assert client.put("/v1/targets/x", json={"adapters": ["a" * 600]}).status_code == 413


def test_tasks_vocabularies_and_parameters_of_texts_are_refused(ask, images):
    image = {"image": base64(PNG)}
    assert faults(ask(image, task="text-classification")) == (422, "wrong_task", ["/task"])
    assert faults(ask(image, embedding="klingon")) == (422, "no_vocabulary", ["/embedding"])
    assert faults(ask(image, adapters="pets~klingon")) == (422, "no_vocabulary", ["/adapters"])
    assert faults(ask(image, parameters={"stride": 3})) == (422, "wrong_parameter", ["/parameters/stride"])
    _, client = images
    for method, path, body in (
        ("GET", "", {}),
        ("PUT", "/active", {"json": {"name": "x"}}),
        ("POST", "", {"json": {"name": "x", "tokenizer": {}}}),
        ("GET", "/default", {}),
        ("PUT", "/klingon", {"content": b"x"}),
    ):
        answer = client.request(method, f"/v1/token-embeddings{path}", **body)
        assert (answer.status_code, answer.json()["code"]) == (409, "no_vocabulary")


def test_limits_and_lists_tell_what_images_are_asked_for(images):
    _, client = images
    told = client.get("/v1/limits").json()
    assert told["tasks"] == ["image-classification", "feature-extraction"]
    assert (told["max_tokens"], told["max_image_bytes"]) == (7, 10 << 20)
    (item,) = client.get("/v1/adapters/pets").json()["versions"]
    assert item["task"] == "image-classification"


def test_rows_are_counted_with_their_branches(tmp_path):
    _, client = served(tmp_path, max_rows=3)
    ask = {"inputs": [{"image": base64(PNG)}] * 2, "adapters": {"parallel": ["pets", "pets"]}}
    assert faults(client.post("/v1/predict", json=ask))[:2] == (413, "too_many_rows")
    ask["inputs"].pop()
    (branches,) = client.post("/v1/predict", json=ask).json()["outputs"]
    assert [branch["head"] for branch in branches] == ["pets", "pets"]


def test_an_image_is_unpacked_once_it_is_known_to_be_small():
    assert unpacked(base64(PNG), len(PNG)) == PNG
    assert unpacked(PNG, len(PNG)) is PNG
    for source in (base64(PNG), PNG, "A" * 100_000_000):
        with pytest.raises(TooLarge):
            unpacked(source, len(PNG) - 1)
    with pytest.raises(Unprocessable):
        unpacked("====", 10)
