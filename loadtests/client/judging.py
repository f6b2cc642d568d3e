"""Whether an answer is right: the version that was asked for, its own labels, and the logits that are known to be its own."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtests.client.connection import Answer
from loadtests.client.plan import FAILED, LATE, REFUSED, RIGHT, WRONG, Known

RAW: Mapping[str, Any] = {"function_to_apply": "none", "top_k": None}  # logits, in label order
DEADLINE, REFUSALS = 504, (429, 503)


@dataclass(frozen=True, slots=True)
class Judged:
    """What an answer came to, and what it tells of itself."""

    verdict: str
    detail: str = ""
    tiers: tuple[str, ...] = ()
    tokens: int = 0
    queue_ms: float = 0.0
    load_ms: float = 0.0
    forward_ms: float = 0.0


def judge(answer: Answer, known: Known, asked: Sequence[int], tolerance: float) -> Judged:
    """`asked` are the numbers of the texts among those of the adapter, row by row."""
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        return Judged(FAILED if answer.status != 200 else WRONG, f"{answer.status} unreadable")
    if answer.status != 200:
        return _refused(answer, told)
    try:
        wrong = fault(told, known, asked, tolerance)
        timing = told["timing_ms"]
        return Judged(
            WRONG if wrong else RIGHT,
            wrong,
            tuple(told["residency"].values()),
            int(told["usage"]["prompt_tokens"]),
            float(timing["queue"]),
            float(timing["load"]),
            float(timing["forward"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return Judged(WRONG, f"unreadable: {type(error).__name__}: {error}"[:200])


def fault(told: Mapping[str, Any], known: Known, asked: Sequence[int], tolerance: float) -> str:
    """What is wrong with a 200, or nothing; raises `KeyError` and its like for an answer of another shape."""
    digest = told["target"]["adapters"][-1]["digest"]
    if digest != known.digest:
        return f"answered by {digest}, not {known.digest}"
    if len(told["outputs"]) != len(asked):
        return f"{len(told['outputs'])} answers to {len(asked)} texts"
    for output, text in zip(told["outputs"], asked, strict=True):
        if tuple(entry["label"] for entry in output) != known.labels:
            return f"labels {[entry['label'] for entry in output][:3]}, not {list(known.labels[:3])}"
        offs = (abs(entry["score"] - right) for entry, right in zip(output, known.logits[text], strict=True))
        off = max(
            offs, key=lambda off: (math.isnan(off), off)
        )  # of a NaN that is not the first, `max` would know nothing
        if not off <= tolerance:  # true for NaN as well
            return f"logits off by {off:.3g}"
    return ""


def _refused(answer: Answer, told: Mapping[str, Any]) -> Judged:
    what = f"{answer.status} {told.get('code', '')}".strip()
    if answer.status == DEADLINE:
        return Judged(LATE, what)
    return Judged(REFUSED if answer.status in REFUSALS and answer.has(b"retry-after") else FAILED, what)
