import asyncio
from contextlib import contextmanager

import httpx2
import pytest

from adapters.errors import InvalidName
from serving.api.app import build_app
from serving.client import Client, image_input
from serving.errors import (
    Conflict,
    NotFound,
    NotReady,
    PreconditionFailed,
    Unauthenticated,
    Unprocessable,
    UnsupportedMedia,
)
from serving.namespaces import Packages
from serving.request import ReplicaReport
from serving.tenancy.keys import SCOPES
from tests.serving import fakes
from tests.serving.api import imaged
from tests.serving.images.samples import drawn, saved
from tests.serving.samples import head_of
from tests.serving.server import serve

PACKAGE = fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec()))
OTHER = fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec(("A", "B", "C"))))


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder)


@pytest.fixture
def client(held):
    with serve(build_app(held.services)) as url, Client(url) as client:
        yield client


def test_a_prediction_names_what_answered(client):
    client.adapters.publish("tone", PACKAGE, promote=True)
    answer = client.predict(["i love it", {"text": "i", "text_pair": "you"}], "tone", parameters={"top_k": 1})
    assert answer["task"] == "text-classification"
    assert [len(output) for output in answer["outputs"]] == [1, 1]
    assert answer["target"]["adapters"][0]["name"] == "tone"
    assert client.predict("i love it", [], task="feature-extraction")["task"] == "feature-extraction"


def test_a_prediction_belongs_to_the_trace_that_is_named():
    told = []

    def answer(request):
        told.append(request.headers.get("traceparent"))
        return httpx2.Response(200, json={"id": "req_1"})

    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Client(transport=httpx2.MockTransport(answer)) as client:
        client.predict("i", "tone", traceparent=parent)
        client.predict("i", "tone")
    assert told == [parent, None]


def test_every_form_of_input_travels(client):
    client.adapters.publish("reader", fakes.package_bytes(fakes.adapter_manifest(head_of("question_answering"))))
    client.adapters.publish("chooser", fakes.package_bytes(fakes.adapter_manifest(head_of("multiple_choice"))))
    (answer,) = client.predict([{"question": "i", "context": "you love it"}], ["reader"])["outputs"]
    assert set(answer) == {"answer", "score", "start", "end"}
    (choices,) = client.predict({"text": "i", "choices": ["it", "you"]}, {"stack": ["chooser"]})["outputs"]
    assert [set(choice) for choice in choices] == [{"label", "score", "index"}] * 2


def test_a_refused_prediction_is_the_servers_error_with_its_pointer(client):
    with pytest.raises(NotFound) as caught:
        client.predict("i", ["nothing"])
    assert caught.value.code == "adapter_not_found"
    assert caught.value.faults[0].pointer == "/adapters/0"


def test_a_file_is_streamed_and_its_progress_told(client, tmp_path):
    file = tmp_path / "tone.safetensors"
    file.write_bytes(PACKAGE)
    told = []
    answer = client.adapters.publish("team/tone", file, progress=told.append)
    assert (answer["version"], answer["created"], answer["promoted"]) == (1, True, None)
    assert told[-1] == len(PACKAGE)
    assert client.adapters.publish("team/tone", file)["created"] is False
    assert client.adapters.fetch("team/tone@1", tmp_path / "back") == len(PACKAGE)
    assert (tmp_path / "back").read_bytes() == PACKAGE


def test_a_download_that_breaks_leaves_what_was_there(tmp_path):
    class Torn:
        @contextmanager
        def download(self, path):
            def chunks():
                yield PACKAGE[:10]
                raise NotReady("gone")

            yield chunks()

    (tmp_path / "tone").write_bytes(b"before")
    with pytest.raises(NotReady):
        Packages(Torn(), "/v1/adapters").fetch("tone", tmp_path / "tone")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"before"]


def test_a_refused_upload_is_the_servers_error(client):
    with pytest.raises(Unprocessable):
        client.adapters.publish("tone", b"nonsense")
    with pytest.raises((Unprocessable, UnsupportedMedia)):
        client.adapters.validate("tone", b"\x80\x04pickle")
    assert client.adapters.validate("tone", PACKAGE)["labels"] == ["NEG", "POS"]
    assert client.adapters.names() == []


def test_names_are_collected_over_all_pages(client, held):
    wanted = [f"n{number:04}" for number in range(501)]

    async def publish():
        for name in wanted:
            await held.publish(name)

    asyncio.run(publish())
    assert [item["name"] for item in client.adapters.names()] == wanted
    assert [item["name"] for item in client.adapters.names("n000")] == wanted[:10]


def test_aliases_move_and_an_outdated_revision_is_refused(client):
    client.adapters.publish("tone", PACKAGE)
    client.adapters.publish("tone", OTHER)
    before = client.adapters.show("tone")
    moved = client.adapters.set_alias("tone", "prod", 1, if_match=before["revision"])
    assert moved["aliases"] == {"prod": 1}
    with pytest.raises(PreconditionFailed):
        client.adapters.set_alias("tone", "prod", 2, if_match=before["revision"])
    with pytest.raises(Conflict):
        client.adapters.delete("tone@1")
    assert client.adapters.delete_alias("tone", "prod")["aliases"] == {}
    client.adapters.delete("tone@1")
    assert [version["version"] for version in client.adapters.show("tone")["versions"]] == [2]
    assert len(client.adapters.history("tone")) == 5


def test_replicas_report(client, held):
    client.adapters.publish("tone", PACKAGE)
    assert client.adapters.act("tone@1", "pin")["replicas"]["engine-1"] == "device"
    held.fleet.told = [ReplicaReport("engine-1", True, {}, {}, {}, (), 0, 0)]
    assert [replica["replica"] for replica in client.residency()["replicas"]] == ["engine-1"]


def test_embeddings_have_an_active_one(client):
    client.token_embeddings.publish("klingon", fakes.package_bytes(fakes.adapter_manifest(kind="embedding")))
    client.token_embeddings.set_active("klingon")
    assert client.token_embeddings.active() == "klingon"
    client.token_embeddings.delete("klingon")
    assert client.token_embeddings.active() == "default"


def test_keys_open_the_door_and_close_it_again(client, held):
    root = held.keyring.add("acme", *SCOPES).secret
    with pytest.raises(Unauthenticated):
        client.adapters.names()
    with Client(client.url, root) as operator:
        made = operator.keys.create(["predict"], "shop")
        with Client(client.url, made["secret"]) as shop:
            assert shop.adapters.names() == []
            operator.keys.revoke(made["key_id"])
            with pytest.raises(Unauthenticated):
                shop.adapters.names()
        assert [key["revoked"] for key in operator.keys.list()] == [False, True]


def test_readiness_and_limits_are_told(client, held):
    client.ready()
    assert client.limits()["profile"] == fakes.PROFILE.to_json()


@pytest.mark.parametrize("reference", ["../keys", "a/../../keys", "a b", "a?x=1", ""])
def test_a_reference_can_not_leave_its_path(client, reference):
    with pytest.raises(InvalidName):
        client.adapters.show(reference)


def test_an_image_is_an_input(tmp_path):
    made, application = imaged.served(tmp_path)
    data = saved(drawn(20, 20))
    path = tmp_path / "cat.png"
    path.write_bytes(data)
    with serve(application.app) as url, Client(url) as client:
        told = client.predict([image_input(path), image_input(data)], "pets")
    assert told["task"] == "image-classification"
    assert told["outputs"][0] == told["outputs"][1]
    assert made.submit.seen[0].pixels.shape == (8, 12, 3)
