"""What a conformance run found: outcomes, their JSON, and the summary line."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["passed", "failed", "refused"]


@dataclass(frozen=True)
class CaseOutcome:
    """One case: passed, failed, or refused by the library with a reason. `max_error` is None where nothing ran."""

    id: str
    outcome: Outcome
    reason: str = ""
    max_error: float | None = None

    @classmethod
    def refused(cls, case: str, error: Exception) -> "CaseOutcome":
        """The library said no."""
        return cls(case, "refused", f"{type(error).__name__}: {error}")

    @classmethod
    def failed(cls, case: str, reason: str, max_error: float | None = None) -> "CaseOutcome":
        """A wrong answer, or an error that is no refusal."""
        return cls(case, "failed", reason, max_error)


@dataclass(frozen=True)
class BatchOutcome:
    """One random mixed batch; `forwards` is counted by a hook on the Hugging Face model and must be 1."""

    index: int
    backbone: str
    rows: int
    cases: int
    methods: tuple[str, ...]
    forwards: int
    compared: int
    outcome: Outcome
    reason: str
    max_error: float | None


@dataclass(frozen=True)
class Report:
    """A whole run, cases in the order of the data."""

    cases: tuple[CaseOutcome, ...]
    batches: tuple[BatchOutcome, ...]

    @property
    def good(self) -> bool:
        """Whether nothing failed."""
        outcomes = [case.outcome for case in self.cases] + [batch.outcome for batch in self.batches]
        return "failed" not in outcomes

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; an infinite or undefined error is written as null."""
        return {"cases": [_plain(item) for item in self.cases], "batches": [_plain(item) for item in self.batches]}

    def write(self, path: Path) -> None:
        """Write the JSON."""
        path.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n")

    def lines(self) -> list[str]:
        """What is printed: everything that did not pass, the batches, and the summary line last."""
        told = [f"{item.outcome} {item.id}: {item.reason}" for item in self.cases if item.outcome != "passed"]
        told += [
            f"failed batch {item.index} ({item.backbone}): {item.reason}"
            for item in self.batches
            if item.outcome == "failed"
        ]
        rounded = [item.id for item in self.cases if item.outcome == "passed" and item.reason]
        if rounded:
            told.append(f"passed within float32 rounding, beyond the stored tolerance: {', '.join(rounded)}")
        if self.batches:
            told.append(self._batch_line())
        told.append(summary(self.cases))
        return told

    def _batch_line(self) -> str:
        count = Counter(item.outcome for item in self.batches)
        rows = sum(item.rows for item in self.batches)
        passes = sum(item.forwards for item in self.batches)
        worst = max((item.max_error or 0.0 for item in self.batches), default=0.0)
        return (
            f"mixed: {count['passed']} of {len(self.batches)} batches passed, {rows} rows in {passes} forward passes, "
            f"largest error {worst:.2g}"
        )


def summary(cases: tuple[CaseOutcome, ...]) -> str:
    """`N passed, N failed, N refused`."""
    count = Counter(item.outcome for item in cases)
    return ", ".join(f"{count[outcome]} {outcome}" for outcome in ("passed", "failed", "refused"))


def _plain(item: CaseOutcome | BatchOutcome) -> dict[str, Any]:
    value = asdict(item)
    error = item.max_error
    value["max_error"] = error if error is not None and error < float("inf") else None
    return value
