"""Whether two contenders gave the same answers: a fast wrong answer does not count."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.peers.contenders import BF16, FP32

States = NDArray[np.float32]


@dataclass(frozen=True)
class Tolerance:
    """How far answers may be from those of Chorus in float32: largest distance of a number, cosines over tokens."""

    distance: float
    least_cosine: float
    mean_cosine: float


# States have a magnitude of about 5. In bfloat16 a single token of a strong adapter may turn by some hundredths.
TOLERANCES: Mapping[str, Tolerance] = {FP32: Tolerance(5e-4, 0.99999, 0.99999), BF16: Tolerance(1.0, 0.99, 0.9995)}


@dataclass(frozen=True)
class Agreement:
    """How one contender's last hidden states differ from those of Chorus in float32, and whether that is all right."""

    distance: float
    least_cosine: float
    mean_cosine: float
    holds: bool

    def json(self) -> dict[str, Any]:
        """As JSON, in which what is no number is null."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


def agreement(found: States, reference: States, precision: str) -> Agreement:
    """Compare states [tokens, hidden]; another shape, or anything that is no number, does not hold."""
    if found.shape != reference.shape or not np.isfinite(found).all():
        return Agreement(math.inf, -1.0, -1.0, holds=False)
    ours, theirs = reference.astype(np.float64), found.astype(np.float64)
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    distance, least, mean = float(np.abs(ours - theirs).max()), float(cosines.min()), float(cosines.mean())
    limit = TOLERANCES[precision]
    holds = distance <= limit.distance and least >= limit.least_cosine and mean >= limit.mean_cosine
    return Agreement(distance, least, mean, holds)
