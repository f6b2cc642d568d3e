"""When requests are sent: a renewal process of gamma gaps, in a time that runs faster where more is asked.

Gaps of mean 1 and variation cv are drawn as Gamma(1 / cv^2, cv^2): a clock at 0, a Poisson process at 1, bursts above (S-LoRA's
generator). They are laid out on the integral of the rate, so that a rate that changes keeps the variation of its gaps.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]
GRID_S = 0.01  # of the integral


def gaps(count: int, cv: float, rng: np.random.Generator) -> Seconds:
    """So many gaps of mean 1 and coefficient of variation `cv`."""
    if cv == 0:
        return np.ones(count)
    return np.asarray(rng.gamma(1 / cv**2, cv**2, size=count))


def arrivals(seconds: float, cv: float, rate: Callable[[Seconds], Seconds], rng: np.random.Generator) -> Seconds:
    """Times in [0, seconds), sorted; `rate` gives requests per second at times."""
    grid = np.arange(0.0, seconds + GRID_S, GRID_S)
    grid[-1] = seconds
    middle = (grid[:-1] + grid[1:]) / 2
    integral = np.concatenate([[0.0], np.cumsum(rate(middle) * np.diff(grid))])
    total, reached, drawn = float(integral[-1]), 0.0, list[Seconds]()
    while reached < total:
        more = gaps(max(64, int(total - reached)), cv, rng)
        drawn.append(more)
        reached += float(more.sum())
    if not drawn:
        return np.zeros(0)
    at = np.cumsum(np.concatenate(drawn))
    if cv == 0:
        at -= 0.5  # a clock that starts with a whole gap would lack its last stroke
    return np.asarray(np.interp(at[at < total], integral, grid))


def by_day(mean: float, depth: float, days: int, seconds: float) -> Callable[[Seconds], Seconds]:
    """A mean rate that falls and rises by `depth` of itself, so many times in `seconds`; it starts at night."""
    return lambda at: mean * (1 - depth * np.cos(2 * np.pi * days * at / seconds))


def is_busy(at: Seconds, warmup_s: float, phase_s: float) -> NDArray[np.bool_]:
    """Whether times lie in busy phases: every second one after the warm-up, which is quiet; never without phases."""
    if not phase_s:
        return np.zeros(len(at), bool)
    return np.asarray((at >= warmup_s) & (np.floor_divide(at - warmup_s, phase_s).astype(np.int64) % 2 == 1))
