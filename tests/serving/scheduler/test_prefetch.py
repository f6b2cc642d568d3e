"""What is asked for, in which order, and who pays."""

from serving.scheduler.prefetch import Prefetcher
from serving.scheduler.waiting import Waiting
from tests.serving.scheduler.machine import SIZE, Machine, ref, ticket


def rows(*wants, tenant="a"):
    made = [ticket(f"{tenant}{i}", tenant, adapters=adapters) for i, adapters in enumerate(wants)]
    return [Waiting(one, one.refs, print, 0.0, 1.0) for one in made]


def test_only_what_is_missing_is_asked_for_and_only_once():
    machine = Machine()
    machine.resident[ref("x")] = None
    prefetcher = Prefetcher(machine, 8)
    prefetcher.ask(rows(["x"], ["x", "y"], ["z"], ["x", "y"], []))
    assert machine.loading == [ref("y"), ref("z")]


def test_at_most_a_few_sets_are_asked_for_at_a_time():
    machine = Machine()
    Prefetcher(machine, 2).ask(rows(["p"], ["p"], ["q"], ["r"]))
    assert machine.loading == [ref("p"), ref("q")]


def test_what_came_and_still_waits_for_its_row_takes_a_place():
    machine, waiting = Machine(), rows(["p"], ["q"], ["r"])
    prefetcher = Prefetcher(machine, 1)
    prefetcher.ask(waiting)
    machine.load()
    prefetcher.ask(waiting)
    assert machine.loading == []
    prefetcher.ask(waiting[1:])  # the first row ran
    assert machine.loading == [ref("q")]


def test_what_left_again_before_its_row_ran_is_asked_for_again():
    machine, waiting = Machine(), rows(["p"], ["q"])
    prefetcher = Prefetcher(machine, 1)
    prefetcher.ask(waiting)
    machine.load()
    machine.resident.clear()
    prefetcher.ask(waiting)
    assert machine.loading == [ref("p")]


def test_sets_that_have_a_place_are_kept_though_an_earlier_one_that_was_there_left_again():
    machine, waiting = Machine(), rows(["early"], ["p"], ["q"])
    machine.resident[ref("early")] = None
    prefetcher = Prefetcher(machine, 2)
    prefetcher.ask(waiting)
    machine.resident.clear()
    machine.asked.clear()
    prefetcher.ask(waiting)
    assert [refs for _, refs in machine.asked] == [(ref("p"),), (ref("q"),)], "a cache forgets who does not ask again"
    machine.load(2)
    prefetcher.ask([waiting[0], waiting[2]])  # the row of `p` ran
    assert machine.loading == [ref("early")]


def test_places_are_shared_among_the_tenants_that_miss_something():
    machine = Machine()
    flood = rows(*([f"x{i}"] for i in range(200)))
    Prefetcher(machine, 8).ask([*flood, *rows(["y"], tenant="b"), *rows(["hot"], tenant="c")])
    assert machine.loading == [*(ref(f"x{i}") for i in range(2)), ref("y", "b"), ref("hot", "c")]
    assert [tenant for tenant, _ in machine.asked] == ["a", "a", "b", "c"]


def test_a_public_adapter_is_paid_by_whoever_asked_first():
    machine = Machine()
    prefetcher = Prefetcher(machine, 8)
    made = [ticket(name, name, adapters=["p"]) for name in ("b", "a")]
    shared = [Waiting(one, (ref("p", "public"),), print, 0.0, 1.0) for one in made]
    prefetcher.ask(shared)
    machine.load()
    assert prefetcher.arrived() == {"b": {ref("p", "public"): SIZE}}


def test_each_arrival_is_paid_once_by_its_tenant():
    machine = Machine()
    prefetcher = Prefetcher(machine, 8)
    prefetcher.ask([*rows(["p"], ["q"]), *rows(["p"], tenant="b")])
    assert prefetcher.arrived() == {}
    machine.load(3)
    prefetcher.ask(rows(["p"]))
    assert prefetcher.arrived() == {"a": {ref("p"): SIZE, ref("q"): SIZE}, "b": {ref("p", "b"): SIZE}}
    assert prefetcher.arrived() == {}


def test_what_failed_is_not_paid():
    machine = Machine()
    prefetcher = Prefetcher(machine, 8)
    prefetcher.ask(rows(["p"]))
    prefetcher.forget([ref("p"), ref("unknown")])
    machine.load()
    assert prefetcher.arrived() == {}


def test_arrivals_that_nobody_saw_do_not_pile_up():
    machine = Machine()
    prefetcher = Prefetcher(machine, 1)
    for i in range(100):
        prefetcher.ask(rows([f"x{i}"]))
    assert len(prefetcher._moving) == 16
