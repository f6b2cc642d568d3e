from dataclasses import replace

import pytest
from sqlalchemy import exc, func, select

from adapters.manifest import Manifest, TargetSpec
from serving.errors import Conflict, NotFound
from serving.registry.records import CheckReport, Member
from serving.registry.tables import MEMBERS, VERSIONS
from tests.serving.registry.given import ACME, OTHER, REQUIRES, Someone, digest_of, report_of

SHARED = Someone("public", "key3")


def add(catalog, name, data=b"one", *, by=ACME, space="adapter"):
    version = catalog.add_version(by, space, name, report_of(data, space), promote=False).value.version
    return Member(space, version.ref)


def target(catalog, name, *members, by=ACME, promote=False):
    adapters = {"stack": [f"{m.ref.name}@{m.ref.digest}" for m in members if m.space == "adapter"]}
    manifest = Manifest("target", REQUIRES, target=TargetSpec(adapters))
    report = CheckReport(digest_of(str(adapters).encode()), 8, manifest, 0, ())
    return catalog.add_version(by, "adapter", name, report, promote=promote, members=members).value


def rows(registry):
    with registry.database.read() as connection:
        return connection.execute(select(func.count()).select_from(MEMBERS)).scalar_one()


def test_what_a_target_is_made_of_can_not_be_retired_before_it(registry):
    catalog = registry.catalog
    lang, task, words = add(catalog, "lang"), add(catalog, "task"), add(catalog, "klingon", space="embedding")
    target(catalog, "news", lang, task, words)
    for space, name, version in (("adapter", "lang", 1), ("adapter", "task", None), ("embedding", "klingon", None)):
        with pytest.raises(Conflict, match=r"held by the target news@1 \(version 1\)") as caught:
            catalog.delete(ACME, space, name, version)
        assert caught.value.code == "held"
    catalog.delete(ACME, "adapter", "news", None)
    assert rows(registry) == 0
    for space, name in (("adapter", "lang"), ("adapter", "task"), ("embedding", "klingon")):
        catalog.delete(ACME, space, name, None)
    assert set(catalog.since(0).names.values()) == {None}


def test_only_the_held_version_stays(catalog):
    target(catalog, "news", add(catalog, "lang", b"one"))
    add(catalog, "lang", b"two")
    catalog.delete(ACME, "adapter", "lang", 2)
    with pytest.raises(Conflict):
        catalog.delete(ACME, "adapter", "lang", 1)


def test_every_version_of_a_target_holds_its_own_members_and_each_is_named(catalog):
    lang, task = add(catalog, "lang"), add(catalog, "task")
    target(catalog, "news", lang)
    target(catalog, "news", lang, task)
    target(catalog, "gossip", lang, promote=True)
    with pytest.raises(Conflict, match=r"the target gossip@1 .* the target news@1 .* the target news@2"):
        catalog.delete(ACME, "adapter", "lang", None)
    catalog.delete(ACME, "adapter", "news", 2)
    catalog.delete(ACME, "adapter", "task", None)
    with pytest.raises(Conflict, match="alias 'prod'"):
        catalog.delete(ACME, "adapter", "gossip", None)


def test_many_holders_are_counted_not_listed(catalog):
    lang = add(catalog, "lang")
    for number in range(13):
        target(catalog, f"news{number:02}", lang)
    with pytest.raises(Conflict, match=r"news09@1 .* and 3 more"):
        catalog.delete(ACME, "adapter", "lang", None)


def test_the_same_target_again_is_the_existing_version(registry):
    lang = add(registry.catalog, "lang")
    first, again = (target(registry.catalog, "news", lang, lang) for _ in range(2))
    assert (first.created, again.created) == (True, False)
    assert again.version == first.version
    assert rows(registry) == 1


def test_a_member_that_was_retired_meanwhile_leaves_no_target(registry):
    catalog = registry.catalog
    lang, task = add(catalog, "lang"), add(catalog, "task")
    add(catalog, "task", b"two")
    catalog.delete(ACME, "adapter", "task", 1)
    with pytest.raises(NotFound, match="'task' has no version with digest"):
        target(catalog, "news", lang, task)
    catalog.delete(ACME, "adapter", "lang", None)
    with pytest.raises(NotFound, match="no adapter 'lang'"):
        target(catalog, "news", lang)
    assert ("acme", "adapter", "news") not in catalog.since(0).names


def test_a_member_of_another_tenant_is_as_absent_as_none(catalog):
    lang = add(catalog, "lang")
    with pytest.raises(NotFound, match="no adapter 'lang'"):
        target(catalog, "news", lang, by=OTHER)
    add(catalog, "lang", by=OTHER)
    target(catalog, "news", replace(lang, ref=replace(lang.ref, tenant="other")), by=OTHER)
    catalog.delete(ACME, "adapter", "lang", None)


def test_a_target_may_be_made_of_public_versions_which_then_stay(catalog):
    lang, task = add(catalog, "public/lang", by=SHARED), add(catalog, "task")
    for by in (ACME, OTHER):
        own = [task] if by is ACME else []
        target(catalog, "news", lang, *own, by=by)
    target(catalog, "gossip", lang)
    with pytest.raises(Conflict, match=r"held by targets of other tenants \(2\): move") as caught:
        catalog.delete(SHARED, "adapter", "public/lang", 1)
    assert "news" not in caught.value.detail
    target(catalog, "public/news", lang, by=SHARED)
    with pytest.raises(Conflict, match=r"the target public/news@1 .*, targets of other tenants \(2\)"):
        catalog.delete(SHARED, "adapter", "public/lang", None)
    for by, name in ((SHARED, "public/news"), (OTHER, "news"), (ACME, "gossip"), (ACME, "news")):
        catalog.delete(by, "adapter", name, None)
    catalog.delete(SHARED, "adapter", "public/lang", None)


def test_a_public_member_is_the_public_tenants_version_and_no_other(catalog):
    lang = add(catalog, "public/lang", by=SHARED)
    for wrong in (
        replace(lang, ref=replace(lang.ref, tenant="acme")),
        replace(lang, ref=replace(lang.ref, version=2)),
        replace(lang, ref=replace(lang.ref, digest=digest_of(b"two"))),
    ):
        with pytest.raises(NotFound):
            target(catalog, "news", wrong)
    with pytest.raises(NotFound, match="no adapter 'public/task'"):
        target(catalog, "news", replace(lang, ref=replace(lang.ref, name="public/task")))


def test_the_database_itself_keeps_public_members(registry):
    lang = add(registry.catalog, "public/lang", by=SHARED)
    target(registry.catalog, "news", lang)
    with pytest.raises(exc.IntegrityError), registry.database.write() as write:
        write.connection.execute(VERSIONS.delete().where(VERSIONS.c.name == "public/lang"))


def test_targets_and_packages_do_not_share_a_name(catalog):
    lang = add(catalog, "lang")
    with pytest.raises(Conflict, match="'lang' is the name of a package") as caught:
        target(catalog, "lang", lang)
    assert caught.value.code == "other_kind"
    target(catalog, "news", lang)
    with pytest.raises(Conflict, match="'news' is the name of a target"):
        add(catalog, "news")
    catalog.delete(ACME, "adapter", "news", None)
    assert add(catalog, "news").ref.version == 2  # free again; its numbers go on


def test_the_database_itself_keeps_what_a_target_is_made_of(registry):
    lang = add(registry.catalog, "lang")
    target(registry.catalog, "news", lang)
    with pytest.raises(exc.IntegrityError), registry.database.write() as write:
        write.connection.execute(VERSIONS.delete().where(VERSIONS.c.name == "lang"))


def test_a_new_embedding_is_active_from_its_first_moment_and_takes_no_name_twice(catalog):
    made = catalog.add_embedding(ACME, "klingon", report_of(b"one", "embedding"), activate=True)
    assert (made.value.created, made.value.version.ref.version) == (True, 1)
    delta = catalog.since(made.revision - 1)
    assert delta.active == {"acme": "klingon"}
    assert ("acme", "embedding", "klingon") in delta.names
    with pytest.raises(Conflict, match="there already") as caught:
        catalog.add_embedding(ACME, "klingon", report_of(b"one", "embedding"), activate=True)
    assert caught.value.code == "name_taken"
    catalog.add_embedding(ACME, "vulcan", report_of(b"two", "embedding"), activate=False)
    assert catalog.since(0).active == {"acme": "klingon"}
    with pytest.raises(Conflict, match="backbone's own"):
        catalog.add_embedding(ACME, "default", report_of(b"two", "embedding"), activate=False)
