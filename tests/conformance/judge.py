"""The verdicts on what a batch gave: the stored tolerance first, then the rounding of float32 where it is exceeded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from adapters.backbone import Want
from tests.conformance.bench import ReadyRow
from tests.conformance.compare import Verdict
from tests.conformance.rounding import Rounding


@dataclass
class Judge:
    """Judges rows and counts. `rounding` None holds every output to the stored tolerance alone."""

    rounding: Rounding | None
    compared: int = 0
    largest: float = 0.0
    widest: float = 0.0  # the largest rounding that was needed

    def faults(self, row: ReadyRow, wanted: Sequence[Want], outputs: Sequence[Tensor]) -> Iterator[str]:
        """What is wrong with a row's outputs."""
        atol, _ = row.case.tolerance
        for verdict in row.judge(wanted, outputs):
            settled = self._settle(row, verdict, atol)
            self.compared += 1
            self.largest = max(self.largest, settled.max_error)
            self.widest = max(self.widest, settled.rounding)
            if settled.reason:
                yield f"{row.source.label}: {settled.reason}"

    def _settle(self, row: ReadyRow, verdict: Verdict, atol: float) -> Verdict:
        if not verdict.reason or self.rounding is None or verdict.over == float("inf"):
            return verdict
        return verdict.with_rounding(atol, self.rounding.of(row, verdict.want))


def note(widest: float) -> str:
    """What a passed case says where it needed the rounding."""
    return f"within float32 rounding of this row ({widest:.1e}), beyond the stored tolerance" if widest else ""
