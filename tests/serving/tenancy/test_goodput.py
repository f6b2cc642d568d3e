"""What overload does to the work that is done: nothing. By simulation, in virtual time, with fixed seeds."""

import asyncio
import math

import pytest

from serving.registry.records import Quota
from tests.serving.tenancy.simulated import BUDGET, LAYERS, RATE, STEP_S, Service
from tests.serving.virtual_time import run

WARM_UP_S = 5.0  # the rate is not known before the first report
SECONDS = 15.0


def flooded(load: float, engines: int, gateways: int, **requests) -> tuple[float, Service]:
    """Goodput as a part of the engines' rate, at `load` times that rate."""

    async def main():
        async with Service(engines, gateways, seed=7) as service:
            begin = asyncio.get_running_loop().time() + WARM_UP_S
            await service.flood("a", load * RATE * engines, SECONDS, **requests)
            end = asyncio.get_running_loop().time()
            return service.goodput("a", begin, end) / (RATE * engines), service

    return run(main())


def p99(values) -> float:
    ranked = sorted(values)
    return ranked[math.ceil(0.99 * len(ranked)) - 1]


@pytest.mark.parametrize(("engines", "gateways"), [(1, 1), (2, 2), (1, 4)])
def test_goodput_stays_at_its_peak_however_much_comes(engines, gateways):
    goodput = {load: flooded(load, engines, gateways)[0] for load in (1.2, 2.0, 5.0, 10.0)}
    peak = max(goodput.values())
    assert peak > 0.85
    assert goodput[2.0] >= 0.95 * peak
    assert goodput[5.0] >= 0.95 * peak
    assert goodput[10.0] >= 0.95 * peak


@pytest.mark.parametrize("load", [2.0, 10.0])
def test_refusals_come_at_once_and_say_when_to_come_back(load):
    _, service = flooded(load, 2, 2)
    refused = service.refused
    assert len(refused) > 100
    assert p99(outcome.ended - outcome.arrived for outcome in refused) < 0.05
    assert all(outcome.retry_after for outcome in refused)
    late = [o for o in service.outcomes if o.code == "deadline_exceeded" and o.arrived > 1000 + WARM_UP_S]
    assert len(late) < 0.02 * sum(o.code == "ok" for o in service.outcomes)


def test_at_a_load_that_can_be_served_nobody_is_refused():
    goodput, service = flooded(0.6, 2, 2, timeouts=(1.0, 5.0))
    assert goodput > 0.55
    assert not [o for o in service.outcomes if o.code != "ok" and o.arrived > 1000 + WARM_UP_S]


def test_a_flood_of_one_tenant_is_no_matter_to_another():
    """A comes with ten times what there is; B with a tenth of its half has no error, and waits for a step or two."""

    async def main(flood: bool):
        async with Service(2, 2, seed=3) as service:
            work = [service.flood("b", 0.1 * RATE, SECONDS, timeouts=(1.0,), rows=(1, 1))]
            if flood:
                work.append(service.flood("a", 10 * 2 * RATE, SECONDS))
            await asyncio.gather(*work)
            return [o for o in service.outcomes if o.tenant == "b"]

    solo, beside = run(main(flood=False)), run(main(flood=True))
    step = STEP_S + BUDGET.tokens * LAYERS / RATE
    assert {outcome.code for outcome in beside} == {"ok"}
    assert p99(o.ended - o.arrived for o in beside) <= 1.5 * p99(o.ended - o.arrived for o in solo) + 2 * step


def test_weights_divide_what_there_is():
    async def main():
        quotas = {"one": Quota(weight=1), "two": Quota(weight=2), "four": Quota(weight=4)}
        async with Service(1, 2, quotas=quotas, seed=5) as service:
            await asyncio.gather(*(service.flood(tenant, 3 * RATE, 35.0) for tenant in quotas))
            end = asyncio.get_running_loop().time()
            return [service.goodput(tenant, end - 30, end) for tenant in quotas]

    shares = run(main())
    total = sum(shares)
    assert total > 0.85 * RATE
    assert [share / total for share in shares] == pytest.approx([1 / 7, 2 / 7, 4 / 7], abs=0.03)


@pytest.mark.parametrize("retry_s", [0.05, None])
def test_a_storm_of_retries_ends_when_the_load_does(retry_s):
    """Five times the load, every client trying three times more (at once, or when it was told to), then 0.7 of it."""

    async def main():
        async with Service(2, 2, seed=11) as service:
            loop = asyncio.get_running_loop()
            await service.flood("a", 0.7 * 2 * RATE, 25.0)
            before = service.goodput("a", loop.time() - 20, loop.time())
            await service.flood("a", 5 * 2 * RATE, 30.0, retries=3, retry_s=retry_s)
            calm = loop.time()
            await service.flood("a", 0.7 * 2 * RATE, 30.0)
            return before, service.goodput("a", calm + 10, calm + 30)

    before, after = run(main())
    assert after >= 0.95 * before


def test_a_start_with_everybody_waiting_does_not_stay_overloaded():
    """Nothing is known of the rate, and four times the load comes from the first moment on."""

    async def main():
        async with Service(1, 2, seed=13) as service:
            begin = asyncio.get_running_loop().time()
            await service.flood("a", 4 * RATE, 20.0, retries=2, retry_s=0.1)
            return service.goodput("a", begin + 5, begin + 20) / RATE

    assert run(main()) > 0.85
