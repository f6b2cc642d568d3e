import pytest

from serving.request import Holding
from serving.tenancy.forecast import Forecast, Outlook, Work


class World:
    """Engines that say what a test wants, and the forecast of one gateway."""

    def __init__(self, gateways=1, **weights):
        self.held = {}
        self.gateways = gateways
        self.forecast = Forecast(lambda: self.held, lambda: self.gateways, lambda tenant: weights.get(tenant, 1.0))

    def says(self, name="e1", rate=100.0, rest=0.0, warm=True, free=None, **lines):
        holding = Holding(
            name,
            frozenset(),
            queued_cost=sum(lines.values()) + rest,
            cost_per_s=rate,
            warm=warm,
            lines=tuple(lines.items()),
            free_rows=free,
        )
        self.held = {**self.held, name: holding}

    def wait(self, tenant, cost, rows=1):
        outlook = self.forecast.outlook(tenant, Work(cost, rows))
        return None if outlook is None else outlook.wait_s

    def add(self, tenant, cost, rows=1):
        self.forecast.add(tenant, Work(cost, rows))
        self.forecast.check()

    def remove(self, tenant, cost, rows=1):
        self.forecast.remove(tenant, Work(cost, rows))
        self.forecast.check()


def test_nothing_is_foretold_without_engines_or_a_rate():
    world = World()
    assert world.wait("a", 1e9) is None
    world.says(rate=0.0, a=500)
    assert world.wait("a", 1e9) is None


def test_nothing_is_foretold_where_nothing_waits():
    world = World()
    world.says()
    assert world.wait("a", 1e9) is None
    world.add("a", 50)
    world.remove("a", 50)
    assert world.wait("a", 1e9) is None


def test_a_tenant_alone_waits_for_its_line_by_the_rate():
    world = World()
    world.says(a=400)
    assert world.wait("a", 100) == 5.0


def test_a_short_line_is_not_held_up_by_a_long_one():
    world = World()
    world.says(a=100_000)
    assert world.wait("b", 100) == 2.0  # its own, and as much of the other
    assert world.wait("a", 100) == 1001.0


def test_a_long_line_waits_for_the_short_ones_only_once():
    world = World()
    world.says(a=1000, b=300, c=50)
    assert world.wait("a", 100) == (1100 + 300 + 50) / 100
    assert world.wait("b", 100) == (400 + 400 + 50) / 100


def test_weights_say_how_much_of_the_others_comes_first():
    world = World(a=4.0, b=1.0)
    world.says(a=10_000, b=10_000)
    assert world.wait("c", 100) == (100 + 400 + 100) / 100
    world.says(b=10_000)
    world.add("a", 0, 0)
    assert world.wait("a", 100) == (100 + 25) / 100


def test_engines_work_together_and_a_new_one_counts_as_the_others():
    world = World()
    world.says("e1", rate=100, a=300)
    world.says("e2", rate=300, a=100)
    assert world.wait("a", 400) == 2.0
    world.says("e3", rate=0.0)
    assert world.wait("a", 200) == 1.0  # 600 at (100 + 300) * 3 / 2


def test_an_engine_that_warms_up_is_not_counted_on():
    world = World()
    world.says("e1", rate=100, a=100)
    world.says("e2", rate=900, warm=False)
    assert world.wait("a", 100) == 2.0


def test_what_was_sent_since_the_last_word_counts_at_once():
    world = World()
    world.says(a=200)
    assert world.wait("a", 100) == 3.0
    world.add("a", 500)
    assert world.wait("a", 100) == 8.0
    world.says(a=650)  # the engine has it now, and has done some of it
    assert world.wait("a", 100) == 7.5
    world.remove("a", 500)
    assert world.wait("a", 100) == 2.5


def test_other_gateways_are_taken_to_send_as_much():
    world = World(gateways=3)
    world.says(a=100)
    world.wait("a", 1)
    world.add("a", 100)
    assert world.wait("a", 100) == (100 + 300 + 100) / 100
    world.says(a=200)  # they did not
    assert world.wait("a", 100) == 3.0
    world.remove("a", 100)
    assert world.wait("a", 100) == 2.0  # what is done here need not be done elsewhere


def test_the_same_word_twice_is_heard_once():
    world = World()
    world.says(a=100)
    world.wait("a", 1)
    world.add("a", 300)
    world.held = dict(world.held)  # as a fleet does that hands out copies
    assert world.wait("a", 100) == 5.0


def test_what_is_not_told_by_tenant_counts_as_one_more():
    world = World()
    world.says(rest=1000)
    assert world.wait("b", 100) == 2.0
    world.add("b", 400)
    world.says(rest=1000)  # ours is part of it
    assert world.wait("b", 100) == (400 + 100 + 500) / 100


def test_the_running_step_has_to_end_and_so_has_its_own():
    world = World()
    world.says(a=100)
    world.forecast.stepped(0.25)
    assert world.wait("a", 100) == 2.375
    for _ in range(100):
        world.forecast.stepped(0.05)
    assert world.wait("a", 100) == pytest.approx(2.075, abs=0.01)


def observed(world, tenant, seconds, ended=True, times=60):
    world.add(tenant, 0, 0)
    for _ in range(times):
        world.forecast.observe(tenant, Outlook(2.0, 2.0, 200), seconds, ended=ended)


def test_a_rate_that_is_wrong_is_corrected_by_what_was_seen():
    world = World()
    world.says(a=100, b=100)
    world.forecast.stepped(0.1)
    observed(world, "a", 4.1)
    assert world.wait("a", 100) == pytest.approx((100 + 100 + 100) / 100 * 2 + 0.15, rel=0.01)
    assert world.wait("b", 100) == pytest.approx(3.15)  # b has not been wrong
    observed(world, "a", 1e9)
    assert world.wait("a", 100) == pytest.approx(12.15, rel=0.01)  # within bounds
    observed(world, "a", 0.2)
    assert world.wait("a", 100) == pytest.approx(3.15, rel=0.01)  # never faster than the engines say


def test_a_wait_that_did_not_end_can_only_make_longer():
    world = World()
    world.says(a=100)
    world.forecast.stepped(0.1)
    observed(world, "a", 0.2, ended=False)
    assert world.wait("a", 100) == pytest.approx(2.15)
    observed(world, "a", 6.1, ended=False)
    held = world.wait("a", 100)
    assert held == pytest.approx(6.15, rel=0.01)
    observed(world, "a", 4.1, ended=False)
    assert world.wait("a", 100) == held


def test_short_lines_teach_nothing_of_the_rate():
    world = World()
    world.says(a=100)
    world.forecast.stepped(0.6)
    observed(world, "a", 9.0)
    assert world.wait("a", 100) == pytest.approx(2.9)


def test_a_queue_without_room_is_told_and_fills_by_what_is_sent():
    world = World(gateways=2)
    world.says(a=1, free=100)

    def fits(rows):
        return world.forecast.outlook("a", Work(1, rows)).fits

    assert [fits(90), fits(91)] == [True, False]
    world.add("a", 30, rows=30)
    assert [fits(30), fits(31)] == [True, False]
    world.remove("a", 30, rows=30)
    assert fits(90)


def test_a_full_queue_has_room_for_whoever_does_not_hold_the_longest_line():
    world = World()
    world.says(flood=10_000, small=50, free=0)

    def fits(tenant, cost):
        return world.forecast.outlook(tenant, Work(cost, 1)).fits

    assert not fits("flood", 1)
    assert fits("small", 100)
    assert fits("new", 9_999)
    assert not fits("small", 9_950)


def test_a_full_queue_of_many_unnamed_has_room_for_nobody():
    world = World()
    world.says(rest=500, free=0)
    assert not world.forecast.outlook("new", Work(1, 1)).fits


def test_what_is_used_up_of_a_request_is_the_front_of_its_line():
    outlook = Outlook(line_s=4.0, wait_s=4.0, own=200)  # 50 of the tenant's line per second
    assert [outlook.unused(100, elapsed) for elapsed in (0, 2, 3, 4, 9)] == [100, 100, 50, 0, 0]
    assert Outlook(0.0, 0.0, 10).unused(10, 0) == 0


def test_nothing_is_kept_of_tenants_that_left():
    world = World()
    for i in range(100):
        world.add(f"t{i}", 10)
        world.says(**{f"t{i}": 10})
        world.wait("a", 1)
        world.remove(f"t{i}", 10)
    world.says()
    world.wait("a", 1)
    world.forecast.check()
    assert not world.forecast._lines
