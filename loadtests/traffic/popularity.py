"""Which adapter a request asks: the laws by which some are asked for more often than others.

    zipf        the k-th most popular of N has the weight 1 / k^s
    uniform     all the same
    power       S-LoRA's: index = N u^(1/s) of a uniform u, so that s = 1 is uniform, and small s favours few
    distinct    each in turn: of N requests in a row no two ask the same (Punica's `distinct`, a cache's worst case)
    identical   one alone (Punica's `identical`)
    sqrt        the first ceil(sqrt(N)), all the same (Punica's `uniform`)
    geometric   counts 1, s, s^2, ... until N are given away (Punica's `skewed`, which is no rank law)

(`numpy.random.power` draws for `power` what is drawn here; `numpy.random.zipf` has no last rank and is not used.)
"""

import numpy as np
from numpy.typing import NDArray

from loadtests.scenarios.values import Law, Popularity

Weights = NDArray[np.float64]
DRIFT = 0.1  # of all ranks go to others at each turn


def weights(law: Law, count: int, s: float) -> Weights:
    """The probability of each rank, most popular first [count]; raises `ValueError` where the law has none."""
    if count < 1:
        raise ValueError(f"a law needs one adapter at least, not {count}")
    ranks = np.arange(1, count + 1, dtype=np.float64)
    match law:
        case "zipf":
            found = ranks**-s
        case "uniform" | "distinct":
            found = np.ones(count)
        case "power":
            if not s:
                raise ValueError("the law `power` needs an `s` above 0")
            found = np.sort(np.diff(np.concatenate([[0.0], (ranks / count) ** s])))[::-1]
        case "identical":
            found = (ranks == 1).astype(np.float64)
        case "sqrt":
            found = (ranks <= np.ceil(np.sqrt(count))).astype(np.float64)
        case "geometric":
            found = _geometric(count, s)
    return np.asarray(found / found.sum())


def draw(popularity: Popularity, count: int, at: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """The adapter of each request that is sent `at` these seconds; popularity says nothing about the order of publishing."""
    ranked = rng.permutation(count)
    if popularity.law == "distinct":
        ranks = np.arange(len(at)) % count
    else:
        ranks = rng.choice(count, size=len(at), p=weights(popularity.law, count, popularity.s))
    if popularity.drift_s:
        turns = np.floor_divide(at, popularity.drift_s).astype(np.int64)
        ranks = (ranks + turns * int(np.ceil(DRIFT * count))) % count
    return np.asarray(ranked[ranks], np.int64)


def _geometric(count: int, s: float) -> Weights:
    """Punica's counts, largest first: as many adapters as it takes to give all requests away."""
    if s <= 1:
        return np.ones(count)
    counts, size = list[float](), 1.0
    while sum(counts) + size < count:
        counts.append(size)
        size *= s
    counts.append(max(count - sum(counts), 1.0))
    found = np.zeros(count)
    found[: len(counts)] = sorted(counts, reverse=True)
    return found
