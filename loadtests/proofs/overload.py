"""Goodput under overload: what comes on top is refused at once, and costs those who are served next to nothing.

The service has one core and the client the other. In every round the peak is found (as many requests under way as keep the
service busy), then twice and five times as much is sent, open loop, with deadlines, then the peak is found once more: a
round is compared with the mean of both, because the machine itself is now slower and now faster. What is right and in
time counts; a refusal has to be quick, and to say when to come back; hardly anything may be answered or given up late.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from loadtests.proofs.backbones import sentence_encoder
from loadtests.proofs.evidence import Evidence, Figure, percentile, spread
from loadtests.proofs.fingerprints import Forge
from loadtests.proofs.firing import Volley, evenly, fire
from loadtests.proofs.given import Given
from loadtests.proofs.stage import Stage, StageFailed, staged
from loadtests.proofs.volley import Plan, Question, Shot
from loadtests.proofs.workload import Asker, sentences

ADAPTERS = 6
ROWS, WORDS = 16, 100  # of a request: so many texts of a paragraph
UNDER_WAY = 6  # requests that find the peak
DEADLINE_MS = 5000
FACTORS = (2.0, 5.0)
FLOORS = {2.0: 0.95, 5.0: 0.90}
REFUSED, TOO_LATE = (429, 503), 504
LATE = 0.01  # of all that was asked: a refusal that comes only when the time is over was none
WARM_S = 3.0  # at the beginning of each part, which count for nothing


@dataclass(frozen=True)
class Size:
    """How often, and how long each part is."""

    rounds: int
    seconds: float


@dataclass
class Seen:
    """Of every round: requests per second that were right and in time, by factor (1 is the peak around it); all volleys."""

    goodput: list[dict[float, float]] = field(default_factory=list)
    volleys: dict[float, list[Volley]] = field(default_factory=dict)


def run(given: Given) -> Evidence:
    """Find the peak, overload, and compare within each round."""
    size = given.sized(Size(8, 18.0), Size(1, 12.0))
    backbone = sentence_encoder()
    forge = Forge(backbone, sentences(backbone, 2 * ROWS, WORDS, given.seed), given.seed)
    asker = Asker.of(forge, "load", "", ADAPTERS)
    client, *rest = sorted(os.sched_getaffinity(0))
    cores = frozenset(rest[:1]) or None
    with staged(Stage(backbone, given.folder / "data", cores=cores)) as stage:
        seen = asyncio.run(_measured(stage, asker, size, client if cores else None))
    return _evidence(given, seen)


async def _measured(stage: Stage, asker: Asker, size: Size, core: int | None) -> Seen:
    seen, questions = Seen(), asker.questions(ROWS, DEADLINE_MS)
    async with stage.session() as session:
        await asker.publish(session)
    await fire(stage, _peak(stage, questions, size.seconds, core))  # everything loaded, rates learnt
    before = await _peaked(stage, questions, size, core, seen)
    for number in range(size.rounds):
        found = dict[float, float]()
        for factor in FACTORS if number % 2 else reversed(FACTORS):
            at = evenly(factor * before, size.seconds, range(len(questions)))
            volley = await fire(stage, Plan(stage.port, questions, at=tuple(at), core=core))
            found[factor] = goodput(volley, size.seconds)
            seen.volleys.setdefault(factor, []).append(volley)
        after = await _peaked(stage, questions, size, core, seen)
        seen.goodput.append({1.0: (before + after) / 2, **found})
        before = after
    return seen


async def _peaked(stage: Stage, questions: tuple[Question, ...], size: Size, core: int | None, seen: Seen) -> float:
    """The goodput of the peak as it is now; raises `StageFailed` where there is none."""
    volley = await fire(stage, _peak(stage, questions, size.seconds, core))
    seen.volleys.setdefault(1.0, []).append(volley)
    if not (found := goodput(volley, size.seconds)):
        raise StageFailed(f"nothing was right and in time without overload: {volley.told()}")
    return found


def _peak(stage: Stage, questions: tuple[Question, ...], seconds: float, core: int | None) -> Plan:
    each = tuple(UNDER_WAY // len(questions) for _ in questions)
    return Plan(stage.port, questions, closed=each, seconds=seconds, core=core)


def goodput(volley: Volley, seconds: float) -> float:
    """Right answers in time, per second of the part after the beginning."""
    begin, end = volley.start + WARM_S, volley.start + seconds
    return sum(good(shot) and begin <= shot.done < end for shot in volley.shots) / (end - begin)


def good(shot: Shot) -> bool:
    """Whether it was right and in time."""
    return shot.right and shot.seconds <= DEADLINE_MS / 1000


def late(shot: Shot) -> bool:
    """Whether its time was over before it was answered: it is a 504, or right and not in time."""
    return shot.status == TOO_LATE or (shot.right and not good(shot))


def ratio(rounds: Sequence[dict[float, float]], factor: float) -> float:
    """The median over the rounds of the goodput under overload over that round's own peak."""
    return median(found[factor] / found[1.0] for found in rounds)


def _evidence(given: Given, seen: Seen) -> Evidence:
    shots = {factor: [shot for v in volleys for shot in v.shots] for factor, volleys in seen.volleys.items()}
    every = [shot for factor in FACTORS for shot in shots[factor]]
    refused = [shot for shot in every if shot.status in REFUSED]
    lost = Counter(shot.fault for shot in every if shot.fault and shot.status not in (*REFUSED, TOO_LATE))
    figures = (
        *(
            Figure(f"goodput at {factor:g} times the peak", ratio(seen.goodput, factor), ">=", FLOORS[factor], "ratio")
            for factor in FACTORS
        ),
        *(
            Figure(
                f"refusals at {factor:g} times the peak, p99",
                percentile([shot.seconds for shot in shots[factor] if shot.status in REFUSED], 0.99),
                "<=",
                0.05,
                "s",
            )
            for factor in FACTORS
        ),
        *(
            Figure(f"late at {factor:g} times the peak", sum(map(late, fired)) / len(fired), "<=", LATE, "ratio")
            for factor in FACTORS
            for fired in (shots[factor],)
        ),
        Figure("refusals", len(refused), ">=", 30 if given.quick else 500, "answers"),
        Figure("refusals without Retry-After", sum(not shot.retry_after for shot in refused), "=", 0, "answers"),
        Figure("client late, p99", percentile([shot.sent - shot.due for shot in every], 0.99), "<=", 0.005, "s"),
        Figure("wrong answers, and none at all", lost.total(), "=", 0, "answers"),
    )
    told = {
        "goodput by round, requests per second": [dict(found) for found in seen.goodput],
        "rows of a request, and words of each": (ROWS, WORDS),
        "deadline, seconds": DEADLINE_MS / 1000,
        "at peak": [volley.told() for volley in seen.volleys[1.0]],
        **{f"at {factor:g} times": [volley.told() for volley in seen.volleys[factor]] for factor in FACTORS},
        **{
            f"an answer at {factor:g} times, seconds": spread([s.seconds for s in shots[factor] if s.right])
            for factor in (1.0, *FACTORS)
        },
        **{
            f"a refusal at {factor:g} times, seconds": spread([s.seconds for s in shots[factor] if s.status in REFUSED])
            for factor in FACTORS
        },
        "late": {f"at {factor:g} times": sum(map(late, shots[factor])) for factor in (1.0, *FACTORS)},
        "other faults": dict(lost),
        "machine's load": os.getloadavg(),
    }
    return Evidence("overload", given.seed, figures, told)
