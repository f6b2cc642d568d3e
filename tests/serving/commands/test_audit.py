import asyncio

import pytest

from serving.commands import audit as module


@pytest.fixture
def published(held):
    for name in ("a", "b", "c"):
        asyncio.run(held.publish(name))


def test_newest_first_as_many_as_asked_for_over_all_pages(published, hand, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 1)
    assert [row["name"] for row in hand.json("audit", "-n", 2)["items"]] == ["c", "b"]
    assert len(hand.json("audit")["items"]) == 3


def test_of_one_name(published, hand):
    assert [row["name"] for row in hand.json("audit", "b")["items"]] == ["b"]


def test_the_table_says_what_was_before_and_after():
    row = {"before": {"version": 1}, "after": {"version": 2, "note": None}, "detail": ""}
    assert module._change(row) == "version=1 -> version=2"
    assert module._change({"before": None, "after": {"version": 2}, "detail": ""}) == "- -> version=2"
    assert module._change({"before": None, "after": None, "detail": "in words"}) == "in words"


def test_a_row_of_the_table_names_who_and_what(published, hand):
    head, first, *_ = hand.run("audit").stdout.splitlines()
    assert head.split() == ["WHEN", "TENANT", "WHO", "ACTION", "WHAT", "CHANGE", "REQUEST"]
    assert first.split()[1:5] == ["default", "test", "publish", "adapter"]
