"""A whole run: its services, every step of every round, and the record of it.

One service answers all rounds, except where its room is swept: then each room has a new one in every round, so that rounds go there
and back over the rooms as over any other steps, and all are offered shares of the peak of the first.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from loadtests.client.plan import Tenant
from loadtests.results import folder as folders
from loadtests.results.environment import accelerator, environment
from loadtests.results.judging import checks_of, figures_of
from loadtests.results.record import FORMAT, Run, Take
from loadtests.running.preparing import NotPrepared, Population, asked, computed, publish
from loadtests.running.settings import Settings
from loadtests.running.showing import Show
from loadtests.running.taking import Bench, faults, probe, take
from loadtests.scenarios.steps import Step, steps_of
from loadtests.scenarios.values import Room, Scenario
from loadtests.served.api import Api, ServiceFailed, connect
from loadtests.served.own import Rooms, room_of, started
from loadtests.served.target import Target, place_of, read_keys

CROWDED = 0.2  # cores that others may use before it is told
SPREAD = 1_000_003  # between the seeds of two rounds


@dataclass
class Found:
    """What is gathered on the way."""

    takes: list[Take] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    service: dict[str, Any] = field(default_factory=dict)
    population: Population | None = None
    peak: float | None = None  # requests per second, where it was looked for


Visit = tuple[int, Step]  # a round, and a step of it


async def execute(settings: Settings, scratch: Path, show: Show) -> Run:
    """Run everything, and write what was sent as it comes. Raises what preparing, the service and the client raise."""
    began, clock, found = datetime.now(UTC), time.monotonic(), Found()
    machine = environment()
    if settings.own is not None:
        await _on_own(settings, scratch, show, found)
    else:
        await _on_running(settings, scratch, show, found)
    machine["load_average_after"] = environment()["load_average"]
    assert found.population is not None
    figures = figures_of(settings.scenario, found.takes)
    return Run(
        format=FORMAT,
        name=settings.name,
        scenario=settings.scenario,
        command=settings.command,
        seed=settings.seed,
        began=began.isoformat(timespec="seconds"),
        seconds=time.monotonic() - clock,
        environment=machine,
        service=found.service,
        population=told_of(found.population, settings),
        takes=tuple(found.takes),
        figures=figures,
        checks=checks_of(settings.scenario, figures),
        faults=tuple(found.faults[:20]),
        notes=tuple(dict.fromkeys(found.notes)),
    )


async def _on_own(settings: Settings, scratch: Path, show: Show, found: Found) -> None:
    own = settings.own
    assert own is not None
    found.population = population = computed(settings, own.backbone, scratch / "packages", show)
    assert population.slot_bytes is not None
    budgets = dict[Room, Any]()
    for number, visits in enumerate(services_of(settings.scenario)):
        room = visits[0][1].scenario.room
        rooms = Rooms(room_of(room.device, population.slot_bytes), room_of(room.host, population.slot_bytes))
        show.begin("starting the service", 1)
        data = scratch / f"data-{number}"
        with started(own, rooms, settings.scenario.tenants, data, settings.tolerance) as (target, stage):
            async with connect(target) as api:
                await _weigh(api, settings)
                await publish(api, population.packages, show)
                told = await _told(api, found)
                budgets.setdefault(room, told["budgets"])
                told["budgets"] = [budget for held in budgets.values() for budget in held]
                told |= {"backbone": own.backbone.name, "own": True, "accelerator": accelerator(own.device)}
                found.service = asdict(own) | told
                await _visit(settings, Bench(api, population, stage, scratch, settings.clients, show), visits, found)


async def _on_running(settings: Settings, scratch: Path, show: Show, found: Found) -> None:
    scenario = settings.scenario
    keys, watcher = read_keys(settings.key_file, tuple(tenant.name for tenant in scenario.tenants))
    callers = tuple(Tenant(name, key) for name, key in keys.items() if name in {t.name for t in scenario.tenants})
    target = Target(place_of(settings.url or ""), callers, settings.tolerance, watcher)
    if scenario.sweep is not None and scenario.sweep.over == "device":
        raise NotPrepared(
            "the scenario sweeps the room on the device, which only a service of our own has: leave out --url"
        )
    if any(step.scenario.room.device or step.scenario.room.host for step in steps_of(scenario)):
        found.notes.append("The scenario's cache room was not applied: the running service has its own.")
    if any(tenant.weight != 1.0 for tenant in scenario.tenants):
        found.notes.append("The tenants' weights were not set: in the running service they have their own.")
    async with connect(target) as api:
        try:
            if settings.backbone is not None:
                population = computed(settings, settings.backbone, scratch / "packages", show)
                await publish(api, population.packages, show)
            else:
                population = await asked(settings, api, scratch / "packages", show)
            found.population = population
            found.service = {"own": False, "url": target.url, **await _told(api, found)}
            bench = Bench(api, population, None, scratch, settings.clients, show)
            await _visit(settings, bench, visits_of(scenario), found)
        finally:
            if not settings.leave:
                show.begin("clearing away", len(api.published))
                if stay := await api.retire(show.at):
                    found.notes.append(f"{stay} of the names that were published could not be retired.")


def visits_of(scenario: Scenario) -> list[Visit]:
    """Every step of every round: back and forth, so that what the machine does meanwhile falls on all steps alike."""
    steps = steps_of(scenario)
    return [
        (number, step)
        for number in range(scenario.time.rounds)
        for step in (steps if number % 2 == 0 else reversed(steps))
    ]


def services_of(scenario: Scenario) -> list[list[Visit]]:
    """What each service of our own is asked: all of it where there is one room, else what one room is asked in one round."""
    visits = visits_of(scenario)
    if _rooms(scenario) == 1:
        return [visits]
    return [list(some) for _, some in groupby(visits, key=lambda visit: (visit[0], visit[1].scenario.room))]


async def _visit(settings: Settings, bench: Bench, visits: Sequence[Visit], found: Found) -> None:
    for number, some in groupby(visits, key=lambda visit: visit[0]):
        seed = settings.seed + SPREAD * number
        await _find_peak(settings.scenario, bench, seed, found)
        for _, step in some:
            made, samples = await take(bench, step, number, found.peak, seed)
            found.takes.append(made)
            found.faults += faults(samples)
            folders.append(settings.out, made, samples)
            bench.show.line(line_of(made))
            if made.counted is None:
                found.notes.append("The key may not read the service's metrics: batches and tiers are not told.")
    busy = max((take.client.other_cores or 0.0) for take in found.takes)
    if busy > CROWDED:
        found.notes.append(
            f"The machine was shared: processes that are no part of this run used up to {busy:.1f} of its cores."
        )


async def _find_peak(scenario: Scenario, bench: Bench, seed: int, found: Found) -> None:
    """Once in each round; of several rooms the first one's, once: what they are asked must not depend on what they can."""
    steps = steps_of(scenario)
    if all(step.scenario.arrivals.load is None for step in steps) or (found.peak and _rooms(scenario) > 1):
        return
    found.peak = await probe(bench, steps[0].scenario, seed)
    if not found.peak:
        raise ServiceFailed("nothing was answered while the peak was looked for: see the service's log")
    bench.show.line(f"peak: {found.peak:.1f} requests/s")


def _rooms(scenario: Scenario) -> int:
    return len({step.scenario.room for step in steps_of(scenario)})


def line_of(take: Take) -> str:
    """One take in one line."""
    sums, value = take.sums, "" if take.value is None else f"{take.value}: "
    offered = "closed loop" if take.rate is None else f"{sums.offered_per_s:.1f}/s offered"
    waits = "-" if sums.waits.p50 is None else f"p50 {sums.waits.p50:.1f}, p99 {sums.waits.p99:.1f} ms"
    rest = ", ".join(f"{count} {verdict}" for verdict, count in sums.verdicts.items() if verdict != "right")
    return f"{value}{offered}, {sums.right_per_s:.1f}/s right, {waits}{', ' if rest else ''}{rest}"


def told_of(population: Population, settings: Settings) -> dict[str, Any]:
    """The population for the record."""
    sizes = [one.path.stat().st_size for one in population.made]
    return {
        "adapters": len(population.made),
        "tenants": len(settings.scenario.tenants),
        "methods": sorted({one.method for one in population.made}),
        "package_bytes": round(sum(sizes) / len(sizes)),
        "slot_bytes": population.slot_bytes,
        "fingerprints": population.how,
        "nearest": population.nearest if len(population.made) > 1 else None,
        "tolerance": settings.tolerance,
        "tokens_per_word": population.tokens.per_word,
        "texts": len(population.pool.texts),
        "texts_cut": population.pool.cut,
    }


async def _weigh(api: Api, settings: Settings) -> None:
    for tenant in settings.scenario.tenants:
        if tenant.weight != 1.0:
            await api.call("PUT", f"/v1/tenants/{tenant.name}", api.target.watcher, {"weight": tenant.weight})


async def _told(api: Api, found: Found) -> dict[str, Any]:
    """What the service says of itself."""
    profile, residency = await api.profile(), await api.residency()
    replicas = [] if residency is None else list(residency.get("replicas", ()))
    budgets = [replica.get("budgets") for replica in replicas]
    population = found.population
    if population is not None and population.pool.cut:
        found.notes.append(
            f"{population.pool.cut} of {len(population.pool.texts)} texts were cut to the {population.tokens.longest} tokens "
            f"that the backbone takes."
        )
    return {"id": profile.id, "digest": profile.digest, "engines_seen": len(replicas), "budgets": budgets[:1]}
