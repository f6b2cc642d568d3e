"""What a run found: every contender's seconds and agreement on one backbone, and the ratios that follow."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.peers.agreement import Agreement
from loadtests.peers.contenders import BF16, CHORUS, FP32, Contender, counterpart
from loadtests.peers.ratios import Spread, ratio


@dataclass(frozen=True)
class Standing:
    """One contender: seconds per round, whether its answers were right, and what it chose ("batches of 8")."""

    contender: Contender
    seconds: tuple[float, ...]
    agreement: Agreement
    note: str = ""

    @property
    def median(self) -> float:
        """Median seconds of a pass over all rows."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Pair:
    """Chorus over a peer on the same work; `counts` is False where the answers of either were wrong."""

    own: Contender
    peer: Contender
    spread: Spread
    counts: bool


@dataclass(frozen=True)
class Outcome:
    """All that met on one backbone. `versions` by library."""

    backbone: str
    rows: int
    tokens: int
    standings: tuple[Standing, ...]
    versions: Mapping[str, Mapping[str, str]]

    def pairs(self) -> tuple[Pair, ...]:
        """Every peer against Chorus in the peer's precision, and those in float32 against Chorus in bfloat16 as well."""
        return tuple(self._pairs())

    def wrong(self) -> tuple[Standing, ...]:
        """Those whose answers are too far from Chorus in float32."""
        return tuple(standing for standing in self.standings if not standing.agreement.holds)

    def json(self) -> dict[str, Any]:
        """As JSON."""
        standings = [
            {
                "key": standing.contender.key,
                **asdict(standing.contender),
                "note": standing.note,
                "seconds": list(standing.seconds),
                "rows_per_second": self.rows / standing.median,
                "agreement": standing.agreement.json(),
            }
            for standing in self.standings
        ]
        pairs = [
            {"chorus": pair.own.key, "peer": pair.peer.key, "counts": pair.counts, **asdict(pair.spread)}
            for pair in self.pairs()
        ]
        return {
            "backbone": self.backbone,
            "rows": self.rows,
            "tokens": self.tokens,
            "versions": {library: dict(found) for library, found in self.versions.items()},
            "contenders": standings,
            "ratios": pairs,
        }

    def _pairs(self) -> Iterator[Pair]:
        by_contender = {standing.contender: standing for standing in self.standings}
        for peer in self.standings:
            if peer.contender.library == CHORUS:
                continue
            precision = peer.contender.precision
            for against in (precision, *((BF16,) if precision == FP32 else ())):
                own = by_contender.get(counterpart(peer.contender, against))
                if own is not None:
                    counts = own.agreement.holds and peer.agreement.holds
                    yield Pair(own.contender, peer.contender, ratio(own.seconds, peer.seconds), counts)
