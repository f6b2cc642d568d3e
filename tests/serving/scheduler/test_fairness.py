"""What the fair queue promises, on a virtual clock: shares, gaps, and what a flood costs its neighbours."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.cache.rooms import Room
from serving.scheduler.batcher import Budget
from serving.scheduler.queue import PASSES, FairQueue
from serving.scheduler.stride import LONGEST
from serving.scheduler.waiting import Waiting
from tests.adapters.cache.fakes import UNIT
from tests.serving.scheduler.machine import Clock, ticket
from tests.serving.scheduler.simulation import LOAD_S, STEP_S, TOKENS_PER_S, Simulation, p99

LAYERS = 6
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 4.0}


@pytest.fixture
def simulate(tmp_path):
    made = []

    def make(**options):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Simulation(folder, **options))
        return made[-1]

    return make


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_backlogged_tenants_share_by_weight_within_three_percent_over_any_thirty_seconds(simulate, seed, overlaps):
    world = simulate(seed=seed, overlaps=overlaps)
    world.queue.share(WEIGHTS)
    for tenant in WEIGHTS:
        world.backlog(tenant, 150, tokens=lambda: int(world.chance.integers(8, 129)))
    world.run(45.0)
    for begin in range(15):
        served = world.served(begin, begin + 30)
        for tenant, weight in WEIGHTS.items():
            assert served[tenant] / served.total() == pytest.approx(weight / 7, rel=0.03)


def test_a_machine_that_computes_by_itself_never_waits_for_the_next_batch(simulate):
    """What forming a batch costs is hidden behind the batch before it."""
    world = simulate(overlaps=True)
    names = [world.adapter(f"x{i}") for i in range(60)]
    world.backlog("a", 200, adapters=lambda: (names[int(world.chance.integers(60))],))
    world.run(12.0)
    rows = sum(costs.total() for began, _, costs in world.steps if 101.0 <= began < 111.0) / LAYERS
    assert rows == pytest.approx(10 * TOKENS_PER_S, rel=0.02)
    apart = simulate()
    apart.backlog("a", 200)
    apart.run(12.0)
    held = sum(costs.total() for began, _, costs in apart.steps if 101.0 <= began < 111.0) / LAYERS
    assert held < 0.98 * rows


def test_new_weights_count_from_the_next_batch_on(simulate):
    world = simulate()
    for tenant in "ab":
        world.backlog(tenant, 100)
    world.at(10.0, lambda: world.queue.share({"b": 3.0}))
    world.run(20.0)
    before, after = world.served(1, 10), world.served(10, 20)
    assert before["b"] / before.total() == pytest.approx(0.5, rel=0.02)
    assert after["b"] / after.total() == pytest.approx(0.75, rel=0.02)


def test_a_tenant_that_was_away_gets_its_share_and_no_more(simulate):
    world = simulate()
    world.backlog("a", 100)
    world.at(10.0, lambda: world.backlog("b", 100) or None)
    world.at(20.0, lambda: [world.submit("b") for _ in range(100)])
    world.run(30.0)
    early = world.served(20.0, 21.0)
    assert early["b"] <= early.total() / 2 + LAYERS * 32 * 2


def test_an_idle_share_goes_to_those_who_have_work(simulate):
    world = simulate()
    world.queue.share({"idle": 100.0, "a": 1.0})
    world.backlog("a", 100)
    world.run(5.0)
    busy = sum(ended - began for began, ended, _ in world.steps)
    assert busy == pytest.approx(5.0, abs=LONGEST * STEP_S)


FLOODS = {
    "ten times its share": {"rows": 2000},
    "the longest rows": {"rows": 500, "tokens": 512},
    "two hundred cold adapters": {"rows": 400, "adapters": 200},
}


def neighbours(world, rows=0, tokens=None, adapters=0):
    """B asks for a tenth of the machine, with three adapters of its own; A does what it likes."""

    def short():
        return int(world.chance.integers(8, 65))

    mine = [world.adapter(f"b{i}", "b") for i in range(3)]
    cold = [world.adapter(f"x{i}", "a") for i in range(adapters)]
    world.arrivals("b", 0.1, 40.0, tokens=short, adapters=lambda: (mine[world.chance.integers(3)],))
    pick = (lambda: (cold[world.chance.integers(adapters)],)) if adapters else tuple
    world.backlog("a", rows, tokens=(lambda: tokens) if tokens else short, adapters=pick)
    return world.run(40.0)


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_costs_its_neighbour_one_step(simulate, flood):
    alone = neighbours(simulate())
    flooded = neighbours(simulate(), **FLOODS[flood])
    solo, beside = alone.latencies("b", after=2.0), flooded.latencies("b", after=2.0)
    assert len(beside) == len(solo) and all(done.result for done in flooded.done)
    assert p99(beside) <= 1.5 * p99(solo) + flooded.longest_step()
    assert flooded.served(2, 40)["a"] > 4 * flooded.served(2, 40)["b"], "the flood gets what is left"


def test_where_everybody_waits_for_long_steps_are_long_and_more_is_done(simulate):
    crowded, short = simulate(), simulate()
    for world in (crowded, short):
        for tenant in "ab":
            world.backlog(tenant, 150)
    short.arrivals("c", 0.02, 20.0, tokens=lambda: 16)
    for world in (crowded, short):
        world.run(20.0)
    assert 0.9 * LONGEST * STEP_S <= crowded.longest_step() <= 1.05 * LONGEST * STEP_S
    assert crowded.served(5, 20).total() > 1.05 * short.served(5, 20).total()


def test_steps_are_about_as_long_as_wanted_and_a_longer_row_runs_alone(simulate):
    world = neighbours(simulate(), rows=500)
    assert 0.9 * STEP_S <= world.longest_step() <= 1.05 * STEP_S
    long = neighbours(simulate(), rows=500, tokens=512)
    assert {sum(costs.values()) for _, _, costs in long.steps if costs["a"] > LAYERS * 512} == set()


def test_a_long_line_takes_half_of_a_step_that_others_share_with_less_to_do(simulate):
    world = neighbours(simulate(), rows=2000)
    shared = [(ended - began, costs) for began, ended, costs in world.steps[40:] if costs["a"] and costs["b"]]
    alone = [(ended - began, costs) for began, ended, costs in world.steps[40:] if not costs["b"]]
    assert max(seconds for seconds, _ in alone) >= 0.9 * STEP_S
    assert max(costs["a"] for _, costs in shared) <= 0.55 * max(costs["a"] for _, costs in alone)
    assert max(seconds for seconds, _ in shared) <= 0.85 * STEP_S


def test_a_cold_adapter_is_not_starved_by_hot_rows_of_its_own_tenant_and_others(simulate):
    world = simulate(room=4, budget=Budget(64, 4096, 2 * UNIT))
    hot = [world.adapter(f"h{i}", tenant) for i, tenant in enumerate("aabb")]
    for tenant, own in (("a", hot[:2]), ("b", hot[2:])):
        world.backlog(tenant, 100, adapters=lambda own=own: (own[world.chance.integers(2)],))
    steps = {}

    def ask(i):
        cold, began = world.adapter(f"cold{i}", "ab"[i % 2]), len(world.steps)
        world.submit("ab"[i % 2], cold, then=lambda: steps.update({i: len(world.steps) - began}))

    for i in range(40):
        world.at(2.0 + i / 4, lambda i=i: ask(i))
    world.run(14.0)
    assert len(steps) == 40
    # Behind 100 older rows of its own tenant, of which a step takes a few: that is its share, and not the adapter.
    own = 100 / (sum(costs["a"] for _, _, costs in world.steps[20:]) / len(world.steps[20:]) / (LAYERS * 32))
    assert max(steps.values()) <= own + 8


def test_a_cold_adapter_of_a_tenant_that_asks_little_comes_within_three_steps(simulate):
    world = simulate()
    flood = [world.adapter(f"x{i}", "a") for i in range(200)]
    world.backlog("a", 400, adapters=lambda: (flood[world.chance.integers(200)],))
    for i in range(50):
        world.at(2.0 + i / 5, lambda i=i: world.submit("b", world.adapter(f"y{i}", "b")))
    world.run(13.0)
    latencies = world.latencies("b")
    assert len(latencies) == 50
    assert latencies[-1] <= 2 * world.longest_step() + 4 * LOAD_S


def test_one_tenants_loads_do_not_evict_anothers_floor(simulate):
    world = simulate(room=8, budget=Budget(64, 4096, 4 * UNIT))
    world.cache.share({"b": Room(3 * UNIT)})
    neighbours(world, rows=300, adapters=200)
    assert world.cache.held["b"] == 3 * UNIT
    assert sum(loaded.tenant == "b" for _, loaded in world.loads) == 3
    assert world.cache.counters().evictions["device"] > 200


def test_the_tenant_that_moves_bytes_pays_for_them(simulate):
    world = simulate()
    flood = [world.adapter(f"x{i}", "a", units=4) for i in range(60)]
    world.moved = lambda ref: 16 << 20  # as much work as five rows
    world.backlog("a", 100, adapters=lambda: (flood[world.chance.integers(60)],))
    world.backlog("b", 100)
    world.run(20.0)
    served = world.served(2, 20)
    assert served["a"] < 0.5 * served["b"]


MB = 1 << 20


def cold_ones(world, count, units, mb):
    """So many tenants with one dear adapter each."""
    world.moved = lambda ref: mb * MB
    return [world.adapter(f"x{i}", f"x{i}", units) for i in range(count)]


@pytest.mark.parametrize(("hot", "mb", "weight"), [(8, 368, 1.0), (3, 100, 0.1)])
def test_dear_adapters_that_can_not_stand_together_are_served_beside_backlogged_tenants(simulate, hot, mb, weight):
    world = simulate()
    cold = cold_ones(world, 2, units=25, mb=mb)  # of 40
    world.loop.share({ref.tenant: weight for ref in cold})
    for tenant in range(hot):
        world.backlog(f"h{tenant}", 20)
    for ref in cold:
        world.at(1.0, lambda ref=ref: world.submit(ref.tenant, ref))
    world.run(4.0)
    answered = [done.latency for done in world.done if done.tenant.startswith("x")]
    assert len(answered) == 2 and max(answered) <= 1.0
    assert len(world.loads) == 2, "each was loaded for its row, and not for nothing"


@pytest.mark.parametrize("weight", [0.1, 0.02])
def test_many_cold_tenants_of_little_weight_are_served_in_a_contended_cache(simulate, weight):
    world = simulate()
    cold = cold_ones(world, 20, units=3, mb=14)  # 13 of them fit
    world.loop.share({ref.tenant: weight for ref in cold})
    for tenant in range(9):
        world.backlog(f"h{tenant}", 20)
    for ref in cold:
        world.arrivals(ref.tenant, 8.0, 22.0, adapters=lambda ref=ref: (ref,))
    world.run(30.0)
    asked = {done.tenant for done in world.done if done.tenant.startswith("x")} | set(world.queue._lines.tenants)
    served = world.served(0.0, 30.0)
    assert {tenant for tenant in asked if tenant.startswith("x")} <= served.keys(), "nobody starves"
    assert sum(served[f"h{i}"] for i in range(9)) >= 0.9 * served.total()


def test_hot_rows_of_a_tenant_do_not_pay_for_its_cold_adapter_before_that_ran(simulate):
    world, answered = simulate(), []
    dear, other = cold_ones(world, 2, units=25, mb=368)
    for tenant in range(8):
        world.backlog(f"h{tenant}", 20)
    world.backlog("x0", 40)  # ahead of the cold row
    world.at(1.0, lambda: world.submit("x0", dear, then=lambda: answered.append(world.clock.now)))
    world.at(1.0, lambda: world.submit("x1", other))
    world.run(5.0)
    assert len(answered) == 1 and answered[0] <= 103.0


@st.composite
def scenes(draw):
    """Rows by tenant, with rows that come later, and what is ready when."""
    row = st.one_of(
        st.tuples(st.just("a"), st.integers(1, 64), st.booleans()),
        st.tuples(st.sampled_from("bc"), st.integers(1, 4), st.booleans()),
    )
    return (
        draw(st.lists(row, min_size=10, max_size=80)),
        draw(st.lists(st.tuples(st.integers(0, 30), row), max_size=30)),
        draw(st.fixed_dictionaries({tenant: st.sampled_from([0.5, 1.0, 2.0, 4.0]) for tenant in "abc"})),
        draw(st.integers(64, 300)),
        draw(st.sets(st.integers(0, 30))),
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(scenes())
def test_between_two_tenants_with_rows_to_run_the_gap_is_one_row_of_each_over_any_stretch(scene):
    rows, later, weights, tokens, warm_at = scene
    clock = Clock()
    queue, names = FairQueue(LAYERS, 10_000, clock, weights), iter(range(10**6))

    def put(tenant, length, cold):
        made = ticket(f"r{next(names)}", tenant, tokens=length, adapters=["cold"] if cold else ())
        queue.put(Waiting(made, made.refs, print, clock.now, 1e9))

    for tenant, length, cold in rows:
        put(tenant, length, cold)
    history = []  # after each row: normalised service by tenant, and who had rows to run
    total = dict.fromkeys("abc", 0.0)
    for turn in range(60):
        for when, (tenant, length, cold) in later:
            if when == turn:
                put(tenant, length, cold)
        warm = turn in warm_at or turn >= 40

        def ready(refs, warm=warm):
            return {} if warm or not refs else None

        able = {t for t in "abc" if any(ready(row.refs) is not None for row in queue._lines.line(t))}
        picked = queue.take(Budget(64, tokens, 1), ready)
        assert bool(picked) == bool(able), "work-conserving"
        assert queue.check() == ()
        for one in picked:
            total[one.waiting.ticket.tenant] += one.paid
        still = {t for t in able if any(ready(row.refs) is not None for row in queue._lines.line(t))}
        history.append((dict(total), able & still))
    lengths = [(row[0], row[1]) for row in (*rows, *(row for _, row in later))]
    longest = {t: LAYERS * max((n for owner, n in lengths if owner == t), default=0) / weights[t] for t in "abc"}
    for one, other in (("a", "b"), ("a", "c"), ("b", "c")):
        low = high = None
        for before, (now, able) in zip([(dict.fromkeys("abc", 0.0), set()), *history], history, strict=False):
            if not {one, other} <= able:
                low = high = None
                continue
            start = before[0][one] - before[0][other]
            low, high = (start, start) if low is None else (min(low, start), max(high, start))
            gap = now[one] - now[other]
            assert max(gap - low, high - gap) <= longest[one] + longest[other] + 1e-6


def test_a_row_that_finds_no_device_bytes_is_passed_over_a_few_times_and_then_waited_for():
    queue, names = FairQueue(LAYERS, 1000, Clock(), {"a": 0.01}), iter(range(10**6))

    def put(tenant, name):
        made = ticket(f"{tenant}{next(names)}", tenant, adapters=[name])
        queue.put(Waiting(made, made.refs, print, 0.0, 1e9))

    put("a", "small")
    for _ in range(400):
        put("b", "small")  # always ahead of `a`, and so always first in the batch
    put("a", "big")
    for _ in range(400):
        put("a", "small")
    behind = []
    while True:
        picked = queue.take(Budget(4, 10**6, 5), lambda refs: {one: {"big": 5, "small": 1}[one.name] for one in refs})
        behind.append([one.waiting.refs[0].name for one in picked if one.waiting.ticket.tenant == "a"])
        if "big" in behind[-1]:
            break
    assert behind[-1][0] == "big"
    assert sum("small" in batch for batch in behind[1:-1]) <= PASSES
