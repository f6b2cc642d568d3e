import json

import pytest

from serving.commands.names import pointed_at
from serving.registry.records import AuditEntry
from tests.serving import fakes

OTHER = fakes.adapter_manifest(fakes.head_spec(("A", "B", "C")))


@pytest.fixture
def publish(held):
    import asyncio

    def run(name, manifest=None, **options):
        return asyncio.run(held.publish(name, manifest, **options))

    return run


def audited(held, *moves, name="tone"):
    """History as the catalog writes it: `prod` of a name moved through versions."""
    rows = [
        AuditEntry(
            1.0, "k1", "default", "alias", f"{name}@prod", f"version {now}" + (f", was version {was}" if was else "")
        )
        for was, now in zip((None, *moves), moves, strict=False)
    ]

    async def history(tenant, space, asked):
        return [AuditEntry(2.0, "k1", tenant, "pin", f"{asked}@1", ""), *reversed(rows)]

    held.control.history = history


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


def test_alias_moves_and_is_removed(hand, publish):
    publish("tone")
    assert hand.run("alias", "tone", "ukp", 1).stdout == "tone: ukp is version 1\n"
    assert hand.run("alias", "tone", "ukp", 1).stdout == "tone: ukp is at version 1 already\n"
    assert hand.run("alias", "tone", "ukp", "--delete").stdout == "tone: ukp removed\n"
    assert hand.json("show", "tone")["aliases"] == {}
    for wrong in (("ukp",), ("ukp", 1, "--delete"), ("ukp", 0)):
        hand.run("alias", "tone", *wrong, code=2)


def test_promote_takes_the_newest_or_the_given_version(hand, publish):
    publish("tone", promote=True)
    publish("tone", OTHER)
    assert hand.run("promote", "tone").stdout == "tone: prod moved from version 1 to 2\n"
    assert hand.run("promote", "tone@1").stdout == "tone: prod moved from version 2 to 1\n"
    hand.run("promote", "tone@7", code=3)


def test_rollback_goes_back_to_where_prod_was(hand, held, publish):
    publish("tone", promote=True)
    publish("tone", OTHER, promote=True)
    audited(held, 1, 2)
    assert hand.run("rollback", "tone").stdout == "tone: prod moved from version 2 to 1\n"
    assert hand.json("show", "tone")["aliases"] == {"prod": 1}


def test_rollback_passes_over_retired_versions(hand, held, publish):
    publish("tone")
    publish("tone", OTHER)
    publish("tone", fakes.adapter_manifest(method="ia3"), promote=True)
    hand.run("rm", "tone@2")
    audited(held, 1, 2, 3)
    assert hand.run("rollback", "tone").stdout == "tone: prod moved from version 3 to 1\n"


def test_rollback_passes_over_what_prod_is_already(hand, held, publish):
    publish("tone")
    publish("tone", OTHER, promote=True)
    rows = [("alias", "version 2"), ("unalias", "was version 2"), ("alias", "version 2, was version 1")]

    async def history(tenant, space, asked):
        return [AuditEntry(1.0, "k1", tenant, action, "tone@prod", detail) for action, detail in rows]

    held.control.history = history
    assert hand.run("rollback", "tone").stdout == "tone: prod moved from version 2 to 1\n"


def test_without_an_earlier_version_rollback_is_a_conflict(hand, held, publish):
    publish("tone", promote=True)
    audited(held, 1)
    assert "no earlier prod" in hand.run("rollback", "tone", code=4).stderr


def test_history_is_read_for_this_names_prod_only():
    rows = [
        {"at": "", "actor": "", "action": "alias", "subject": subject, "detail": detail}
        for subject, detail in (
            ("a@prod", "version 3, was version 2"),
            ("a@ukp", "version 9, was version 8"),
            ("b@prod", "version 7, was version 6"),
            ("a@prod", "was version 5"),
            ("a@prod", "version 1"),
        )
    ]
    assert list(pointed_at(rows, "a")) == [2, 5]


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
