"""The right adapter under churn: everything moves, and every answer is decoded to whom it is from.

Two engines have device room for 8 of 200 adapters of three tenants. That everything did move is counted as well: acts of
each kind, loads, evictions. Then the same with two faults planted into the engines, one at a time: a proof that can not
see them would prove nothing.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.calls import Told, answered, call, predict
from loadtests.proofs.evidence import Evidence, Figure, spread
from loadtests.proofs.fingerprints import METHODS, Forge, Identity
from loadtests.proofs.given import Given
from loadtests.proofs.operators import Operator
from loadtests.proofs.planted import FAULTS, hook
from loadtests.proofs.population import TENANTS, Name, Population, keys
from loadtests.proofs.stage import ROOT, Stage, staged

CLIENTS = 16
DEVICE_ROOM, HOST_ROOM = 8, 40  # adapters of mean size
PAUSE_S = 0.1  # of each operator, between two acts
BY_NUMBER, BY_ALIAS = 0.15, 0.15  # of the requests; the others name no version
ACTS = {  # what operators call them
    "publishes": ("publish",),
    "alias moves": ("move", "move through the gate"),
    "deletes": ("retire", "retire all"),
    "reloads": ("preload",),
}
LOADED = ("host", "disk")  # tiers that an answer's adapter had to be loaded from


@dataclass(frozen=True)
class Size:
    """How many requests, about how many adapters; requests under each planted fault; what has to move at least."""

    answers: int
    adapters: int
    planted: int
    acts: int  # of each kind
    loads: int  # to the device, and evictions from it


WHOLE, QUICK = Size(20_000, 200, 2_000, 50, 1_000), Size(1_500, 60, 500, 4, 75)


@dataclass
class Tally:
    """What came back."""

    right: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    acts: Counter[str] = field(default_factory=Counter)
    failed_acts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    evictions: int = 0  # from the devices of all engines

    @property
    def answers(self) -> int:
        """Requests that were answered with 200."""
        return self.right + self.wrong.total()


def run(given: Given) -> Evidence:
    """Churn honestly, then with each fault planted."""
    size = given.sized(WHOLE, QUICK)
    backbone = tiny(given.folder / "backbone", given.seed)
    honest = _stage_and_churn(given, backbone, size.adapters, size.answers, fault=None)
    planted = {
        fault: _stage_and_churn(given, backbone, min(size.adapters, 60), size.planted, fault=fault) for fault in FAULTS
    }
    return evidence(given, size, honest, planted)


def evidence(given: Given, size: Size, honest: Tally, planted: dict[str, Tally]) -> Evidence:
    """The figures."""
    figures = (
        Figure("answers", honest.answers, ">=", size.answers, "requests"),
        Figure("wrong answers", honest.wrong.total(), "=", 0, "requests"),
        Figure("failed requests", honest.failed.total(), "=", 0, "requests"),
        Figure("failed acts of operators", honest.failed_acts.total(), "=", 0, "requests"),
        *(
            Figure(kind, sum(honest.acts[act] for act in acts), ">=", size.acts, "requests")
            for kind, acts in ACTS.items()
        ),
        Figure("answers that a load came before", sum(honest.tiers[t] for t in LOADED), ">=", size.loads, "requests"),
        Figure("evictions from the devices", honest.evictions, ">=", size.loads, "adapters"),
        *(
            Figure(f"wrong answers with {fault}", tally.wrong.total(), ">=", 1, "requests")
            for fault, tally in planted.items()
        ),
    )
    seen = {
        "adapters": size.adapters,
        "tenants": len(TENANTS),
        "device room": DEVICE_ROOM,
        "found in tier": dict(honest.tiers),
        "acts": dict(honest.acts),
        "wrong": dict(honest.wrong),
        "failed": dict(honest.failed),
        "failed acts": dict(honest.failed_acts),
        "request, seconds": spread(honest.seconds),
        "planted": {
            fault: {"answers": tally.answers, "wrong": dict(tally.wrong), "failed": dict(tally.failed)}
            for fault, tally in planted.items()
        },
    }
    return Evidence("churn", given.seed, figures, seen)


def _stage_and_churn(given: Given, backbone: Path, adapters: int, requests: int, *, fault: str | None) -> Tally:
    forge = Forge(backbone, TEXTS, given.seed)
    data = given.folder / (fault or "honest")
    held = keys(data)
    slots = [forge.make("size", method).slot_bytes for method in METHODS]
    rooms = ("--device-cache", f"{room(slots, DEVICE_ROOM)}B", "--host-cache", f"{room(slots, HOST_ROOM)}B")
    environment = {}
    if fault is not None:
        environment["PYTHONPATH"] = f"{hook(given.folder / f'{fault}-hook', fault)}:{ROOT}"
    stage = Stage(backbone, data, 2, 2, rooms, environment, key=held[TENANTS[0]])
    with staged(stage):
        tally = asyncio.run(_churn(stage, Population(forge, adapters), held, requests, given.seed))
        stage.stop()
    return tally


def room(slots: Sequence[int], adapters: int) -> int:
    """Bytes for so many adapters of mean size, and for the largest: a batch needs one in whole."""
    return max(adapters * sum(slots) // len(slots), *slots)


async def _churn(stage: Stage, population: Population, held: dict[str, str], requests: int, seed: int) -> Tally:
    sessions = {tenant: stage.session(key=key) for tenant, key in held.items()}
    operators = [Operator(session, population, tenant, seed) for tenant, session in sessions.items()]
    tally, over, left = Tally(), asyncio.Event(), itertools.count()
    try:
        await asyncio.gather(*(operator.begin() for operator in operators))
        working = [asyncio.create_task(operator.work(over, PAUSE_S)) for operator in operators]

        async def client(number: int) -> None:
            dice = random.Random(f"{seed}/{number}")
            while next(left) < requests:
                await _ask(sessions, population, dice, tally)

        await asyncio.gather(*(client(number) for number in range(CLIENTS)))
        over.set()
        await asyncio.gather(*working)
        tally.evictions = await _evictions(next(iter(sessions.values())))
    finally:
        for session in sessions.values():
            await session.close()
    for operator in operators:
        tally.acts.update(operator.done)
        tally.failed_acts.update(operator.failed)
    return tally


async def _evictions(session: aiohttp.ClientSession) -> int:
    told = await call(session, "GET", "/v1/residency")
    return sum(int(replica["counters"]["evictions_device"]) for replica in told.body.get("replicas", ()))


async def _ask(
    sessions: dict[str, aiohttp.ClientSession], population: Population, dice: random.Random, tally: Tally
) -> None:
    """One request by one of the three ways to name a version, decoded and counted."""
    name = _drawn(population.names, dice)
    way = dice.random()
    version = dice.choice(sorted(name.versions - name.doomed)) if way < BY_NUMBER else None
    suffix = f"@{version}" if version is not None else "@prod" if way < BY_NUMBER + BY_ALIAS else ""
    chosen = dice.sample(range(len(population.texts)), dice.randint(1, 3))
    name.used[version] += 1
    try:
        told = await predict(sessions[name.tenant], name.name + suffix, [population.texts[i] for i in chosen])
    finally:
        await name.leave(version)
    tally.seconds.append(told.seconds)
    if told.status != 200:
        tally.failed[told.why] += 1
        return
    right: AbstractSet[int] = {version} if version is not None else name.timeline.current(told.began, told.ended)
    fault = fault_in(told, population, name, right, chosen)
    if fault:
        tally.wrong[fault] += 1
    else:
        tally.right += 1
    tally.tiers.update(dict(told.body.get("residency", {})).values())


def fault_in(told: Told, population: Population, name: Name, right: AbstractSet[int], chosen: list[int]) -> str:
    """What is wrong with an answer; empty where every text was answered by one version that was right."""
    try:
        (said_name, said_version), scores = answered(told)
    except ValueError as error:
        return str(error)
    if len(scores) != len(chosen):
        return "another number of outputs"
    found = {population.book.read(text, row) for text, row in zip(chosen, scores, strict=True)}
    if found == {None}:
        return "nobody answers so"
    if len(found) > 1:
        return "two answered one request"
    (who,) = found
    assert who is not None
    if who.tenant != name.tenant:
        return "another tenant's adapter"
    if who.name != name.name:
        return "another adapter"
    if who.version not in right:
        return "a version that was not current"
    return "" if who == Identity(name.tenant, said_name, said_version) else "the answer names another version"


def _drawn(names: Sequence[Name], dice: random.Random) -> Name:
    """Some names are asked for far more often than others; those that are away, never."""
    name = names[(int(dice.paretovariate(0.6)) - 1) % len(names)]
    return name if not name.away else _drawn(names, dice)
