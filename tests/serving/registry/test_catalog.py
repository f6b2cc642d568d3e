from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import exc, text

from serving.errors import Conflict, NotFound, PreconditionFailed
from tests.serving.registry.given import ACME, OTHER, PROFILE, digest_of, report_of


def add(catalog, data=b"one", name="ada", *, by=ACME, space="adapter", promote=False):
    kind = "embedding" if space == "embedding" else "adapter"
    return catalog.add_version(by, space, name, report_of(data, kind), promote=promote).value


def record(catalog, name="ada", *, by=ACME, space="adapter"):
    return catalog.since(0).names.get((by.tenant, space, name))


def audit(catalog, name="ada", space="adapter"):
    return [(entry.action, entry.subject) for entry in catalog.history(ACME.tenant, space, name)]


def test_versions_count_from_one_and_carry_everything_they_were_published_with(catalog):
    first, second = add(catalog, b"one"), add(catalog, b"two")
    assert [first.created, second.created] == [True, True]
    assert [v.ref.version for v in record(catalog).versions] == [1, 2]
    version = record(catalog).versions[1]
    assert version == second.version
    assert version.ref.digest == digest_of(b"two")
    assert (version.nbytes, version.created_by, version.space) == (3, "key1", "adapter")
    assert version.manifest == report_of(b"two").manifest


def test_the_same_bytes_are_the_existing_version_whichever_it_is(catalog):
    add(catalog, b"one")
    add(catalog, b"two")
    for data, number in ((b"two", 2), (b"one", 1)):
        again = add(catalog, data)
        assert not again.created
        assert again.version.ref.version == number
    assert len(record(catalog).versions) == 2


def test_the_same_bytes_under_another_name_or_tenant_are_a_version_of_their_own(catalog):
    add(catalog)
    assert add(catalog, name="bob").created
    assert add(catalog, by=OTHER).created


def test_a_number_is_never_used_twice(catalog):
    add(catalog, b"one")
    add(catalog, b"two")
    catalog.delete(ACME, "adapter", "ada", 2)
    assert add(catalog, b"two").version.ref.version == 3
    catalog.delete(ACME, "adapter", "ada", None)
    assert record(catalog) is None
    assert add(catalog, b"one").version.ref.version == 4


def test_publishing_moves_no_alias_unless_asked(catalog):
    assert add(catalog, b"one", promote=True).promoted == "prod"
    assert add(catalog, b"two").promoted is None
    assert record(catalog).aliases == {"prod": 1}
    assert record(catalog).current.ref.version == 1
    add(catalog, b"two", promote=True)
    assert record(catalog).aliases == {"prod": 2}


def test_a_retried_promote_changes_nothing(catalog):
    add(catalog, promote=True)
    before = record(catalog)
    assert add(catalog, promote=True).promoted == "prod"
    assert record(catalog) == before
    assert len(audit(catalog)) == 2


def test_an_alias_moves_only_from_the_revision_that_was_seen(catalog):
    add(catalog, b"one")
    add(catalog, b"two")
    seen = record(catalog).revision
    moved = catalog.set_alias(ACME, "adapter", "ada", "prod", 1, if_match=seen).value
    assert (moved.record.aliases, moved.was) == ({"prod": 1}, None)
    assert moved.record.revision > seen
    with pytest.raises(PreconditionFailed):
        catalog.set_alias(ACME, "adapter", "ada", "prod", 2, if_match=seen)
    assert record(catalog).aliases == {"prod": 1}
    for was in (1, 2):
        moved = catalog.set_alias(ACME, "adapter", "ada", "prod", 2, if_match=None).value
        assert (moved.record.aliases, moved.was) == ({"prod": 2}, was)


def test_of_moves_at_once_each_tells_where_the_one_before_it_left_the_alias(registry):
    numbers = range(1, 9)
    for number in numbers:
        add(registry.catalog, f"{number}".encode())

    def move(number):
        return registry.catalog.set_alias(ACME, "adapter", "ada", "prod", number, if_match=None).value.was

    with ThreadPoolExecutor(len(numbers)) as threads:
        was = list(threads.map(move, numbers))
    assert {None, *numbers} - set(was) == {record(registry.catalog).aliases["prod"]}


def test_an_alias_is_removed_only_from_the_revision_that_the_caller_saw(catalog):
    add(catalog, promote=True)
    seen = record(catalog).revision
    catalog.set_alias(ACME, "adapter", "ada", "canary", 1, if_match=None)  # somebody was faster
    with pytest.raises(PreconditionFailed):
        catalog.delete_alias(ACME, "adapter", "ada", "prod", if_match=seen)
    present = record(catalog)
    assert present.aliases == {"prod": 1, "canary": 1}
    assert catalog.delete_alias(ACME, "adapter", "ada", "prod", if_match=present.revision).value.aliases == {
        "canary": 1
    }


def test_an_alias_leads_to_a_version_that_is_there(catalog):
    with pytest.raises(NotFound):
        catalog.set_alias(ACME, "adapter", "ada", "prod", 1, if_match=None)
    add(catalog)
    with pytest.raises(NotFound, match="no version 2"):
        catalog.set_alias(ACME, "adapter", "ada", "prod", 2, if_match=None)


def test_what_an_alias_or_a_pin_holds_is_not_deleted(catalog):
    add(catalog, b"one", promote=True)
    add(catalog, b"two")
    catalog.set_pin(ACME, "adapter", "ada", 2, pinned=True)
    for version, holder in ((1, "alias 'prod'"), (2, "a pin"), (None, "alias 'prod' .* a pin")):
        with pytest.raises(Conflict, match=holder):
            catalog.delete(ACME, "adapter", "ada", version)
    catalog.delete_alias(ACME, "adapter", "ada", "prod", if_match=None)
    catalog.delete(ACME, "adapter", "ada", 1)
    assert [v.ref.version for v in record(catalog).versions] == [2]
    catalog.set_pin(ACME, "adapter", "ada", 2, pinned=False)
    catalog.delete(ACME, "adapter", "ada", None)
    assert record(catalog) is None


def test_pinning_twice_is_pinning_once(catalog):
    add(catalog)
    once = catalog.set_pin(ACME, "adapter", "ada", 1, pinned=True).value
    assert once.pinned == {1}
    assert catalog.set_pin(ACME, "adapter", "ada", 1, pinned=True).value == once


def test_another_tenants_name_sounds_exactly_like_one_that_never_was(catalog):
    add(catalog, promote=True)
    for write in (
        lambda name: catalog.set_alias(OTHER, "adapter", name, "prod", 1, if_match=None),
        lambda name: catalog.delete_alias(OTHER, "adapter", name, "prod", if_match=None),
        lambda name: catalog.delete(OTHER, "adapter", name, 1),
        lambda name: catalog.set_pin(OTHER, "adapter", name, 1, pinned=True),
    ):
        refusals = []
        for name in ("ada", "bob"):
            with pytest.raises(NotFound) as caught:
                write(name)
            refusals.append((caught.value.code, caught.value.detail.replace(repr(name), "NAME")))
        assert refusals[0] == refusals[1]
    assert record(catalog).aliases == {"prod": 1}


def test_the_audit_tells_who_did_what_newest_first(catalog):
    add(catalog, b"one", promote=True)
    add(catalog, b"two")
    catalog.set_alias(replace(ACME, key_id="bob"), "adapter", "ada", "prod", 2, if_match=None)
    catalog.delete(ACME, "adapter", "ada", 1)
    assert audit(catalog) == [
        ("retire", "ada@1"),
        ("alias", "ada@prod"),
        ("publish", "ada@2"),
        ("alias", "ada@prod"),
        ("publish", "ada@1"),
    ]
    moved = catalog.history(ACME.tenant, "adapter", "ada")[1]
    assert (moved.actor, moved.detail) == ("bob", "version 2, was version 1")
    assert catalog.history(OTHER.tenant, "adapter", "ada") == ()


@pytest.mark.parametrize(
    "statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "UPDATE versions SET digest = 'x'"]
)
def test_the_database_itself_refuses_to_rewrite_history(registry, statement):
    add(registry.catalog)
    with (
        pytest.raises((exc.IntegrityError, exc.ProgrammingError), match="never change"),
        registry.database.write() as write,
    ):
        write.connection.execute(text(statement))


def test_the_active_embedding_is_the_tenants_own_and_is_there(catalog):
    add(catalog, name="klingon", space="embedding")
    catalog.set_active_embedding(ACME, "klingon")
    assert catalog.since(0).active == {"acme": "klingon"}
    with pytest.raises(NotFound) as caught:
        catalog.set_active_embedding(OTHER, "klingon")
    assert caught.value.code == "embedding_not_found"
    catalog.set_active_embedding(ACME, "default")
    assert catalog.since(0).active == {"acme": None}


def test_deleting_the_active_embedding_makes_default_active(catalog):
    add(catalog, b"one", name="klingon", space="embedding")
    add(catalog, b"two", name="klingon", space="embedding")
    catalog.set_active_embedding(ACME, "klingon")
    catalog.delete(ACME, "embedding", "klingon", 1)
    assert catalog.since(0).active == {"acme": "klingon"}
    catalog.delete(ACME, "embedding", "klingon", 2)
    assert catalog.since(0).active == {"acme": None}


def test_deleting_an_adapter_of_the_same_name_leaves_the_active_embedding(catalog):
    add(catalog, name="klingon", space="embedding")
    add(catalog, name="klingon")
    catalog.set_active_embedding(ACME, "klingon")
    catalog.delete(ACME, "adapter", "klingon", None)
    assert catalog.since(0).active == {"acme": "klingon"}


def test_default_is_the_backbones_own_vocabulary(catalog):
    with pytest.raises(Conflict):
        add(catalog, name="default", space="embedding")
    with pytest.raises(Conflict):
        catalog.delete(ACME, "embedding", "default", None)
    assert add(catalog, name="default").created  # an ordinary name for an adapter


def test_a_registry_remembers_its_backbone_and_refuses_another_by_name(catalog):
    catalog.bind(PROFILE)
    catalog.bind(PROFILE)
    with pytest.raises(Conflict, match=r"made for the backbone 'tiny' .* not for 'big'") as caught:
        catalog.bind(replace(PROFILE, id="big", digest="sha256:" + "2" * 64))
    assert caught.value.code == "other_backbone"


def test_a_refused_write_leaves_no_trace(catalog):
    add(catalog, promote=True)
    before, told = catalog.since(0), audit(catalog)
    with pytest.raises(Conflict):
        catalog.delete(ACME, "adapter", "ada", None)
    assert catalog.since(0) == before
    assert audit(catalog) == told


def test_the_binding_of_a_backbone_is_in_the_audit_once(catalog):
    catalog.bind(PROFILE)
    catalog.bind(PROFILE)
    (entry,) = catalog.audit(None, after=0, limit=9)
    assert (entry.action, entry.actor, entry.subject, entry.detail) == ("bind", "chorus", "tiny", PROFILE.digest)


def test_something_that_changed_nothing_can_be_noted(catalog):
    add(catalog)
    before = record(catalog)
    catalog.note(ACME, "adapter", "ada", "gate", subject="ada@1", detail="not finite", after={"version": 1})
    entry = catalog.history("acme", "adapter", "ada")[0]
    assert (entry.action, entry.actor, entry.detail, entry.after) == ("gate", "key1", "not finite", '{"version":1}')
    assert record(catalog) == before


def test_pins_say_in_the_audit_what_they_were(catalog):
    add(catalog)
    for pinned in (True, True, False):
        catalog.set_pin(ACME, "adapter", "ada", 1, pinned=pinned)
    unpin, pin = catalog.history("acme", "adapter", "ada")[:2]
    assert (pin.action, pin.before, pin.after) == ("pin", '{"pinned":false}', '{"pinned":true}')
    assert (unpin.action, unpin.before, unpin.after) == ("unpin", '{"pinned":true}', '{"pinned":false}')
