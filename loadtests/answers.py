"""Judge an answer: the right version, the right head, and the scores that this adapter gave when it was asked alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any


@dataclass(frozen=True)
class Reference:
    """What one adapter answers to one text when nothing else runs: its digest, its labels in order, raw scores."""

    digest: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]


def read_scores(body: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Labels and raw scores of a one-input answer; raises `KeyError`, `TypeError` or `ValueError` for another shape."""
    (ranked,) = body["outputs"]
    return tuple(str(item["label"]) for item in ranked), tuple(float(item["score"]) for item in ranked)


def fault(body: Mapping[str, Any], reference: Reference, tolerance: float) -> str | None:
    """What is wrong with an answer, or None. `tolerance` is absolute, on raw logits."""
    try:
        labels, scores = read_scores(body)
        digest = body["target"]["adapters"][-1]["digest"]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        return f"unreadable answer: {type(error).__name__}: {error}"
    if digest != reference.digest:
        return f"answered by {digest} instead of {reference.digest}"
    if labels != reference.labels:
        return f"labels {labels} instead of {reference.labels}"
    off = max(abs(a - b) for a, b in zip(scores, reference.scores, strict=True))
    if not off <= tolerance:  # true for NaN as well
        return f"scores off by {off:.3g}"
    return None


def tier_of(body: Mapping[str, Any]) -> str:
    """`hit` where everything was on the device when the row first asked, else `miss`."""
    tiers = set(dict(body.get("residency") or {}).values())
    return "hit" if tiers <= {"device"} else "miss"


def smallest_distance(references: Sequence[Reference]) -> float:
    """The smallest distance between answers of different adapters to one text: below it a mix-up would not show."""
    pairs = (
        max(abs(x - y) for x, y in zip(a.scores, b.scores, strict=True))
        for a, b in combinations(references, 2)
        if a.digest != b.digest
    )
    return min(pairs, default=math.inf)
