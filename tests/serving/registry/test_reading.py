import pytest

from serving.errors import NotReady
from serving.registry.catalog import Catalog
from serving.registry.reading import Reading
from serving.registry.records import Once
from tests.serving.registry.effects import Statements, fail
from tests.serving.registry.given import ACME, OTHER, digest_of, report_of

ONCE = Once("k1", "f" * 64)


def add(catalog, data=b"one", name="ada", *, by=ACME, space="adapter", once=None):
    kind = "embedding" if space == "embedding" else "adapter"
    return catalog.add_version(by, space, name, report_of(data, kind), promote=False, once=once).value


QUESTIONS = {
    "since": lambda reading: reading.since(0),
    "digests": lambda reading: reading.digests(),
    "history": lambda reading: reading.history("acme", "adapter", "ada"),
    "audit": lambda reading: reading.audit("acme", after=0, limit=9),
    "alias_history": lambda reading: reading.alias_history("acme", "adapter", "ada"),
    "tombstones": lambda reading: reading.tombstones("acme", "adapter", "ada"),
    "answered": lambda reading: reading.answered("acme", ONCE),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_is_answered_without_writing_and_by_whoever_reads(registry, question):
    add(registry.catalog, once=ONCE)
    add(registry.catalog, b"two")
    registry.catalog.set_alias(ACME, "adapter", "ada", "prod", 2, if_match=None)
    registry.catalog.delete(ACME, "adapter", "ada", 1)
    ask, revision = QUESTIONS[question], registry.catalog.since(0).revision
    answer = ask(Reading(registry.database))
    assert answer == ask(registry.catalog)
    assert answer
    assert registry.catalog.since(0).revision == revision


def test_every_question_of_the_catalog_is_listed_here():
    asked = {name for name in vars(Reading) if not name.startswith("_")}
    assert asked - set(QUESTIONS) == {"undoomed"}  # answers with a test: tests/serving/registry/test_doom.py
    assert issubclass(Catalog, Reading)


def test_who_asks_for_marks_is_told_where_the_database_is_away(catalog, registry):
    with Statements(registry.database, fail, 1), pytest.raises(NotReady):
        catalog.undoomed(digest_of(b"one"))


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_absent_database_is_said_to_be_absent(registry, question):
    with Statements(registry.database, fail, 1), pytest.raises(NotReady):
        QUESTIONS[question](registry.catalog)


def test_every_digest_that_a_version_leads_to_is_told(catalog):
    add(catalog, b"one")
    add(catalog, b"one", by=OTHER)
    add(catalog, b"two", name="kli", space="embedding")
    assert catalog.digests() == {digest_of(b"one"), digest_of(b"two")}
    catalog.delete(ACME, "adapter", "ada", None)
    assert digest_of(b"one") in catalog.digests()
    catalog.delete(OTHER, "adapter", "ada", None)
    assert catalog.digests() == {digest_of(b"two")}
