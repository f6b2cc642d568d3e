import asyncio

import pytest

from adapters.manifest import Manifest, TargetSpec
from adapters.refs import parse_reference
from serving.errors import DependencyFailed, NotFound, NotReady
from serving.registry.lookup import nothing_held
from serving.registry.records import CheckReport, Member, Quota
from serving.registry.snapshot import Directory, Snapshot
from serving.request import Share
from serving.tenancy.tenants import TenantStore
from tests.serving.registry.given import ACME, OTHER, REQUIRES, Someone, digest_of, open_registry, report_of

SHARED = Someone("public", "key3")


def add(catalog, data=b"one", name="ada", *, by=ACME, promote=False):
    return catalog.add_version(by, "adapter", name, report_of(data), promote=promote)


class Sql:
    """The catalog as a directory sees it, counted, and cut off at will."""

    def __init__(self, catalog):
        self.catalog = catalog
        self.away = False
        self.reads = 0

    def since(self, revision, held=nothing_held):
        self.reads += 1
        if self.away:
            raise NotReady("away", code="registry_unavailable")
        return self.catalog.since(revision, held)


@pytest.fixture
def sql(catalog):
    return Sql(catalog)


async def resolve(directory, text, tenant="acme", space="adapter"):
    resolved = await directory.resolve(tenant, space, parse_reference(text))
    return resolved.version.ref.version, resolved.resolved_from


def test_every_kind_of_reference_finds_its_version(catalog, sql):
    add(catalog, b"one", promote=True)
    add(catalog, b"two")
    add(catalog, b"three", name="bob")
    add(catalog, b"four", name="bob")
    catalog.set_alias(ACME, "adapter", "ada", "next", 2, if_match=None)

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        assert await resolve(directory, "ada") == (1, "prod")
        assert await resolve(directory, "bob") == (2, None)
        assert await resolve(directory, "ada@2") == (2, None)
        assert await resolve(directory, "ada@next") == (2, "next")
        assert await resolve(directory, f"ada@{digest_of(b'one')}") == (1, None)
        assert sql.reads == 1

    asyncio.run(scenario())


def test_what_is_not_there_is_asked_of_sql_before_it_is_denied(catalog, sql):
    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        add(catalog)  # by another gateway, whose nudge has not come
        assert await resolve(directory, "ada@1") == (1, None)
        add(catalog, b"two")
        assert await resolve(directory, "ada@2") == (2, None)
        for text, why in (
            ("adda", "did you mean 'ada'"),
            ("ada@3", "no version 3"),
            ("ada@blue", "no alias 'blue'"),
            (f"ada@{digest_of(b'x')}", "no version with digest"),
        ):
            with pytest.raises(NotFound, match=why) as caught:
                await resolve(directory, text)
            assert caught.value.code == "adapter_not_found"

    asyncio.run(scenario())


def test_another_tenants_names_are_neither_found_nor_suggested_nor_listed(catalog, sql):
    add(catalog, by=OTHER)

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        with pytest.raises(NotFound) as caught:
            await resolve(directory, "ada")
        assert "mean" not in caught.value.detail
        assert directory.names("acme", "adapter") == []
        assert [record.name for record in directory.names("other", "adapter")] == ["ada"]

    asyncio.run(scenario())


def test_the_two_spaces_are_apart(catalog, sql):
    add(catalog)

    async def scenario():
        directory = Directory(sql)
        with pytest.raises(NotFound) as caught:
            await resolve(directory, "ada", space="embedding")
        assert caught.value.code == "embedding_not_found"

    asyncio.run(scenario())


def test_pins_of_every_tenant_are_told(catalog, sql):
    add(catalog, b"one")
    add(catalog, b"two")
    add(catalog, b"three", name="bob", by=OTHER)
    catalog.set_pin(ACME, "adapter", "ada", 2, pinned=True)
    catalog.set_pin(OTHER, "adapter", "bob", 1, pinned=True)

    async def scenario():
        directory = Directory(sql)
        assert not directory.desired().pins
        await directory.refresh()
        assert sorted(map(str, directory.desired().pins)) == ["acme:ada@2", f"{OTHER.tenant}:bob@1"]
        assert directory.desired().revision == directory.revision

    asyncio.run(scenario())


def test_a_pinned_target_keeps_what_it_is_made_of(catalog, sql):
    held = [add(catalog, data, name).value.version for name, data in (("ada", b"one"), ("bob", b"two"))]
    adapters = {"stack": [f"{version.ref.name}@{version.ref.digest}" for version in held]}
    manifest = Manifest("target", REQUIRES, target=TargetSpec(adapters))
    members = tuple(Member("adapter", version.ref) for version in held)
    report = CheckReport(digest_of(b"target"), 6, manifest, 0, ())
    catalog.add_version(ACME, "adapter", "news", report, promote=False, members=members)
    catalog.set_pin(ACME, "adapter", "news", 1, pinned=True)
    catalog.set_pin(ACME, "adapter", "ada", 1, pinned=True)

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        assert sorted(map(str, directory.desired().pins)) == ["acme:ada@1", "acme:bob@1"]

    asyncio.run(scenario())


def test_public_names_are_found_by_everybody_and_listed_by_their_own(catalog, sql):
    add(catalog, b"one", "public/ada", by=SHARED, promote=True)
    add(catalog, b"two", "ada")

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        for tenant in ("acme", "other", "public"):
            resolved = await directory.resolve(tenant, "adapter", parse_reference("public/ada"))
            assert resolved.version.ref.tenant == "public"
        assert [record.name for record in directory.names("acme", "adapter")] == ["ada"]
        assert [record.name for record in directory.names("public", "adapter")] == ["public/ada"]
        with pytest.raises(NotFound, match="did you mean 'public/ada'"):
            await resolve(directory, "public/adda")
        with pytest.raises(NotFound):
            await resolve(directory, "ada", tenant="public")

    asyncio.run(scenario())


def test_a_retired_version_is_told_apart_to_its_own_tenant_even_where_the_name_is_gone(catalog, sql):
    add(catalog, b"one")
    add(catalog, b"two")
    add(catalog, b"one", "bob")
    catalog.delete(ACME, "adapter", "ada", 1)
    catalog.delete(ACME, "adapter", "bob", None)

    async def code_of(directory, text, tenant="acme"):
        with pytest.raises(NotFound) as caught:
            await resolve(directory, text, tenant)
        return caught.value.code

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        assert [await code_of(directory, text) for text in ("ada@1", "bob@1")] == ["adapter_retired"] * 2
        for text in ("ada@3", "bob@2", "bob", "bob@prod"):
            assert await code_of(directory, text) == "adapter_not_found"
        for text in ("ada@1", "bob@1"):
            assert await code_of(directory, text, "other") == "adapter_not_found"
        add(catalog, b"three", "bob")
        assert await resolve(directory, "bob@2") == (2, None)
        assert await code_of(directory, "bob@1") == "adapter_retired"

    asyncio.run(scenario())


def test_what_is_in_quarantine_is_refused_by_every_reference_and_served_when_healed(catalog, sql):
    add(catalog, b"one", promote=True)
    add(catalog, b"two")
    catalog.quarantine(digest_of(b"one"), "bit rot")

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        for text in ("ada", "ada@1", "ada@prod", f"ada@{digest_of(b'one')}"):
            with pytest.raises(DependencyFailed, match="bit rot") as caught:
                await resolve(directory, text)
            assert caught.value.code == "quarantined"
        assert sql.reads == 1
        assert await resolve(directory, "ada@2") == (2, None)
        await directory.refresh(add(catalog, b"one").revision)
        assert await resolve(directory, "ada") == (1, "prod")

    asyncio.run(scenario())


def test_what_is_in_quarantine_is_not_asked_of_engines(catalog, sql):
    for data in (b"one", b"two"):
        number = add(catalog, data).value.version.ref.version
        catalog.set_pin(ACME, "adapter", "ada", number, pinned=True)
    catalog.quarantine(digest_of(b"one"), "bit rot")

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        assert [str(ref) for ref in directory.desired().pins] == ["acme:ada@2"]

    asyncio.run(scenario())


def test_a_pinned_target_keeps_public_members_too(catalog, sql):
    held = [add(catalog, b"one", "public/ada", by=SHARED), add(catalog, b"two", "bob")]
    refs = [committed.value.version.ref for committed in held]
    manifest = Manifest("target", REQUIRES, target=TargetSpec({"stack": [f"{ref.name}@{ref.digest}" for ref in refs]}))
    report = CheckReport(digest_of(b"target"), 6, manifest, 0, ())
    members = tuple(Member("adapter", ref) for ref in refs)
    catalog.add_version(ACME, "adapter", "news", report, promote=False, members=members)
    catalog.set_pin(ACME, "adapter", "news", 1, pinned=True)

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        assert [str(ref) for ref in directory.desired().pins] == ["public:public/ada@1", "acme:bob@1"]

    asyncio.run(scenario())


def test_quotas_travel_with_the_names_and_make_the_shares(registry, sql):
    tenants = TenantStore(registry.database)
    quota = Quota(weight=2.0, requests_per_s=5.0, device_floor=10, device_ceiling=20)

    async def scenario():
        directory = Directory(sql)
        assert directory.quota("acme") == Quota()
        tenants.put(OTHER, "zoe", Quota(weight=4.0))
        tenants.put(OTHER, "acme", quota)
        tenants.put(OTHER, "plain", Quota(requests_per_s=1.0))
        await directory.refresh()
        assert (directory.quota("acme"), directory.quota("nobody")) == (quota, Quota())
        assert directory.desired().shares == (("acme", Share(2.0, 10, 20)), ("zoe", Share(4.0)))
        tenants.put(OTHER, "acme", Quota(requests_per_s=5.0))
        tenants.delete(OTHER, "zoe")
        await directory.refresh()
        assert (directory.quota("acme"), directory.quota("zoe")) == (Quota(requests_per_s=5.0), Quota())
        assert directory.desired().shares == ()

    asyncio.run(scenario())


def test_known_names_are_served_while_sql_is_away_and_unknown_ones_are_not_denied(catalog, sql):
    add(catalog)

    async def scenario():
        directory = Directory(sql)
        assert not directory.ready()
        await directory.refresh()
        sql.away = True
        assert await resolve(directory, "ada") == (1, None)
        assert directory.ready()
        for text in ("bob", "ada@7"):
            with pytest.raises(NotReady):
                await resolve(directory, text)

    asyncio.run(scenario())


def test_the_task_follows_and_survives_an_absent_database(catalog, sql):
    class Telling(Directory):
        """Says when it has read something."""

        async def refresh(self, at_least=None):
            if await super().refresh(at_least) > 0:
                told.set()
            return self.revision

    told = asyncio.Event()

    async def scenario():
        sql.away = True
        directory = Telling(sql, interval_s=0.001)
        await directory.start()
        assert not directory.ready()
        sql.away = False
        add(catalog)
        await told.wait()
        assert [record.name for record in directory.names("acme", "adapter")] == ["ada"]
        await directory.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_deltas_lead_to_the_same_snapshot_as_a_fresh_read(catalog, sql):
    async def scenario():
        follower = Directory(sql)
        steps = [
            lambda: add(catalog, b"one", promote=True),
            lambda: add(catalog, b"two"),
            lambda: add(catalog, b"three", name="bob"),
            lambda: add(catalog, by=OTHER),
            lambda: catalog.set_alias(ACME, "adapter", "ada", "prod", 2, if_match=None),
            lambda: catalog.delete(ACME, "adapter", "ada", 1),
            lambda: catalog.delete(ACME, "adapter", "bob", None),
            lambda: catalog.add_version(ACME, "embedding", "kli", report_of(b"e", "embedding"), promote=False),
            lambda: catalog.set_active_embedding(ACME, "kli"),
            lambda: catalog.delete(ACME, "embedding", "kli", None),
            lambda: catalog.delete_alias(ACME, "adapter", "ada", "prod", if_match=None),
        ]
        for step in steps:
            step()
            await follower.refresh()
            fresh = Directory(sql)
            await fresh.refresh()
            for tenant in ("acme", "other"):
                for space in ("adapter", "embedding"):
                    assert follower.names(tenant, space) == fresh.names(tenant, space)
                assert follower.active_embedding(tenant) == fresh.active_embedding(tenant)
        assert follower.active_embedding("acme") is None

    asyncio.run(scenario())


def test_a_snapshot_in_use_does_not_change(catalog):
    add(catalog)
    before = Snapshot().apply(catalog.since(0))
    add(catalog, b"two")
    add(catalog, name="bob")
    catalog.delete(ACME, "adapter", "ada", 1)
    after = before.apply(catalog.since(before.revision))
    assert [v.ref.version for v in before.find("acme", "adapter", "ada").versions] == [1]
    assert before.find("acme", "adapter", "bob") is None
    assert [v.ref.version for v in after.find("acme", "adapter", "ada").versions] == [2]


def test_a_flood_of_unknown_names_shares_its_reads(catalog, sql):
    add(catalog)

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        denials = await asyncio.gather(*(resolve(directory, f"x{n}") for n in range(200)), return_exceptions=True)
        assert all(isinstance(denial, NotFound) for denial in denials)
        assert sql.reads <= 3
        sql.away, sql.reads = True, 0
        denials = await asyncio.gather(*(resolve(directory, f"x{n}") for n in range(200)), return_exceptions=True)
        assert all(isinstance(denial, NotReady) for denial in denials)
        assert sql.reads <= 2

    asyncio.run(scenario())


class Gate(Sql):
    """A read is done, but does not return before `let_go` is set."""

    def __init__(self, catalog):
        super().__init__(catalog)
        self.loop = asyncio.get_running_loop()
        self.read_done, self.let_go = asyncio.Event(), asyncio.Event()

    def since(self, revision, held=nothing_held):
        delta = super().since(revision, held)
        self.loop.call_soon_threadsafe(self.read_done.set)
        asyncio.run_coroutine_threadsafe(self.let_go.wait(), self.loop).result()
        return delta


def test_a_refresh_shares_only_reads_that_began_after_it(catalog):
    async def scenario():
        gate = Gate(catalog)
        directory = Directory(gate)
        early = asyncio.create_task(directory.refresh())
        await gate.read_done.wait()
        revision = add(catalog).revision
        late = [asyncio.create_task(directory.refresh(revision)) for _ in range(5)]
        await asyncio.sleep(0)
        gate.let_go.set()
        assert await early == 0
        assert await asyncio.gather(*late) == [revision] * 5
        assert gate.reads == 2

    asyncio.run(scenario())


def test_a_cancelled_read_is_not_taken_for_an_answer(catalog):
    async def scenario():
        gate = Gate(catalog)
        directory = Directory(gate)
        first = asyncio.create_task(directory.refresh())
        await gate.read_done.wait()
        second = asyncio.create_task(directory.refresh())
        third = asyncio.create_task(directory.refresh())
        await asyncio.sleep(0)
        revision = add(catalog).revision
        gate.read_done.clear()
        gate.let_go.set()
        await first
        gate.let_go.clear()
        await gate.read_done.wait()  # the second one's read
        second.cancel()
        await asyncio.sleep(0)
        gate.let_go.set()
        assert await third == revision
        assert gate.reads == 3

    asyncio.run(scenario())


def test_a_revision_that_is_held_already_costs_no_read(catalog, sql):
    revision = add(catalog).revision

    async def scenario():
        directory = Directory(sql)
        await directory.refresh(revision)
        assert await directory.refresh(revision) == revision
        assert sql.reads == 1

    asyncio.run(scenario())


def test_changes_are_counted_also_where_a_revision_comes_again_and_reads_without_news_are_not(catalog, sql, tmp_path):
    standby = open_registry(tmp_path / "standby")
    add(standby.catalog, b"one")
    for content in (b"one", b"lost"):
        add(catalog, content)

    async def scenario():
        directory = Directory(sql)
        seen = [directory.changes]
        for _ in range(2):
            await directory.refresh()
            seen.append(directory.changes)
        sql.catalog = standby.catalog
        assert await directory.refresh() == 1
        seen.append(directory.changes)
        add(standby.catalog, b"other")
        assert await directory.refresh() == 2
        return [*seen, directory.changes]

    assert asyncio.run(scenario()) == [0, 1, 1, 2, 3]
    standby.database.close()


def test_its_age_begins_anew_with_every_read_and_grows_while_sql_is_away(catalog, sql, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("serving.registry.snapshot.time.monotonic", lambda: now[0])

    async def scenario():
        directory = Directory(sql)
        now[0] = 103.0
        assert directory.age_s == 3.0
        await directory.refresh()
        assert directory.age_s == 0.0
        sql.away, now[0] = True, 140.0
        with pytest.raises(NotReady):
            await directory.refresh()
        assert directory.age_s == 37.0
        sql.away = False
        await directory.refresh()
        assert directory.age_s == 0.0

    asyncio.run(scenario())


def test_versions_in_quarantine_are_counted_until_it_is_lifted(catalog, sql):
    add(catalog, b"one")
    add(catalog, b"two", by=OTHER)
    catalog.quarantine(digest_of(b"one"), "lost")
    catalog.quarantine(digest_of(b"two"), "lost")

    async def scenario():
        directory = Directory(sql)
        assert directory.quarantined == 0
        await directory.refresh()
        assert directory.quarantined == 2
        catalog.lift(digest_of(b"one"))
        await directory.refresh()
        assert directory.quarantined == 1

    asyncio.run(scenario())


def test_a_registry_that_went_back_is_read_anew_and_what_it_forgot_is_gone(catalog, sql, tmp_path):
    """A standby took over that had not heard of the last writes."""
    standby = open_registry(tmp_path / "standby")
    for each in (catalog, standby.catalog):
        add(each, b"one")
    add(catalog, b"two")
    add(catalog, b"lost", "bob")

    async def scenario():
        directory = Directory(sql)
        await directory.refresh()
        assert [record.name for record in directory.names("acme", "adapter")] == ["ada", "bob"]
        sql.catalog = standby.catalog
        assert await directory.refresh() == 1
        assert [record.name for record in directory.names("acme", "adapter")] == ["ada"]
        assert await resolve(directory, "ada") == (1, None)
        add(standby.catalog, b"three")
        assert await directory.refresh() == 2
        assert await resolve(directory, "ada") == (2, None)

    asyncio.run(scenario())
    standby.database.close()
