"""The figures of what was published beside the load."""

from collections.abc import Sequence

import numpy as np

from loadtests.client.plan import RIGHT
from loadtests.results.record import Take
from loadtests.scenarios.values import Scenario, Times


def publishing_figures(scenario: Scenario, takes: Sequence[Take]) -> dict[str, float | None]:
    """Rates, failures and waits; nothing where nothing was to be published."""
    if scenario.publishing is None:
        return {}
    every = [one for take in takes for one in take.published]
    acknowledged = [one for one in every if one.status in (200, 201)]
    phases = _busy(scenario.time)
    in_time = sum(start <= one.intended < end and one.done < end for one in acknowledged for start, end in phases)
    answered = [1e3 * (one.answered - one.intended) for one in every if one.answered is not None]
    waits = [1e3 * (one.done - one.intended) for one in acknowledged]
    return {
        "published_per_s": in_time / (sum(end - start for start, end in phases) * len(takes)),
        "publish_failed": sum(one.verdict != RIGHT for one in every),
        "publish_p99_ms": float(np.percentile(waits, 99)) if waits else None,
        "first_answer_p50_ms": float(np.median(answered)) if answered else None,
    }


def publish_times(scenario: Scenario) -> tuple[float, ...]:
    """When to publish, seconds after the start: a clock, in busy phases only where there are any, never in the warm-up."""
    if scenario.publishing is None:
        return ()
    times, gap = scenario.time, 1 / scenario.publishing.per_s
    count = int(times.seconds * scenario.publishing.per_s + 1e-9)
    every = [times.warmup_s + (number + 0.5) * gap for number in range(count)]
    if not times.phase_s:
        return tuple(every)
    return tuple(at for at in every if int((at - times.warmup_s) / times.phase_s) % 2 == 1)


def _busy(times: Times) -> list[tuple[float, float]]:
    """Beginning and end of the phases in which there is to be published: whole ones only, all that is measured where there are none."""
    if not times.phase_s:
        return [(times.warmup_s, times.warmup_s + times.seconds)]
    starts = (
        times.warmup_s + number * times.phase_s for number in range(1, int(times.seconds / times.phase_s + 1e-9), 2)
    )
    return [(start, start + times.phase_s) for start in starts]
