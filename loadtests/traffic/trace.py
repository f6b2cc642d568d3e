"""The trace of one step: every request with its time, its tenant, its adapter and its texts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtests.scenarios.values import Scenario, Tenant
from loadtests.traffic.arrivals import arrivals, by_day, is_busy
from loadtests.traffic.popularity import draw

RESERVE = 20_000  # requests that a closed loop takes one after the other, from the first again at the end


@dataclass(frozen=True, eq=False)
class Trace:
    """One request per entry: seconds after the start (0 in a closed loop), tenant, adapter of the tenant, its texts [n, rows]."""

    at: NDArray[np.float64]
    tenant: NDArray[np.int64]
    adapter: NDArray[np.int64]
    texts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at)


def open_trace(scenario: Scenario, rate: float, seed: int) -> Trace:
    """An open loop of so many requests per second, all tenants together where all of them ask."""
    times = scenario.time
    seconds = times.warmup_s + times.seconds
    shares = np.array([tenant.share for tenant in scenario.tenants])
    rates = rate * shares / shares.sum()
    drawn = []
    for number, tenant in enumerate(scenario.tenants):
        at = _times(scenario, tenant, float(rates[number]), seconds, np.random.default_rng([seed, 3, number]))
        drawn.append(_asked(scenario, number, at, seed))
    return _merged(drawn)


def closed_trace(scenario: Scenario, seed: int) -> Trace:
    """What a closed loop asks, in this order; popularity drifts by the position, as if a second held a hundred requests."""
    shares = np.array([tenant.share for tenant in scenario.tenants])
    turns = np.random.default_rng([seed, 5]).choice(len(shares), size=RESERVE, p=shares / shares.sum())
    position = np.arange(RESERVE) / 100.0
    merged = _merged([_asked(scenario, number, position[turns == number], seed) for number in range(len(shares))])
    return Trace(np.zeros(len(merged)), merged.tenant, merged.adapter, merged.texts)


def _times(
    scenario: Scenario, tenant: Tenant, rate: float, seconds: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    asked, times = scenario.arrivals, scenario.time
    daily = by_day(rate, asked.depth, asked.days, seconds)
    if tenant.only == "always":
        return arrivals(seconds, asked.cv, daily, rng)
    return arrivals(seconds, asked.cv, lambda at: daily(at) * is_busy(at, times.warmup_s, times.phase_s), rng)


def _asked(scenario: Scenario, tenant: int, at: NDArray[np.float64], seed: int) -> Trace:
    rng = np.random.default_rng(
        [seed, 2, tenant]
    )  # not that of the times: at another rate the same adapters are popular
    adapter = draw(scenario.popularity, scenario.adapters.count, at, rng)
    each = np.array([scenario.adapters.texts_of(number) for number in range(scenario.adapters.count)])
    texts = (rng.random((len(at), scenario.requests.rows)) * each[adapter, None]).astype(np.int64)
    return Trace(at, np.full(len(at), tenant, np.int64), adapter, texts)


def _merged(traces: list[Trace]) -> Trace:
    at = np.concatenate([trace.at for trace in traces])
    order = np.argsort(at, kind="stable")
    return Trace(
        at[order],
        np.concatenate([trace.tenant for trace in traces])[order],
        np.concatenate([trace.adapter for trace in traces])[order],
        np.concatenate([trace.texts for trace in traces])[order],
    )
