"""What a proof found: figures, each with the bound that it must keep."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Bound = Literal["=", "<=", ">="]


@dataclass(frozen=True)
class Figure:
    """One number that was measured, and what it has to be; `unit` says of what ("requests", "s", "ratio")."""

    name: str
    value: float
    bound: Bound
    limit: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether the promise is kept; a value that is no number keeps none."""
        return {"=": self.value == self.limit, "<=": self.value <= self.limit, ">=": self.value >= self.limit}[
            self.bound
        ]


@dataclass(frozen=True)
class Evidence:
    """The figures of one run, and what else was seen (counts, durations), for the reader."""

    proof: str
    seed: int
    figures: tuple[Figure, ...]
    seen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether every figure keeps its bound; a proof without figures proves nothing."""
        return bool(self.figures) and all(figure.holds for figure in self.figures)

    @property
    def broken(self) -> tuple[Figure, ...]:
        """The figures that do not keep their bounds."""
        return tuple(figure for figure in self.figures if not figure.holds)

    def json(self) -> dict[str, Any]:
        """As JSON."""
        figures = [{**asdict(figure), "holds": figure.holds} for figure in self.figures]
        return {
            "proof": self.proof,
            "holds": self.holds,
            "seed": self.seed,
            "figures": figures,
            "seen": dict(self.seen),
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed; NaN for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def spread(values: Sequence[float]) -> dict[str, float]:
    """A distribution for the reader: how many values, the median, the 99th percentile and the largest."""
    return {
        "count": len(values),
        "p50": percentile(values, 0.5),
        "p99": percentile(values, 0.99),
        "max": percentile(values, 1.0),
    }
