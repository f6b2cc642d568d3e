"""A database of the release before, written by its own statements, is read whole; and that release writes on beside."""

import pytest
from sqlalchemy import create_engine, event, text

from adapters.manifest import to_json
from adapters.refs import AdapterRef
from serving.registry import database as databases
from serving.registry.catalog import Catalog
from serving.registry.database import Database
from serving.registry.records import AliasMove
from serving.tenancy.store import KeyStore
from tests.serving.registry.given import ACME, digest_of, manifest_of, report_of

ONE, TWO, SET = digest_of(b"one"), digest_of(b"two"), digest_of(b"set")


def write(url, *statements):
    engine = databases._engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement), {"manifest": to_json(manifest_of("adapter"))})
    engine.dispose()


def row(table, **values):
    """The statement by which the release before inserted a row: it knows no other columns."""
    shown = {None: "NULL", False: "false"}
    told = ", ".join(
        shown[v] if v is None or v is False else v if v == ":manifest" else repr(v) for v in values.values()
    )
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({told})"


def of(name, **values):
    return {"tenant": "acme", "space": "adapter", "name": name, **values}


def version(name, number, digest):
    said = {"manifest": ":manifest", "nbytes": 3, "created": 10.5, "created_by": "key1"}
    return row("versions", **of(name, version=number, digest=digest, **said))


def key(key_id, scopes, label, revision):
    said = {"created": 1.5, "revoked": False, "revision": revision}
    return row("keys", key_id=key_id, tenant="acme", secret_sha256="ff", scopes=scopes, label=label, **said)


def told(at, action, subject, detail):
    return row("audit", at=at, actor="key1", **of("ada"), action=action, subject=subject, detail=detail)


PREVIOUS = (
    row("names", **of("ada", next_version=4, revision=7)),
    row("names", **of("news", next_version=2, revision=8)),
    row("names", **of("gone", next_version=3, revision=6)),
    version("ada", 1, ONE),
    version("ada", 3, TWO),
    version("news", 1, SET),
    row("aliases", **of("ada", alias="prod", version=3)),
    row("pins", **of("ada", version=1)),
    row("members", **of("news", version=1, member_space="adapter", member_name="ada", member_version=1)),
    row("active_embeddings", tenant="acme", name=None, revision=5),
    key("0123456789ab", "operate predict", "ci", 4),
    told(11.0, "publish", "ada@1", ONE),
    told(12.0, "alias", "ada@prod", "version 1"),
    told(13.0, "alias", "ada@prod", "version 3, was version 1"),
    told(14.0, "unalias", "ada@blue", "was version 2"),
    "UPDATE meta SET revision = 8, backbone_id = 'tiny', backbone_digest = 'sha256:1'",
)


@pytest.fixture
def previous(bare_url):
    engine = databases._engine(bare_url)
    databases._migrate(engine, "0002")
    engine.dispose()
    write(bare_url, *PREVIOUS)


def test_everything_that_the_release_before_wrote_is_read(bare_url, previous):
    database = Database.open(bare_url)
    catalog = Catalog(database)
    delta = catalog.since(0)
    ada = delta.names["acme", "adapter", "ada"]
    assert [v.ref for v in ada.versions] == [AdapterRef("acme", "ada", 1, ONE), AdapterRef("acme", "ada", 3, TWO)]
    assert [(v.created, v.created_by, v.tags, v.quarantined) for v in ada.versions] == [(10.5, "key1", {}, None)] * 2
    assert (ada.aliases, ada.pinned, ada.revision, ada.last) == ({"prod": 3}, frozenset({1}), 7, 3)
    assert delta.names["acme", "adapter", "gone"] is None
    assert (delta.revision, delta.active, delta.quotas) == (8, {"acme": None}, {})
    assert delta.last == {("acme", "adapter", "gone"): 2}
    (held,) = KeyStore(database).of("acme")
    assert (held.key_id, held.scopes) == ("0123456789ab", frozenset({"operate", "predict"}))
    assert (held.expires, held.rotated_from, held.live(10.0**10)) == (None, None, True)
    database.close()


def test_the_audit_of_before_says_what_it_said_and_where_aliases_were(bare_url, previous):
    database = Database.open(bare_url)
    catalog = Catalog(database)
    entries = catalog.audit("acme", after=0, limit=10)
    assert [(e.action, e.subject, e.before, e.after, e.request_id) for e in entries] == [
        ("unalias", "ada@blue", "", "", ""),
        ("alias", "ada@prod", "", "", ""),
        ("alias", "ada@prod", "", "", ""),
        ("publish", "ada@1", "", "", ""),
    ]
    assert catalog.alias_history("acme", "adapter", "ada") == (
        AliasMove(14.0, "key1", "blue", 2, None, ""),
        AliasMove(13.0, "key1", "prod", 1, 3, ""),
        AliasMove(12.0, "key1", "prod", None, 1, ""),
    )
    database.close()


def test_writing_goes_on_where_the_release_before_stopped(bare_url, previous):
    database = Database.open(bare_url)
    catalog = Catalog(database)
    added = catalog.add_version(ACME, "adapter", "gone", report_of(b"new"), promote=True)
    assert (added.value.version.ref.version, added.revision) == (3, 9)
    moved = catalog.set_alias(ACME, "adapter", "ada", "prod", 1, if_match=7).value
    assert (moved.record.aliases, moved.was) == ({"prod": 1}, 3)
    assert catalog.alias_history("acme", "adapter", "ada")[0].before == 3
    catalog.set_tags(ACME, "adapter", "ada", 3, {"stage": "old"})
    catalog.delete(ACME, "adapter", "ada", 3)
    assert [stone.version for stone in catalog.tombstones("acme", "adapter", "ada")] == [3]
    database.close()


def test_the_release_before_writes_on_beside_this_one(bare_url, previous):
    database = Database.open(bare_url)
    catalog = Catalog(database)
    catalog.set_tags(ACME, "adapter", "ada", 3, {"stage": "old"})
    write(
        bare_url,
        "UPDATE meta SET revision = revision + 1",
        "DELETE FROM aliases WHERE name = 'ada'",
        "DELETE FROM versions WHERE name = 'ada' AND version = 3",
        "UPDATE names SET revision = 10 WHERE name = 'ada'",
        told(15.0, "retire", "ada@3", TWO),
        key("ba9876543210", "predict", "", 10),
    )
    assert [v.ref.version for v in catalog.since(0).names["acme", "adapter", "ada"].versions] == [1]
    assert catalog.history("acme", "adapter", "ada")[0].detail == TWO
    assert len(KeyStore(database).of("acme")) == 2
    database.close()


def test_what_is_served_meanwhile_is_read_while_a_long_audit_is_indexed(bare_url, previous):
    engine, seen = databases._engine(bare_url), []

    def look(_connection, _cursor, statement, *_rest):
        if statement.startswith("CREATE INDEX ix_audit_tenant_id"):
            beside = create_engine(engine.url)
            with beside.connect() as connection:  # the release before, which goes on
                if beside.dialect.name == "postgresql":
                    connection.execute(text("SET lock_timeout = '1s'"))
                count = text("SELECT (SELECT count(*) FROM audit), (SELECT count(*) FROM keys)")
                seen.extend(connection.execute(count).one())
            beside.dispose()

    event.listen(engine, "after_cursor_execute", look)
    databases._migrate(engine, "0003")
    engine.dispose()
    assert seen == [4, 1]
