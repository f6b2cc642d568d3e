"""How much of an error is float32 itself: the same row through the same library in float64.

Some references are ill-conditioned: on another processor the source library itself would miss its own stored output
by more than the tolerance, because a last bit grows on its way through the layers. The distance between our own
float32 and float64 answers measures that growth for one row. It knows nothing of the reference, so that a wrong
formula, whose two answers agree with one another, gains nothing by it. Drawn cases tell the same distance of the
source library itself (`Expected.rounding`), which may lose more on its way than we do: PEFT adds a delta to a weight
where we keep a low rank apart.
"""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from adapters.backbone import Backbone, Want
from tests.conformance.bench import Bench, ReadyRow, fold_all, place, row_of


@dataclass(eq=False)
class Rounding:
    """Measures rows of one bench; the float64 backbone is loaded when the first row needs it."""

    bench: Bench
    _exact: Backbone | None = None
    _known: dict[tuple[int, Want], float] = field(default_factory=dict)

    def of(self, row: ReadyRow, want: Want) -> float:
        """The largest distance between the row's float32 and float64 output, run alone."""
        key = (id(row), want)
        if key not in self._known:
            ours = self.bench.run([row], [want])[0][0]
            self._known[key] = float((ours.double() - self._run(row, want)).abs().max())
        return self._known[key]

    def _run(self, row: ReadyRow, want: Want) -> Tensor:
        if self._exact is None:
            self._exact = Backbone.load(self.bench.folder, dtype=torch.float64)
        placed = place(fold_all(row.loaded.all, self._exact), self._exact)
        embedding = row.row.embedding
        if embedding is not None:
            embedding = replace(embedding, matrix=embedding.matrix.double())
        exact = row_of(row.loaded, embedding, placed)
        return self._exact.run([exact], [want])[0].double()
