import json

import pytest

from tests.serving import fakes

OTHER = fakes.adapter_manifest(fakes.head_spec(("A", "B", "C")))


@pytest.fixture
def publish(held):
    import asyncio

    def run(name, manifest=None, **options):
        return asyncio.run(held.publish(name, manifest, **options))

    return run


def test_ls_shows_one_line_per_name(hand, publish):
    publish("team/tone", promote=True)
    publish("team/tone", OTHER)
    publish("tags", fakes.adapter_manifest(fakes.head_spec(("O", "B"), "token"), method="prefix_tuning"))
    lines = hand.run("ls").stdout.splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "METHOD", "TASK", "LABELS", "ALIASES", "SIZE", "PUBLISHED"]
    assert lines[1].split()[:4] == ["tags", "1", "prefix_tuning", "token-classification"]
    assert lines[2].split()[:3] == ["team/tone", "1", "lora"]
    assert "prod=1" in lines[2]
    assert [item["name"] for item in hand.json("ls")["items"]] == ["tags", "team/tone"]
    assert [item["name"] for item in hand.json("ls", "team/")["items"]] == ["team/tone"]


def test_a_long_line_is_not_cut_in_a_pipe(hand, publish):
    name = "n" * 60 + "/" + "m" * 60
    publish(name, fakes.adapter_manifest(fakes.head_spec([f"label-{i}" for i in range(9)])))
    line = hand.run("ls").stdout.splitlines()[1]
    assert line.startswith(name)
    assert "label-3 and 5 more" in line


def test_ls_of_embeddings_marks_the_active_one(hand, publish):
    publish("klingon", fakes.adapter_manifest(kind="embedding"), space="embedding")
    assert "default *" in hand.run("ls", "--embedding").stdout
    assert hand.run("activate", "klingon").stdout == "active token embedding: klingon\n"
    assert "klingon *" in hand.run("ls", "--embedding").stdout
    assert hand.json("ls", "--embedding")["active"] == "klingon"


def test_show_marks_the_version_that_is_meant(hand, publish):
    publish("tone", promote=True)
    publish("tone", OTHER)
    head, _columns, *rows = hand.run("show", "tone@prod").stdout.splitlines()
    assert head == "tone  revision 2"
    assert [row.split()[:2] for row in rows] == [["2", "lora"], [">", "1"]]
    assert hand.json("show", "tone@2")["selected"]["version"] == 2


def test_rm_retires_and_a_held_version_is_a_conflict(hand, publish):
    publish("tone", promote=True)
    assert hand.run("rm", "tone", code=4).stdout == ""
    publish("tone", OTHER)
    assert hand.run("rm", "tone@2").stdout == "retired tone@2\n"


def test_pull_writes_the_package(hand, publish, tmp_path):
    publish("tone")
    hand.run("pull", "tone@1", tmp_path / "tone.safetensors")
    data = (tmp_path / "tone.safetensors").read_bytes()
    assert data == fakes.package_bytes(fakes.adapter_manifest(fakes.head_spec()))


def test_json_answers_keep_letters_as_they_are(hand, publish):
    publish("tone", fakes.adapter_manifest(fakes.head_spec(("größe", "良い"))))
    text = hand.run("show", "tone", "--json").stdout
    assert "良い" in text
    assert json.loads(text)["selected"]["labels"] == ["größe", "良い"]


def test_history_tells_who_did_what(hand, publish):
    publish("tone")
    hand.run("alias", "tone", "prod", 1)
    lines = hand.run("history", "tone").stdout.splitlines()
    assert lines[0].split() == ["AT", "ACTOR", "ACTION", "SUBJECT", "DETAIL", "REQUEST"]
    assert [item["action"] for item in hand.json("history", "tone")["items"]][-1] == "publish"
    assert len(lines) == 3
    hand.run("history", "nobody", code=3)
