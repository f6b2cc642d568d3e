"""From takes to the figures of a run, and from figures and thresholds to a verdict."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import median

from loadtests.client.plan import FAILED, LATE, REFUSED, RIGHT, WRONG
from loadtests.results.fairness import fairness
from loadtests.results.knee import Point, knee_of, peak_of
from loadtests.results.publishing import publishing_figures
from loadtests.results.record import Check, Phase, Sums, Take
from loadtests.results.windows import pairs_of
from loadtests.scenarios.figures import figure_of
from loadtests.scenarios.values import Scenario, Threshold

FIXED = (  # of every run, whatever the scenario says
    Threshold("wrong", at_most=0.0),
    Threshold("failed", at_most=0.0),
    Threshold("publish_failed", at_most=0.0),
)
ALWAYS = (  # of every run, unless the scenario says otherwise of the same figure
    Threshold("refused_share", at_most=0.0),
    Threshold("late_share", at_most=0.0),
    Threshold("client_lag_p99_ms", at_most=20.0),
)
_SUMS: dict[str, Callable[[Sums], float | None]] = {
    "refused_share": lambda sums: _share(sums, REFUSED),
    "late_share": lambda sums: _share(sums, LATE),
    "answered_share": lambda sums: _share(sums, RIGHT),
    "throughput": lambda sums: sums.right_per_s,
    "rows_per_s": lambda sums: sums.rows_per_s,
    "tokens_per_s": lambda sums: sums.tokens_per_s,
    "p50_ms": lambda sums: sums.waits.p50,
    "p90_ms": lambda sums: sums.waits.p90,
    "p99_ms": lambda sums: sums.waits.p99,
    "hit_ratio": lambda sums: sums.found.get("device"),
}
_BUSY: dict[str, Callable[[Sums], float | None]] = {
    "busy_over_quiet_throughput": lambda sums: sums.tokens_per_s,
    "busy_over_quiet_p50": lambda sums: sums.waits.p50,
    "busy_over_quiet_p99": lambda sums: sums.waits.p99,
}


def figures_of(scenario: Scenario, takes: Sequence[Take]) -> dict[str, float | None]:
    """All figures that these takes have; those of a sweep are of its worst step."""
    steps = by_step(takes)
    told: dict[str, float | None] = {
        "requests": sum(sum(take.all_verdicts.values()) for take in takes),
        "wrong": sum(take.all_verdicts.get(WRONG, 0) for take in takes),
        "failed": sum(take.all_verdicts.get(FAILED, 0) for take in takes),
        "client_lag_p99_ms": max(take.client.lag_p99_ms for take in takes),
    }
    for name, pick in _SUMS.items():
        told[name] = _worst(name, [_of_rounds(name, [pick(take.sums) for take in step]) for step in steps])
    for name in ("distinct_per_batch", "rows_per_batch"):
        told[name] = _median(getattr(take.counted, name) for take in steps[-1] if take.counted is not None)
    for name, pick in _BUSY.items():
        told[name] = _busy_over_quiet(takes, pick, lambda phase: phase.sums)
    told |= publishing_figures(scenario, takes)
    if len(scenario.tenants) > 1:
        told["fairness"] = _median(_fairness(scenario, takes))
        for tenant in scenario.tenants:
            told |= _of_tenant(tenant.name, takes, steps)
    if scenario.sweep is not None:
        told |= _of_sweep(scenario, steps)
    return told


def checks_of(scenario: Scenario, figures: dict[str, float | None]) -> tuple[Check, ...]:
    """Every threshold of the scenario, and those that always hold, beside what was measured."""
    own = {threshold.figure for threshold in scenario.thresholds}
    fixed = [threshold for threshold in FIXED if threshold.figure != "publish_failed" or scenario.publishing]
    general = [threshold for threshold in ALWAYS if threshold.figure not in own]
    return tuple(
        Check(t.figure, figures.get(t.figure), _bound(t), t.holds(figures.get(t.figure)))
        for t in dict.fromkeys((*scenario.thresholds, *fixed, *general))
    )


def by_step(takes: Sequence[Take]) -> list[list[Take]]:
    """The takes of each step, in the order of the sweep; in each of them the rounds in theirs."""
    apart: dict[object, list[Take]] = defaultdict(list)
    for take in sorted(takes, key=lambda take: take.round):
        apart[take.value].append(take)
    return list(apart.values())


def points_of(steps: Sequence[Sequence[Take]]) -> list[Point]:
    """What each step of an open loop offered and got: medians of its rounds."""
    return [
        Point(median(t.sums.offered_per_s for t in step), median(t.sums.right_per_s for t in step)) for step in steps
    ]


def _of_sweep(scenario: Scenario, steps: Sequence[Sequence[Take]]) -> dict[str, float | None]:
    """How the steps compare: within each round, then the median of the rounds. Throughput is in tokens: texts differ."""
    assert scenario.sweep is not None
    first, last = steps[0], steps[-1]
    points = points_of(steps)
    told: dict[str, float | None] = {"peak_rate": peak_of(points)}
    for name, figure in (("throughput", "tokens_per_s"), ("p50", "p50_ms"), ("p99", "p99_ms")):
        told[f"last_over_first_{name}"] = _between(last, first, _SUMS[figure])
    if scenario.sweep.over not in ("rate", "load"):
        done = _SUMS["tokens_per_s"] if first[0].rate is None else _done
        kept = [_between(step, first, done) for step in steps[1:]]
        return told | {"throughput_kept": min((value for value in kept if value is not None), default=None)}
    knee = knee_of(points)
    told["knee_rate"] = 0.0 if knee is None else knee.offered
    if scenario.sweep.over == "load":
        value = 0.0 if knee is None else steps[points.index(knee)][0].value
        told["knee_load"] = value if isinstance(value, int | float) else None
    return told


def _done(sums: Sums) -> float | None:
    """Of what an open loop offered, how much was answered meanwhile; bursts of one mean rate are not of one number."""
    return _over(sums.right_per_s, sums.offered_per_s)


def _between(step: Sequence[Take], first: Sequence[Take], pick: Callable[[Sums], float | None]) -> float | None:
    """A step over another one, round by round; the median of the rounds."""
    return _median(_over(pick(a.sums), pick(b.sums)) for a, b in zip(step, first, strict=True))


def _of_tenant(name: str, takes: Sequence[Take], steps: Sequence[Sequence[Take]]) -> dict[str, float | None]:
    told: dict[str, float | None] = {}
    for figure, pick in _SUMS.items():
        values = [
            _of_rounds(figure, [pick(take.tenants[name]) for take in step if name in take.tenants]) for step in steps
        ]
        told[f"{name}.{figure}"] = _worst(figure, values)
    for figure, pick in _BUSY.items():
        told[f"{name}.{figure}"] = _busy_over_quiet(takes, pick, lambda phase: phase.tenants.get(name))
    return told


def _busy_over_quiet(
    takes: Sequence[Take], pick: Callable[[Sums], float | None], whose: Callable[[Phase], Sums | None]
) -> float | None:
    """The median of all pairs; None where a phase was asked and has nothing to tell, as without answers there is no wait.

    A closed loop always asks: a busy phase in which nothing was due is one in which everything before it still waited.
    """
    ratios = []
    for closed, (quiet, busy) in ((take.rate is None, pair) for take in takes for pair in pairs_of(take.phases)):
        before, beside = whose(quiet), whose(busy)
        if before is None or beside is None or not before.requests or not (closed or beside.requests):
            continue
        ratios.append(_over(pick(beside), pick(before)))
    return None if None in ratios else _median(ratios)


def _fairness(scenario: Scenario, takes: Sequence[Take]) -> Iterator[float]:
    """Of every busy phase, or of the takes where there are none: rows asked for and rows got; a closed loop offers nothing."""
    weight = {tenant.name: tenant.weight for tenant in scenario.tenants}
    for take in takes:
        if take.rate is None:
            continue
        for tenants in [phase.tenants for phase in take.phases if phase.busy] or [take.tenants]:
            demand = {name: sums.offered_per_s * scenario.requests.rows for name, sums in tenants.items()}
            yield fairness(demand, {name: sums.rows_per_s for name, sums in tenants.items()}, weight)


def _of_rounds(name: str, values: Sequence[float | None]) -> float | None:
    """The median, but of shares the worst, and of waits none where a round has none: what went wrong in one round must show."""
    if name.endswith("_share"):
        return _worst(name, values)
    return None if name.endswith("_ms") and None in values else _median(values)


def _worst(name: str, values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    if not there or (len(there) < len(values) and name.endswith("_ms")):
        return None
    return max(there) if figure_of(name).better == "less" else min(there)


def _median(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return median(there) if there else None


def _over(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _share(sums: Sums, verdict: str) -> float | None:
    return sums.verdicts.get(verdict, 0) / sums.requests if sums.requests else None


def _bound(threshold: Threshold) -> str:
    return f"<= {threshold.at_most:g}" if threshold.at_most is not None else f">= {threshold.at_least:g}"
