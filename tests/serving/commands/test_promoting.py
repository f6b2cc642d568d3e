import pytest

from serving.commands.promoting import pointed_at
from serving.registry.records import AuditEntry
from serving.request import Refusal
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
        {"at": "", "actor": "", "action": "alias", "subject": subject, "before": None, "detail": detail}
        for subject, detail in (
            ("a@prod", "version 3, was version 2"),
            ("a@ukp", "version 9, was version 8"),
            ("b@prod", "version 7, was version 6"),
            ("a@prod", "was version 5"),
            ("a@prod", "version 1"),
        )
    ]
    assert list(pointed_at(rows, "a")) == [2, 5]


def test_history_of_now_says_it_in_json_and_that_of_before_in_words():
    rows = [
        {"subject": "a@prod", "before": {"version": 4}, "detail": "version 5, was version 9"},
        {"subject": "a@prod", "before": None, "detail": "version 4, was version 3"},
        {"subject": "a@ukp", "before": {"version": 7}, "detail": ""},
    ]
    assert list(pointed_at(rows, "a")) == [4, 3]


def test_a_promote_through_a_gate_tells_what_was_answered(hand, held, publish):
    publish("tone")
    result = hand.run("promote", "tone@1", "--gate", "i love it")
    assert result.stdout == "tone: prod is version 1\n"
    assert "gate passed on engine-1 (device), engine-2 (device): " in result.stderr
    assert "POS" in result.stderr
    assert len(held.submit.seen) == 1
    hand.run("promote", "tone@1", "--gate", '{"text": "i", "text_pair": "it"}')
    assert len(held.submit.seen[-1].input_ids) > len(held.submit.seen[0].input_ids) - 2
    hand.run("promote", "tone@1", "--gate", "{broken", code=2)


def test_a_gate_that_stays_shut_is_an_error_and_nothing_moved(hand, held, publish):
    publish("tone", promote=True)
    publish("tone", OTHER)
    held.submit.refuse[0] = Refusal("", "engine_failed", "not finite", "engine-1")
    assert "not finite" in hand.run("promote", "tone@2", "--gate", "i love it", code=1).stderr
    assert hand.json("show", "tone")["aliases"] == {"prod": 1}
