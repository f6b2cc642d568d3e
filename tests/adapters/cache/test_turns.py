"""Loads are shared among tenants by the bytes that they move."""

from dataclasses import dataclass, field

from adapters.cache.turns import UNKNOWN, Turns


@dataclass(eq=False)
class Want:
    name: str
    tenants: list = field(default_factory=list)
    size: int | None = 10


def wants(text, **options):
    return [Want(name, [name[0]], **options) for name in text.split()]


def size_of(want):
    return want.size


def names(line):
    return [want.name for want in line]


def serve(turns, line, count):
    """Load the first of the line, again and again; who was served."""
    served, line = [], list(line)
    for _ in range(count):
        first = turns.order(line, size_of)[0]
        line.remove(first)
        turns.moved(first.tenants, first.size, {t for want in line for t in want.tenants})
        served.append(first.name)
    return served


def test_each_tenants_own_come_in_order_and_the_tenants_take_turns():
    line = wants("a1 a2 a3 b1 c1 b2")
    assert names(Turns().order(line, size_of)) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_large_loads_cost_their_tenant_more_turns():
    line = [*wants("a1 a2", size=30), *wants("b1 b2 b3 b4")]
    assert names(Turns().order(line, size_of)) == ["a1", "b1", "b2", "b3", "a2", "b4"]


def test_two_hundred_cold_ones_of_a_neighbour_cost_one_load_of_waiting():
    line = wants(" ".join(f"a{i}" for i in range(200)))
    turns = Turns()
    serve(turns, line, 50)
    turns.lift("b")
    assert names(turns.order([*line[50:], *wants("b1")], size_of)).index("b1") <= 1


def test_weights_share_the_bytes():
    turns = Turns()
    turns.share({"a": 1.0, "b": 2.0, "c": 4.0})
    line = [want for i in range(100) for want in wants(f"a{i} b{i} c{i}")]
    served = serve(turns, line, 70)
    assert [sum(name[0] == tenant for name in served) for tenant in "abc"] == [10, 20, 40]


def test_a_pause_saves_nothing_up():
    turns = Turns()
    serve(turns, wants(" ".join(f"a{i}" for i in range(50))), 50)
    turns.lift("b")
    line = wants(" ".join(f"a{i} b{i}" for i in range(10)))
    assert sorted(serve(turns, line, 10)) == sorted([*(f"a{i}" for i in range(5)), *(f"b{i}" for i in range(5))])


def test_what_two_want_comes_once_at_the_earlier_turn_and_one_pays():
    turns = Turns()
    shared = Want("s", ["a", "b"])
    line = [*wants("a1 a2 a3"), shared, *wants("b1")]
    assert names(turns.order(line, size_of)) == ["a1", "s", "a2", "b1", "a3"]
    turns.moved(["a"], 100, {"a", "b"})
    turns.moved(shared.tenants, 10, {"a", "b"})
    assert (turns._of("a"), turns._of("b")) == (100, 10)


def test_an_unknown_size_is_taken_for_a_usual_one():
    line = [*wants("a1 a2", size=None), *wants("b1 b2", size=UNKNOWN // 2)]
    assert names(Turns().order(line, size_of)) == ["a1", "b1", "b2", "a2"]


def test_counters_of_tenants_that_left_do_not_pile_up():
    turns = Turns()
    for i in range(1000):
        turns.moved([f"t{i}"], 10, ())
        turns.moved(["steady"], 10, {"steady"})
    assert len(turns._paid) < 10
