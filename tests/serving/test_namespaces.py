import json

import pytest

from adapters.errors import InvalidName
from serving.api.app import build_app
from serving.client import Client
from serving.errors import Conflict, NotFound, PreconditionFailed, Unprocessable
from tests.serving import fakes
from tests.serving.server import serve

PACKAGE = fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec()))
OTHER = fakes.package_bytes(fakes.adapter_manifest(method="ia3"))
TOKENIZER = fakes.tokenizer_json()


@pytest.fixture
def held(tmp_path):
    folder = tmp_path / "blobs"
    folder.mkdir()
    return fakes.make_fakes(folder)


@pytest.fixture
def client(held):
    with serve(build_app(held.services)) as url, Client(url) as client:
        client.adapters.publish("tone", PACKAGE)
        client.adapters.publish("lang/sw", OTHER)
        yield client


def test_a_target_is_put_shown_listed_and_deleted(client):
    made = client.targets.put("team/news", ["lang/sw", "tone"], head="tone", promote=True)
    assert (made["version"], made["created"], made["promoted"]) == (1, True, "prod")
    assert client.targets.put("team/news", {"stack": ["lang/sw@1", "tone@1"]}, head="tone")["created"] is False
    shown = client.targets.show("team/news@prod")
    assert shown["composition"]["adapters"] == {"stack": ["lang/sw@1", "tone@1"]}
    assert (shown["composition"]["head"], shown["resolved_from"]) == ("tone@1", "prod")
    assert [item["name"] for item in client.targets.names("team/")] == ["team/news"]
    assert client.targets.names("other") == []
    with pytest.raises(Conflict, match="team/news@1"):
        client.adapters.delete("tone")
    client.adapters.delete_alias("team/news", "prod")
    client.targets.delete("team/news")
    with pytest.raises(NotFound):
        client.targets.show("team/news")


def test_targets_are_listed_in_pages_that_join(client):
    for number in range(3):
        client.targets.put(f"n{number}", "tone")
    page = client.targets._calls.json("GET", "/v1/targets", params={"limit": 2})
    assert (len(page["items"]), page["next"]) == (2, "n1")
    assert [item["name"] for item in client.targets.names()] == ["n0", "n1", "n2"]


def test_a_refused_target_is_the_servers_error_with_its_pointer(client):
    with pytest.raises(NotFound) as caught:
        client.targets.put("news", ["tone", "nobody"])
    assert caught.value.faults[0].pointer == "/adapters/1"
    with pytest.raises(Unprocessable) as refused:
        client.targets.put("news", ["tone"], head="lang/sw")
    assert refused.value.code == "no_head"
    with pytest.raises(InvalidName):
        client.targets.put("../keys", "tone")


def test_an_embedding_is_added_from_text_or_value(client, held):
    made = client.token_embeddings.add("klingon", TOKENIZER.decode(), reference_embedding="default", seed=4)
    assert (made["version"], client.token_embeddings.active()) == (1, "klingon")
    client.token_embeddings.add("vulcan", json.loads(TOKENIZER), reference_embedding="klingon", activate=False)
    assert client.token_embeddings.active() == "klingon"
    first, second = held.control.extensions
    assert (first.tokenizer, first.copy, first.seed) == (TOKENIZER, True, 4)
    assert second.reference.version.ref.name == "klingon"
    with pytest.raises(Conflict):
        client.token_embeddings.add("klingon", TOKENIZER.decode())
    with pytest.raises(Unprocessable, match="both or neither"):
        client.token_embeddings.add("romulan", TOKENIZER.decode(), reference_tokenizer=TOKENIZER.decode())
    client.token_embeddings.delete("klingon")
    assert client.token_embeddings.active() == "default"
    with pytest.raises(Conflict):
        client.token_embeddings.delete("default")


def test_a_call_with_the_same_key_is_answered_as_before_and_every_call_has_one(client, held):
    first = client.adapters.publish("mood", PACKAGE, key="k1")
    assert client.adapters.publish("mood", PACKAGE, key="k1") == first
    assert client.adapters.publish("mood", PACKAGE)["created"] is False
    with pytest.raises(Unprocessable) as caught:
        client.adapters.publish("mood", OTHER, key="k1")
    assert caught.value.code == "idempotency_key_reused"
    made = client.token_embeddings.add("klingon", TOKENIZER.decode(), key="k2")
    assert client.token_embeddings.add("klingon", TOKENIZER.decode(), key="k2") == made
    put = client.targets.put("news", "tone", key="k3")
    assert client.targets.put("news", "tone", key="k3") == put
    assert len(held.control.answers) == 2 + 2 + 2


def test_a_dry_run_and_tags(client):
    told = client.adapters.validate("tone", OTHER, text="i love it")
    assert (told["trial"]["input"], told["outlook"]["version"]) == ("i love it", 2)
    assert client.adapters.set_tags("tone", 1, {"run": "7"})["selected"]["tags"] == {"run": "7"}
    with pytest.raises(NotFound):
        client.adapters.set_tags("tone", 9, {})


def test_tags_are_set_only_while_the_name_is_as_it_was_read(client):
    read = client.adapters.show("tone")["revision"]
    tagged = client.adapters.set_tags("tone", 1, {"run": "7"}, if_match=read)
    assert tagged["revision"] > read
    with pytest.raises(PreconditionFailed, match=str(tagged["revision"])):
        client.adapters.set_tags("tone", 1, {"run": "8"}, if_match=read)
    assert client.adapters.show("tone")["selected"]["tags"] == {"run": "7"}


def test_an_alias_is_moved_through_a_gate(client, held):
    moved = client.adapters.set_alias("tone", "prod", 1, gate={"input": "i love it"})
    assert (moved["was"], moved["gate"]["input"]) == (None, "i love it")
    assert client.adapters.set_alias("tone", "prod", 1, gate=True)["was"] == 1
    assert client.adapters.set_alias("tone", "prod", 1)["gate"] is None
    assert len(held.submit.seen) == 2
