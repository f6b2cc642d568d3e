"""The shared books say where an entry is, and notice when they contradict themselves."""

from adapters.cache import books as module
from adapters.cache.admission import Size, Want
from adapters.cache.books import Books, names
from adapters.cache.device import DeviceTier
from adapters.cache.disk import DiskTier
from adapters.cache.host import HostTier
from adapters.cache.rooms import Room
from adapters.refs import AdapterRef
from tests.adapters.cache.fakes import UNIT, Clock, Embedding, adapter

A = AdapterRef("t", "a", 3, "sha256:" + "a" * 64)
E = AdapterRef("t", "e", 1, "sha256:" + "e" * 64)


def made(tmp_path):
    books = Books(
        DiskTier(tmp_path, 1000), HostTier(10 * UNIT), DeviceTier(10 * UNIT), clock=Clock(), hold=2.0, patience=3.0
    )
    books.ledger.fact(A).size = Size("device", UNIT)
    books.ledger.fact(E).size = Size("host", UNIT)
    return books


def on_device(books, ref):
    books.device.reserve(ref.key, UNIT)
    books.device.publish(ref.key, books.device.write(ref.key, adapter(1.0, 1)))


def test_an_adapter_in_host_memory_is_found_there_but_can_not_be_used_yet(tmp_path):
    books = made(tmp_path)
    assert books.tier(A) == "disk" and books.held(books.ledger.fact(A)) is None
    books.host.put(A.key, adapter(1.0, 1))
    books.host.put(E.key, Embedding(UNIT))
    assert books.tier(A) == "host" and not books.ready([A]) and books.ready([E])
    on_device(books, A)
    assert books.tier(A) == "device" and books.ready([A, E])
    assert books.use(A) is books.device.get(A.key) and books.use(E) is books.host.get(E.key)
    assert books.check() == ()


def test_what_is_condemned_is_not_ready(tmp_path):
    books = made(tmp_path)
    on_device(books, A)
    books.admission.condemned = frozenset((A.key,))
    assert not books.ready([A]) and books.there(A.key)


def test_leaving_takes_every_copy(tmp_path):
    books = made(tmp_path)
    books.host.put(A.key, adapter(1.0, 1))
    on_device(books, A)
    assert books.leave(A.key) and not books.leave(A.key)
    assert books.tier(A) == "disk" and books.check() == ()


def test_check_sees_a_reservation_that_nobody_awaits_and_a_stranger(tmp_path):
    books = made(tmp_path)
    books.device.reserve(A.key, UNIT)
    assert any("nobody awaits" in fault for fault in books.check())
    want = Want((A,), {})
    want.admitted = True
    books.admission.ask(want)
    assert books.check() == ()
    books.host.put(("t", "unknown"), Embedding(1))
    assert any("no home" in fault for fault in books.check())


def test_pruning_forgets_only_what_is_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SPARE_FACTS", 0)
    books = made(tmp_path)
    on_device(books, A)
    waiting = AdapterRef("t", "w", 1, "w")
    books.ledger.fact(waiting)
    books.admission.ask(Want((waiting,), {}))
    books.prune()
    assert set(books.ledger.facts) == {A.key, waiting.key}


def test_the_same_file_of_another_tenant_survives_a_retirement(tmp_path):
    books = made(tmp_path)
    twin = AdapterRef("u", "other", 1, A.digest)
    books.ledger.fact(twin)
    books.retired.add(A.key)
    books.sweep()
    assert not books.dropped
    books.retired.add(twin.key)
    books.sweep()
    assert list(books.dropped) == [A.digest]


def test_a_pin_ends_the_retirement_of_the_same_bytes(tmp_path):
    books = made(tmp_path)
    on_device(books, A)
    books.retired.add(A.key)
    books.pin(A, keep=False)
    assert books.retired == {A.key}, "only asked"
    books.pin(A)
    books.sweep()
    assert books.tier(A) == "device" and not books.retired and books.check() == ()


def test_what_is_pinned_is_never_swept_whatever_else_is(tmp_path):
    books = made(tmp_path)
    on_device(books, A)
    books.host.put(E.key, Embedding(UNIT))
    books.device.lru.pin(A.key)
    books.retired |= {A.key, E.key}
    books.sweep()
    assert books.tier(A) == "device" and books.tier(E) == "disk" and books.retired == {A.key}


def test_what_moves_is_taken_along_and_check_sees_what_was_forgotten(tmp_path):
    books = made(tmp_path)
    on_device(books, A)
    books._lift(A.key)
    books._lift(E.key)
    assert list(books.moving) == [A.key] and (books.moving[A.key].flat == 1.0).all()
    assert books.moving[A.key].flat.data_ptr() != books.device.get(A.key).adapter.flat.data_ptr()
    assert any("moves, and nobody awaits it" in fault for fault in books.check())


def test_shares_look_along_a_tier_once_for_all_tenants(tmp_path, monkeypatch):
    books = made(tmp_path)
    on_device(books, A)
    looks = []
    monkeypatch.setattr(books.device.lru, "victims", lambda spare=(): looks.append(spare) or iter([A.key]))
    books.share({f"t{i}": Room(0, 0) for i in range(50)} | {"t": Room(0, 0)}, {}, {})
    assert len(looks) == 1 and books.tier(A) == "disk"


def test_names_are_those_of_the_tenant():
    assert names([A, E]) == "t:a@3 + t:e@1"
