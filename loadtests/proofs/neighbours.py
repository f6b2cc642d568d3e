"""A tenant that misbehaves is its own problem: what it does to a neighbour's waits.

Tenant A floods with ten times its share, asks two hundred adapters that are nowhere near the device, or sends the longest
rows there can be; tenant B goes on asking a little. B's waits are compared with those that it has alone, in the same run,
the parts taking turns; a step that runs already can not be taken back, so one of these is allowed on top. Then three
tenants with the weights 1, 2 and 4 have more to do than can be done, and must get just these shares.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from loadtests.proofs.backbones import sentence_encoder
from loadtests.proofs.callers import TENANT_SCOPES, make_keys
from loadtests.proofs.calls import call
from loadtests.proofs.evidence import Evidence, Figure, percentile, spread
from loadtests.proofs.fingerprints import Forge
from loadtests.proofs.firing import Volley, evenly, fire, randomly
from loadtests.proofs.given import Given
from loadtests.proofs.stage import Stage, StageFailed, staged
from loadtests.proofs.volley import Plan, Question, Shot
from loadtests.proofs.workload import LONGEST, SHORT, Asker, sentences

A, B, HEAVIES = "amber", "birch", ("one", "two", "four")
WEIGHTS = {"one": 1.0, "two": 2.0, "four": 4.0}
OFFICE = "office"
COLD = 200  # adapters
ROOM = 40  # adapters that the device holds
FLOOD = 10.0  # times A's share, which is half
ROWS = 16  # of a request of the flood
LOAD = 0.12  # B's part of what the service can do
DEADLINE_MS = 30_000
SLOWER = 1.5
TOLERANCE = 0.03  # of a share
UNDER_WAY = 64  # rows of each of the three
WARM_S = 4.0
CASES = ("flood", "cold adapters", "longest rows")
REFUSED = (429, 503, 504)  # what a tenant may meet that asks for more than there is


@dataclass(frozen=True)
class Size:
    """How often, and how long each part is; the adapters that are cold."""

    rounds: int
    seconds: float
    backlog_s: float
    cold: int


@dataclass(frozen=True, eq=False)
class House:
    """Who asks what: one row of B, a request of the flood, one as large of each cold adapter, one of the longest rows."""

    stage: Stage
    mine: tuple[Question, ...]
    flood: tuple[Question, ...]
    cold: tuple[Question, ...]
    longest: tuple[Question, ...]
    heavies: tuple[Question, ...]


@dataclass
class Seen:
    """B's shots by part; the volleys; the forward passes of each part, in milliseconds."""

    rows_per_s: float = 0.0
    mine: dict[str, list[Shot]] = field(default_factory=dict)
    forward_ms: dict[str, list[float]] = field(default_factory=dict)
    volleys: dict[str, list[Volley]] = field(default_factory=dict)
    backlog: Volley | None = None


def run(given: Given) -> Evidence:
    """B alone and beside A in turns, then the three that have too much to do."""
    size = given.sized(Size(3, 15.0, 30.0, COLD), Size(1, 5.0, 8.0, 60))
    backbone, data = sentence_encoder(), given.folder / "data"
    keys = make_keys(data, {**dict.fromkeys((A, B, *HEAVIES), TENANT_SCOPES), OFFICE: ("admin",)})
    short = Forge(backbone, sentences(backbone, 2 * ROWS, SHORT, given.seed), given.seed)
    askers = {name: Asker.of(short, name, keys[name], 2 if name == B else 1) for name in (A, B, *HEAVIES)}
    few = Forge(backbone, short.texts[:ROWS], given.seed)
    askers["cold"] = Asker.of(few, "cold", keys[A], size.cold)
    long = Forge(backbone, sentences(backbone, 2, LONGEST, given.seed), given.seed)
    askers["long"] = Asker.of(long, "long", keys[A], 1)
    slot = next(iter(askers["cold"].adapters.values())).slot_bytes
    options = ("--device-cache", f"{ROOM * slot}B", "--host-cache", f"{2 * ROOM * slot}B")
    with staged(Stage(backbone, data, options=options, key=keys[B])) as stage:
        quotas = {name: {"weight": weight} for name, weight in WEIGHTS.items()}
        house = House(
            stage,
            askers[B].questions(1, DEADLINE_MS),
            askers[A].questions(ROWS, DEADLINE_MS),
            askers["cold"].questions(ROWS, DEADLINE_MS),
            askers["long"].questions(1, DEADLINE_MS),
            tuple(question for name in HEAVIES for question in askers[name].questions(1, DEADLINE_MS)),
        )
        seen = asyncio.run(_measured(given, house, askers, quotas, keys[OFFICE], size))
    return _evidence(given, seen, size)


async def _measured(
    given: Given, house: House, askers: Mapping[str, Asker], quotas: Mapping[str, Any], admin: str, size: Size
) -> Seen:
    stage, seen, dice = house.stage, Seen(), random.Random(given.seed)
    async with stage.session(key=admin) as session:
        for tenant, quota in quotas.items():
            told = await call(session, "PUT", f"/v1/tenants/{tenant}", body=quota)
            if not told.ok:
                raise StageFailed(f"no quota for {tenant}: {told.why}")
    for asker in askers.values():
        async with stage.session(key=asker.key) as session:
            await asker.publish(session)
    seen.rows_per_s = await _capacity(house, size)
    for _ in range(size.rounds):
        for case in CASES:
            for part in ("alone", case):
                volley = await fire(stage, _plan(house, part, seen.rows_per_s, size.seconds, dice))
                mine = volley.of(*range(len(house.mine)))
                own = set(mine)
                seen.mine.setdefault(part, []).extend(mine)
                theirs = [shot for shot in volley.shots if shot not in own] or mine  # whose steps are full ones
                seen.forward_ms.setdefault(part, []).extend(shot.forward_ms for shot in theirs if shot.right)
                seen.volleys.setdefault(part, []).append(volley)
    closed = tuple(UNDER_WAY for _ in house.heavies)
    backlog = Plan(stage.port, house.heavies, closed=closed, seconds=WARM_S + size.backlog_s)
    seen.backlog = await fire(stage, backlog)
    return seen


async def _capacity(house: House, size: Size) -> float:
    """Rows per second, of rows like those of the flood."""
    plan = Plan(house.stage.port, house.flood, closed=(4,), seconds=size.seconds)
    await fire(house.stage, plan)  # everything loaded, rates learnt
    volley = await fire(house.stage, plan)
    right = sum(shot.right for shot in volley.shots)
    if not right:
        raise StageFailed(f"nothing was answered: {volley.told()}")
    return right * ROWS / volley.seconds


def _plan(house: House, part: str, rows_per_s: float, seconds: float, dice: random.Random) -> Plan:
    """What B asks, at random times, and what A adds."""
    mine, share = house.mine, FLOOD * rows_per_s / 2
    at = randomly(LOAD * rows_per_s, seconds, range(len(mine)), dice)
    more: tuple[Question, ...] = ()
    if part != "alone":
        more, rate = {
            "flood": (house.flood, share / ROWS),
            "cold adapters": (house.cold, share / ROWS),
            "longest rows": (house.longest, share * (SHORT + 2) / (LONGEST + 2)),
        }[part]
        at = sorted(at + evenly(rate, seconds, range(len(mine), len(mine) + len(more))))
    return Plan(house.stage.port, (*mine, *more), at=tuple(at), patience_s=60.0)


def slower(case: Sequence[float], alone: Sequence[float], step_s: float) -> float:
    """The 99th percentile beside the neighbour, less one step, over the one alone."""
    return (percentile(case, 0.99) - step_s) / percentile(alone, 0.99)


def shares(volley: Volley, begin: float, end: float) -> dict[int, float]:
    """The part of all answers that each question had, of those that came between two times."""
    answers = Counter(shot.question for shot in volley.shots if shot.right and begin <= shot.done < end)
    return {question: count / answers.total() for question, count in sorted(answers.items())}


def beside(seen: Seen, case: str) -> list[Shot]:
    """What A asked in a case."""
    mine = set(seen.mine.get(case, ()))
    return [shot for volley in seen.volleys.get(case, ()) for shot in volley.shots if shot not in mine]


def lost(volleys: Iterable[Volley]) -> Counter[str]:
    """Answers, anybody's, that are neither right nor a refusal."""
    shots = (shot for volley in volleys for shot in volley.shots)
    return Counter(shot.fault for shot in shots if shot.fault and shot.status not in REFUSED)


def _evidence(given: Given, seen: Seen, size: Size) -> Evidence:
    assert seen.backlog is not None
    begin = seen.backlog.start + WARM_S
    got = shares(seen.backlog, begin, begin + size.backlog_s)
    wanted = {number: WEIGHTS[name] / sum(WEIGHTS.values()) for number, name in enumerate(HEAVIES)}
    waits = {part: [shot.seconds for shot in shots] for part, shots in seen.mine.items()}
    steps = {part: median(passes) / 1000 for part, passes in seen.forward_ms.items()}
    errors = Counter(f"{part}: {shot.fault}" for part, shots in seen.mine.items() for shot in shots if shot.fault)
    late = [shot.sent - shot.due for shots in seen.mine.values() for shot in shots]
    idle = [case for case in CASES if not any(shot.right for shot in beside(seen, case))]
    wrong = lost([seen.backlog, *(volley for volleys in seen.volleys.values() for volley in volleys)])
    off = max(abs(got.get(number, 0.0) / share - 1.0) for number, share in wanted.items())
    figures = (
        *(
            Figure(f"p99 beside {case}, less a step, over p99 alone", value, "<=", SLOWER, "ratio")
            for case in CASES
            for value in (slower(waits[case], waits["alone"], steps[case]),)
        ),
        Figure("errors of the neighbour", errors.total(), "=", 0, "answers"),
        Figure("cases in which A was answered nothing", len(idle), "=", 0, "cases"),
        Figure("wrong answers, and none at all", wrong.total(), "=", 0, "answers"),
        Figure("shares of weights 1, 2 and 4: largest miss", off, "<=", TOLERANCE, "ratio"),
        Figure("client late, p99", percentile(late, 0.99), "<=", 0.005, "s"),
    )
    told = {
        "rows per second that the service can": seen.rows_per_s,
        "neighbour, rows per second": LOAD * seen.rows_per_s,
        **{f"{part}, seconds": spread(values) for part, values in waits.items()},
        "a step, median seconds": steps,
        "errors": dict(errors),
        "other faults": dict(wrong),
        "shares": {name: got.get(number, 0.0) for number, name in enumerate(HEAVIES)},
        "backlogged": seen.backlog.told(),
        "parts": {part: [volley.told() for volley in volleys] for part, volleys in seen.volleys.items()},
        "machine's load": os.getloadavg(),
    }
    return Evidence("neighbours", given.seed, figures, told)
