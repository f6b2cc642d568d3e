"""One take: the plan of a step, sent by the client's processes, beside the publisher; and what came of it as a value."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.client import crew
from loadtests.client.crew import Sent
from loadtests.client.plan import WRONG, Lag, Plan, Publishes, Sample
from loadtests.proofs.stage import Stage
from loadtests.results.environment import busy_seconds, cpu_seconds, ended_seconds
from loadtests.results.publishing import publish_times
from loadtests.results.record import Client, Take
from loadtests.results.summing import by_tenant, sums_of
from loadtests.results.windows import blocks_of, phases_of, windows_of
from loadtests.running.preparing import Population
from loadtests.running.showing import Clock, Show
from loadtests.scenarios.steps import Step
from loadtests.scenarios.values import Arrivals, Scenario, Times
from loadtests.served.api import Api
from loadtests.served.counters import Counted, Totals, between
from loadtests.served.hot import publishes
from loadtests.traffic.trace import Trace, closed_trace, open_trace

PROBE = 32  # requests under way while the peak is looked for
PROBE_WARMUP_S = 2.0


@dataclass(frozen=True, eq=False)
class Bench:
    """A service that answers, and all that is known of what it holds. `stage` is None for one that is not ours."""

    api: Api
    population: Population
    stage: Stage | None
    folder: Path
    clients: int
    show: Show


@dataclass(frozen=True)
class Reading:
    """Processor time so far, in seconds, and what the service counted so far."""

    at: float
    machine: float
    service: float | None
    client: float
    totals: Totals | None

    @classmethod
    async def now(cls, bench: Bench, clients: Sequence[int]) -> "Reading":
        """Of the whole machine, of the service where it is ours, and of the client's processes."""
        service = None if bench.stage is None else cpu_seconds(bench.stage.pids())
        client = cpu_seconds(clients) + ended_seconds()  # who has nothing more to send may have ended
        return cls(time.monotonic(), busy_seconds(), service, client, await bench.api.totals())


async def probe(bench: Bench, scenario: Scenario, seed: int) -> float:
    """Right answers per second of a closed loop that keeps the service busy."""
    times = Times(seconds=scenario.time.probe_s, warmup_s=PROBE_WARMUP_S)
    always = tuple(replace(tenant, only="always") for tenant in scenario.tenants)
    scenario = replace(scenario, arrivals=Arrivals(closed=PROBE), time=times, tenants=always, publishing=None)
    clock = Clock(bench.show, "looking for the peak", times.warmup_s + times.seconds)
    plan = plan_of(bench, scenario, closed_trace(scenario, seed))
    sent = await crew.send(crew.split(plan, bench.clients, bench.folder), None, clock.heard, clock.begun)
    return sums_of(sent.samples, times.warmup_s, times.warmup_s + times.seconds).right_per_s


async def take(bench: Bench, step: Step, number: int, peak: float | None, seed: int) -> tuple[Take, tuple[Sample, ...]]:
    """Send one step; `number` is the round's. Raises `CrewFailed`."""
    scenario, asked = step.scenario, step.scenario.arrivals
    rate = asked.rate if asked.load is None else asked.load * (peak or 0.0)
    trace = closed_trace(scenario, seed) if rate is None else open_trace(scenario, rate, seed)
    plans = crew.split(plan_of(bench, scenario, trace), bench.clients, bench.folder)
    publishing = _publishing(bench, scenario, number, step)
    times = scenario.time
    clock = Clock(bench.show, _title(scenario, step, number), times.warmup_s + times.seconds)
    reading: list[asyncio.Task[tuple[Reading, Reading]]] = []

    def begun(start: float, pids: Sequence[int]) -> None:
        clock.begun(start, pids)
        reading.append(asyncio.create_task(_readings(bench, start, times, pids)))

    sent = await crew.send(plans, publishing, clock.heard, begun)
    before, after = await reading[0]
    return _take(step, number, rate, peak, sent, before, after), sent.samples


def plan_of(bench: Bench, scenario: Scenario, trace: Trace) -> Plan:
    """The whole plan of a trace, for one process."""
    population, target = bench.population, bench.api.target
    pairs = list(zip(trace.tenant.tolist(), trace.adapter.tolist(), strict=True))
    places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
    requests = tuple(
        (at, places[pair], tuple(texts))
        for at, pair, texts in zip(trace.at.tolist(), pairs, trace.texts.tolist(), strict=True)
    )
    return Plan(
        place=target.place,
        tenants=target.tenants,
        texts=population.pool.texts,
        known=tuple(population.of(*pair) for pair in places),
        requests=requests,
        seconds=scenario.time.warmup_s + scenario.time.seconds,
        timeout_ms=scenario.requests.timeout_ms,
        tolerance=target.tolerance,
        written="",
        closed=scenario.arrivals.closed or 0,
    )


def faults(samples: Sequence[Sample], most: int = 20) -> tuple[str, ...]:
    """The first wrong answers, in words."""
    wrong = [sample for sample in samples if sample.verdict == WRONG]
    return tuple(f"{s.tenant}: {s.adapter}, {s.intended:.3f} s after the start: {s.detail}" for s in wrong[:most])


def _publishing(bench: Bench, scenario: Scenario, number: int, step: Step) -> Publishes | None:
    if scenario.publishing is None or bench.population.hot is None:
        return None
    made, known = bench.population.hot
    text = bench.population.pool.texts[made.texts[0]]
    written = bench.folder / "publishes.jsonl"
    # Each take has a name of its own: the copies of the one before would be versions that are there already.
    own = replace(made, name=f"{made.name}-{number}-{step.name or 'x'}".replace(".", "-"))
    known = replace(known, name=own.name)
    bench.api.published.append((own.tenant, own.name))
    return publishes(known, own, bench.api.target, text, publish_times(scenario), written, ask=scenario.publishing.ask)


async def _readings(bench: Bench, start: float, times: Times, pids: Sequence[int]) -> tuple[Reading, Reading]:
    """At the end of the warm-up, and at the end of the load."""
    ends = []
    for at in (start + times.warmup_s, start + times.warmup_s + times.seconds):
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        ends.append(await Reading.now(bench, pids))
    return ends[0], ends[1]


def _counted(before: Reading, after: Reading) -> Counted | None:
    if before.totals is None or after.totals is None:
        return None
    return between(before.totals, after.totals)


def _client(lags: Sequence[Lag], before: Reading, after: Reading) -> Client:
    seconds = after.at - before.at
    service = None
    if before.service is not None and after.service is not None:
        service = (after.service - before.service) / seconds
    return Client(
        processes=len(lags),
        sent_p99_ms=max(lag.sent_p99 for lag in lags),
        sent_max_ms=max(lag.sent_max for lag in lags),
        loop_p99_ms=max(lag.loop_p99 for lag in lags),
        loop_max_ms=max(lag.loop_max for lag in lags),
        connections=sum(lag.connections for lag in lags),
        again=sum(lag.again for lag in lags),
        cores=(after.client - before.client) / seconds,
        service_cores=service,
        machine_cores=(after.machine - before.machine) / seconds,
    )


def _take(
    step: Step, number: int, rate: float | None, peak: float | None, sent: Sent, before: Reading, after: Reading
) -> Take:
    times, samples = step.scenario.time, sent.samples
    start, end = times.warmup_s, times.warmup_s + times.seconds
    return Take(
        value=step.value,
        round=number,
        rate=rate,
        peak=peak,
        warmup_s=times.warmup_s,
        sums=sums_of(samples, start, end, curve=True),
        all_verdicts=dict(Counter(sample.verdict for sample in samples)),
        tenants={name: sums_of(own, start, end) for name, own in by_tenant(samples).items()},
        phases=phases_of(samples, times),
        windows=windows_of(samples, end),
        blocks=blocks_of(samples, times),
        published=sent.published,
        counted=_counted(before, after),
        client=_client(sent.lags, before, after),
    )


def _title(scenario: Scenario, step: Step, number: int) -> str:
    swept = f", {step.name}" if step.name else ""
    return f"round {number + 1}{swept}" if scenario.time.rounds > 1 or swept else "load"
