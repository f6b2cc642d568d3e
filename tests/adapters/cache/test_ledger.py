"""The ledger forgets failures in time, and facts when there are too many."""

from adapters.cache.admission import Size
from adapters.cache.ledger import Ledger
from adapters.errors import LoadFailed
from adapters.refs import AdapterRef
from tests.adapters.cache.fakes import Clock


def ref(name, tenant="t"):
    return AdapterRef(tenant, name, 1, name)


def test_a_failure_is_remembered_for_its_time_only():
    clock = Clock()
    ledger = Ledger(clock, patience=3.0)
    error = LoadFailed("torn")
    ledger.failed(ref("a"), error)
    clock.now += 2.9
    assert ledger.failure(ref("a").key) is error and ledger.failure(ref("a", tenant="u").key) is None
    clock.now += 0.1
    assert ledger.failure(ref("a").key) is None and ledger.load_failures == 1


def failing(error):
    try:
        raise error
    except LoadFailed as caught:
        return caught


def test_a_failure_keeps_no_frame_of_what_happened():
    ledger = Ledger(Clock(), 3.0)
    error, cause = failing(LoadFailed("torn")), failing(LoadFailed("read"))
    error.__cause__, cause.__context__ = cause, error  # even in a ring
    ledger.failed(ref("a"), error)
    assert ledger.failure(ref("a").key) is error
    assert error.__traceback__ is None and cause.__traceback__ is None and error.__cause__ is cause


def test_failures_that_are_over_leave_with_the_next_one():
    clock = Clock()
    ledger = Ledger(clock, 3.0)
    ledger.failed(ref("a"), LoadFailed("a"))
    clock.now += 3.0
    ledger.failed(ref("b"), LoadFailed("b"))
    assert list(ledger._failures) == [ref("b").key]


def test_a_lease_counts_hits_for_what_was_not_missed():
    ledger = Ledger(Clock(), 3.0)
    a, b = ref("a"), ref("b")
    ledger.fact(a)
    ledger.fact(b).size = Size("host", 1)
    ledger.counted({a.key: "disk"}, frozenset((a.key, b.key)))
    assert (ledger.hits, ledger.facts[a.key].hits, ledger.facts[b.key].hits) == (1, 0, 1)
    assert ledger.found == {"device": 0, "host": 1, "disk": 0, "source": 0}


def test_sizes_are_known_after_the_first_load():
    ledger = Ledger(Clock(), 3.0)
    assert ledger.size(ref("a").key) is None
    ledger.fact(ref("a")).size = Size("host", 7)
    assert ledger.size(ref("a").key) == Size("host", 7)


def test_pruning_keeps_what_is_held_and_starts_at_the_limit():
    clock = Clock()
    ledger = Ledger(clock, 3.0)
    for name in "abc":
        ledger.fact(ref(name))
    ledger.failed(ref("x"), LoadFailed("x"))
    clock.now += 5
    ledger.prune(lambda fact: fact.ref.name == "b", limit=3)
    assert len(ledger.facts) == 3 and not ledger._failures
    ledger.prune(lambda fact: fact.ref.name == "b", limit=2)
    assert list(ledger.facts) == [ref("b").key]


def test_counters_are_flat_whole_numbers():
    ledger = Ledger(Clock(), 3.0, hits=2, loads=1)
    counters = ledger.counters({"device": 4, "host": 0, "disk": 0}, {"device": 5, "host": 6, "disk": 7}, 8, 9)
    assert counters.tier_loads == {"device": 0, "host": 1, "disk": 8} and counters.bad_copies == 9
    flat = counters.flat()
    assert flat["hits"] == 2 and flat["evictions_device"] == 4 and flat["bytes_loaded_disk"] == 7
    assert all(type(number) is int for number in flat.values())
    ledger.seconds["disk"] += 1.0
    assert counters.load_seconds["disk"] == 0.0, "a snapshot does not move"
