import threading
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from serving.errors import Conflict, NotFound, Unprocessable
from serving.registry.records import Member, Once
from serving.registry.tables import IDEMPOTENCY
from tests.serving.registry.given import ACME, OTHER, digest_of, report_of

ONCE = Once("k1", "f" * 64)


def add(catalog, data=b"one", name="ada", *, by=ACME, once=ONCE, promote=False):
    return catalog.add_version(by, "adapter", name, report_of(data), promote=promote, once=once)


def numbers(catalog, name="ada"):
    return [v.ref.version for v in catalog.since(0).names["acme", "adapter", name].versions]


def rows(registry):
    with registry.database.read() as connection:
        return connection.execute(select(func.count()).select_from(IDEMPOTENCY)).scalar_one()


def test_the_same_write_again_is_answered_as_the_first_time(catalog):
    first = add(catalog, promote=True)
    assert not first.replayed
    again = add(catalog, promote=True)
    assert again.replayed
    assert again.value == first.value
    assert again.value.created
    assert numbers(catalog) == [1]


def test_the_answer_is_that_of_the_first_time_whatever_happened_since(catalog):
    first = add(catalog)
    catalog.set_tags(ACME, "adapter", "ada", 1, {"a": "b"})
    catalog.delete(ACME, "adapter", "ada", None)
    again = add(catalog)
    assert (again.replayed, again.value) == (True, first.value)
    assert ("acme", "adapter", "ada") in catalog.since(0).last


def test_the_key_of_another_write_is_refused_and_nothing_is_written(catalog):
    add(catalog)
    for write in (
        lambda: add(catalog, b"two", once=replace(ONCE, fingerprint="0" * 64)),
        lambda: catalog.answered("acme", replace(ONCE, fingerprint="0" * 64)),
    ):
        with pytest.raises(Unprocessable) as caught:
            write()
        assert caught.value.code == "idempotency_key_reused"
    assert numbers(catalog) == [1]


def test_keys_of_two_tenants_are_two_keys(catalog):
    add(catalog)
    assert not add(catalog, by=OTHER).replayed
    assert catalog.answered("third", ONCE) is None


def test_what_was_refused_may_be_asked_again(catalog, registry):
    catalog.add_version(ACME, "adapter", "ada", report_of(b"one"), promote=False)
    with pytest.raises(NotFound):
        catalog.add_version(
            ACME,
            "adapter",
            "news",
            report_of(b"two"),
            promote=False,
            once=ONCE,
            members=[_absent(catalog)],
        )
    assert rows(registry) == 0
    assert not add(catalog, b"two", "news").replayed


def _absent(catalog):
    ref = catalog.since(0).names["acme", "adapter", "ada"].versions[0].ref
    return Member("adapter", replace(ref, name="gone"))


def test_an_answer_can_be_looked_up_before_the_work(catalog):
    assert catalog.answered("acme", ONCE) is None
    published = add(catalog).value
    assert catalog.answered("acme", ONCE) == published


def test_answers_are_kept_for_a_day_and_then_swept(catalog, registry):
    now = [1000.0]
    catalog._clock = lambda: now[0]
    add(catalog)
    now[0] += 24 * 3600 - 1
    assert add(catalog).replayed
    now[0] += 2
    assert catalog.answered("acme", ONCE) is None
    again = add(catalog)  # the same bytes are the existing version, by the rule of publishing
    assert (again.replayed, again.value.created) == (False, False)
    now[0] += 24 * 3600 + 1
    add(catalog, b"two", once=Once("k2", "0" * 64))
    assert rows(registry) == 1


def test_a_token_embedding_is_made_once(catalog):
    report = report_of(b"words", "embedding")
    first = catalog.add_embedding(ACME, "klingon", report, activate=True, once=ONCE)
    again = catalog.add_embedding(ACME, "klingon", report, activate=True, once=ONCE)
    assert (again.replayed, again.value) == (True, first.value)
    with pytest.raises(Conflict):
        catalog.add_embedding(ACME, "klingon", report, activate=True, once=Once("k2", "f" * 64))


def test_many_at_once_get_one_version_and_one_answer(catalog):
    barrier, told = threading.Barrier(8), []

    def ask(number):
        barrier.wait()
        told.append(add(catalog, b"%d" % number))  # even where the bytes differ: the fingerprint says the same

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer.value.version.ref for answer in told}) == 1
    assert sorted(answer.replayed for answer in told) == [False] + [True] * 7
    assert numbers(catalog) == [1]


def test_a_promote_is_part_of_the_answer(catalog):
    assert add(catalog, promote=True).value.promoted == "prod"
    catalog.add_version(ACME, "adapter", "ada", report_of(b"two"), promote=True)
    assert add(catalog, promote=True).value.promoted == "prod"
    record = catalog.since(0).names["acme", "adapter", "ada"]
    assert record.aliases == {"prod": 2}  # told again, not done again
    assert record.versions[0].ref.digest == digest_of(b"one")
