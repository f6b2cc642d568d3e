"""What the ratios have to be, and whether they are."""

import math
from collections.abc import Iterator, Mapping

from loadtests.peers.contenders import BF16, MIXED, PADDED, SORTED
from loadtests.peers.standing import Outcome, Pair
from loadtests.peers.workload import BASE, MINILM
from loadtests.proofs.evidence import Figure

EQUAL_PRECISION: Mapping[str, float] = {MINILM: 3.0, BASE: 2.5}  # mixed batches of other libraries
FROM_THEIR_DEFAULT = 6.0  # Chorus in bfloat16 over mixed batches in float32
BARE_BF16: Mapping[tuple[str, str], float] = {("openvino", PADDED): 1.5, ("openvino", SORTED): 1.2}


def judge(outcome: Outcome) -> tuple[Figure, ...]:
    """Every figure with its bound; one that rests on wrong answers is no number, and keeps none."""
    wrong = Figure(f"{outcome.backbone}: contenders with wrong answers", len(outcome.wrong()), "=", 0, "contenders")
    return (wrong, *_ratios(outcome))


def _ratios(outcome: Outcome) -> Iterator[Figure]:
    for pair in outcome.pairs():
        limit = _limit(outcome.backbone, pair)
        if limit is not None:
            name = f"{outcome.backbone}: {pair.own.key} over {pair.peer.key}"
            yield Figure(name, pair.spread.median if pair.counts else math.nan, ">=", limit, "ratio")


def _limit(backbone: str, pair: Pair) -> float | None:
    """The least ratio of a pair; None where nothing is asked of it."""
    own, peer = pair.own, pair.peer
    equal = own.precision == peer.precision
    if peer.way == MIXED:
        return EQUAL_PRECISION.get(backbone) if equal else FROM_THEIR_DEFAULT
    return BARE_BF16.get((peer.library, peer.way)) if equal and peer.precision == BF16 else None
