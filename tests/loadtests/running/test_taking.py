import asyncio
from dataclasses import replace

import pytest

from loadtests.client.plan import Tenant
from loadtests.results.record import Take
from loadtests.running.preparing import asked
from loadtests.running.settings import Settings
from loadtests.running.showing import Show
from loadtests.running.taking import Bench, faults, plan_of, probe, take
from loadtests.scenarios.steps import steps_of
from loadtests.served.api import connect
from loadtests.served.target import Target, place_of
from loadtests.traffic.trace import open_trace
from tests.loadtests.fake import FakeService, Served, sample, scenario

SHORT = {"seconds": 0.6, "warmup_s": 0.2, "probe_s": 0.3}


@pytest.fixture
def served(profile):
    fake = FakeService(profile)
    fake.metrics_for = "watch"
    with Served(fake) as held:
        yield held


def on_bench(served, folder, work, **changes):
    """What `work(bench, step)` returns."""
    held = scenario(**({"adapters": {"count": 4, "texts": 2}, "time": SHORT, "arrivals": {"rate": 60}} | changes))
    callers = tuple(Tenant(tenant.name, f"ck_{tenant.name}") for tenant in held.tenants)
    target = Target(place_of(served.url), callers, 1e-4, "watch")
    settings = Settings("x", held, folder, 0, "x", None, served.url, None, None, 1, 1e-4)

    async def run():
        async with connect(target) as api:
            population = await asked(settings, api, folder / "packages", Show(quiet=True))
            bench = Bench(api, population, None, folder, 1, Show(quiet=True))
            return await work(bench, steps_of(held)[0])

    return asyncio.run(run())


def test_a_take_tells_what_was_sent_and_what_the_service_counted(served, tmp_path):
    made, samples = on_bench(served, tmp_path, lambda bench, step: take(bench, step, 2, None, 0))
    assert isinstance(made, Take)
    assert (made.round, made.rate, made.value) == (2, 60.0, None)
    assert sum(made.all_verdicts.values()) == len(samples)
    assert made.sums.verdicts == {"right": made.sums.requests}
    assert 0 < made.counted.batches <= len(samples)
    assert made.client.processes == 1
    assert made.client.service_cores is None
    assert made.client.machine_cores > 0
    assert made.sums.waits.curve


def test_a_share_of_the_peak_is_a_rate(served, tmp_path):
    made, _ = on_bench(
        served, tmp_path, lambda bench, step: take(bench, step, 0, 200.0, 0), arrivals={"load": 0.25}
    )  # fmt: skip
    assert (made.rate, made.peak) == (50.0, 200.0)


def test_the_peak_is_what_a_closed_loop_reaches_busy_tenants_included(served, tmp_path):
    tenants = [{"name": "a"}, {"name": "b", "only": "busy"}]
    peak = on_bench(
        served, tmp_path, lambda bench, step: probe(bench, step.scenario, 0), tenants=tenants,
        time=SHORT | {"phase_s": 0.3},
    )  # fmt: skip
    assert peak > 60
    assert {"Bearer ck_a", "Bearer ck_b"} <= served.fake.keys


def test_a_plan_holds_the_adapters_that_are_asked_and_each_tenants_key(served, tmp_path):
    async def work(bench, step):
        trace = open_trace(step.scenario, 60.0, 0)
        return bench, trace, plan_of(bench, step.scenario, trace)

    tenants = [{"name": "a"}, {"name": "b"}]
    bench, trace, plan = on_bench(served, tmp_path, work, tenants=tenants)
    assert len(plan.requests) == len(trace)
    for number, (at, place, texts) in enumerate(plan.requests):
        asked_for = bench.population.of(int(trace.tenant[number]), int(trace.adapter[number]))
        assert plan.known[place] is asked_for
        assert at == trace.at[number]
        assert all(text < len(asked_for.texts) for text in texts)
    assert [tenant.key for tenant in plan.tenants] == ["ck_a", "ck_b"]
    assert (plan.closed, plan.seconds) == (0, pytest.approx(0.8))


def test_every_take_publishes_under_a_name_of_its_own(served, tmp_path):
    async def work(bench, step):
        first, _ = await take(bench, step, 0, None, 0)
        second, _ = await take(bench, replace(step, value=0.5), 1, None, 0)
        return first, second

    takes = on_bench(served, tmp_path, work, publishing={"per_s": 5.0, "megabytes": 0.05})
    assert [[one.verdict for one in made.published] for made in takes] == [["right"] * 3] * 2
    assert {"hot-0-0-x", "hot-0-1-0-5"} <= set(served.fake.names)


def test_the_first_wrong_answers_are_told():
    wrong = [sample(n / 10, verdict="wrong", detail="off") for n in range(30)]
    told = faults([sample(), *wrong])
    assert len(told) == 20
    assert told[0] == "default: a, 0.000 s after the start: off"
    assert faults([sample(verdict="late")]) == ()
