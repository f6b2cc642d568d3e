"""A trace: when each request is sent, for which adapter, with which of its texts. A seed gives one trace, always.

Popularity is a rank law: the k-th most popular of N adapters has the weight 1 / k^s. (`numpy.random.power` is another
law, uniform at 1, and `numpy.random.zipf` has no upper rank; neither is used.) Arrivals are a Poisson process.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_TEXT = """
    river market doctor garden window engine letter mountain bread harbour kitchen stone song ticket valley village
    paints closes repairs finds carries opens buys sells writes quietly slowly often never always bright small green
    loud because although without near under behind between seven twelve morning winter night summer
"""
WORDS = tuple(_TEXT.split())


@dataclass(frozen=True)
class TraceSpec:
    """What a trace is made of. Either `requests` or `duration` (seconds) ends it; `rate` is requests per second."""

    adapters: int
    rate: float
    requests: int | None
    duration: float | None
    zipf_s: float
    texts_per_adapter: int
    seed: int


@dataclass(frozen=True, eq=False)
class Trace:
    """One request per entry: seconds after the start, adapter number, text number within the adapter."""

    at: NDArray[np.float64]
    adapter: NDArray[np.int64]
    text: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at)


def zipf_weights(count: int, s: float) -> NDArray[np.float64]:
    """Probability of each rank, most popular first; `s` = 0 is uniform."""
    if count < 1 or s < 0:
        raise ValueError(f"a rank law needs at least one rank and s >= 0, not {count} and {s}")
    weights: NDArray[np.float64] = np.arange(1, count + 1, dtype=np.float64) ** -s
    weights /= weights.sum()
    return weights


def make_trace(spec: TraceSpec) -> Trace:
    """Draw a trace; raises `ValueError` where the specification has no end, or two."""
    if spec.rate <= 0 or (spec.requests is None) == (spec.duration is None):
        raise ValueError("a trace needs a rate above 0, and either a number of requests or a duration")
    rng = np.random.default_rng(spec.seed)
    at = _arrivals(spec, rng)
    ranked = rng.permutation(spec.adapters)  # popularity says nothing about the order of publishing
    ranks = rng.choice(spec.adapters, size=len(at), p=zipf_weights(spec.adapters, spec.zipf_s))
    return Trace(at, ranked[ranks], rng.integers(spec.texts_per_adapter, size=len(at)))


def make_texts(count: int, seed: int, mean: float = 24.0, sigma: float = 0.6, longest: int = 96) -> tuple[str, ...]:
    """Sentences of log-normal length (words), for the requests."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, size=count).round(), 3, longest)
    return tuple(" ".join(rng.choice(WORDS, size=int(length))).capitalize() + "." for length in lengths)


def _arrivals(spec: TraceSpec, rng: np.random.Generator) -> NDArray[np.float64]:
    """Times of a Poisson process: sums of exponential gaps."""
    if spec.requests is not None:
        return np.cumsum(rng.exponential(1 / spec.rate, size=spec.requests))
    duration = spec.duration or 0.0
    at = np.zeros(0)
    while not len(at) or at[-1] < duration:
        gaps = rng.exponential(1 / spec.rate, size=max(16, int(spec.rate * duration)))
        at = np.concatenate([at, (at[-1] if len(at) else 0.0) + np.cumsum(gaps)])
    return at[at < duration]
