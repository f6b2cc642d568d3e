import asyncio
import json

import pytest

from tests.serving import fakes


@pytest.fixture
def published(held):
    async def publish():
        await held.publish("lang", fakes.adapter_manifest())
        await held.publish("task", fakes.adapter_manifest(fakes.head_spec(), method="ia3"))
        await held.publish("klingon", fakes.adapter_manifest(kind="embedding"), space="embedding")

    asyncio.run(publish())


def test_a_target_is_put_and_the_same_again_is_the_same(hand, published):
    result = hand.run("target", "put", "news", "--adapters", "lang+task~klingon", "--head", "task", "--promote")
    assert result.stdout == ""
    assert "published news@1" in result.stderr
    assert "prod moved to it" in result.stderr
    written = json.dumps({"stack": ["lang@1", "task"]})
    again = hand.json("target", "put", "news", "-a", written, "--embedding", "klingon", "--head", "task")
    assert (again["version"], again["created"]) == (1, False)


def test_ls_says_what_each_target_stands_for(hand, published):
    hand.run("target", "put", "news", "-a", "lang+task~klingon", "--promote")
    hand.run("target", "put", "mixed", "-a", '{"average": ["lang", "task"], "weights": [1, 3]}', "--head", "task")
    lines = hand.run("target", "ls").stdout.splitlines()
    assert lines[0].split()[:2] == ["NAME", "VERSION"]
    assert '{"average": ["lang@1", "task@1"], "weights": [1.0, 3.0]}  head task@1' in lines[1]
    assert lines[2].split()[:4] == ["news", "1", "lang@1+task@1~klingon@1", "prod=1"]
    assert [item["name"] for item in hand.json("target", "ls", "ne")["items"]] == ["news"]
    kinds = {item["name"]: item["current"]["kind"] for item in hand.json("ls")["items"]}
    assert kinds == {"lang": "adapter", "task": "adapter", "news": "target", "mixed": "target"}


@pytest.mark.parametrize("command", [("target", "show"), ("show",)])
def test_show_tells_the_members_with_their_versions(hand, published, command):
    hand.run("target", "put", "news", "-a", "lang+task~klingon", "--head", "task")
    lines = hand.run(*command, "news").stdout.splitlines()
    assert "stands for  lang@1+task@1~klingon@1  head task@1" in lines
    assert [line.split()[:2] for line in lines[-4:]] == [
        ["adapter", "lang@1"],
        ["adapter", "task@1"],
        ["head", "task@1"],
        ["embedding", "klingon@1"],
    ]
    assert len(hand.json(*command, "news")["composition"]["members"]) == 4


def test_rm_frees_the_members(hand, published):
    hand.run("target", "put", "news", "-a", "lang+task")
    assert "news@1" in hand.run("rm", "lang", code=4).stderr
    assert hand.run("target", "rm", "news").stdout == "retired news\n"
    hand.run("rm", "lang")
    hand.run("target", "show", "news", code=3)
    hand.run("target", "rm", "task", code=3)


def test_a_wrong_composition_is_told_and_stores_nothing(hand, published):
    hand.run("target", "put", "news", "-a", "{not json", code=2)
    hand.run("target", "put", "news", "-a", '{"stack": ["lang", {"fuse": ["lang", "task"]}]}', code=1)
    hand.run("target", "put", "news", "-a", "lang+nobody", code=3)
    hand.run("target", "put", "lang", "-a", "task", code=4)
    hand.run("target", "put", "news", code=2)
    assert hand.json("target", "ls")["items"] == []
