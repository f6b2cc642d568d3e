"""Run every case by itself: each of its rows alone in a batch, all of its references compared."""

from collections.abc import Sequence

from tests.conformance import generated
from tests.conformance.bench import Bench, ReadyRow
from tests.conformance.cases import Case
from tests.conformance.judge import Judge, note
from tests.conformance.report import CaseOutcome
from tests.conformance.rounding import Rounding


def run_single(bench: Bench, rounding: Rounding | None) -> tuple[CaseOutcome, ...]:
    """An outcome for every case that the bench could load."""
    return tuple(_run(bench, case, rows, Judge(rounding)) for case, rows in bench.ready)


def _run(bench: Bench, case: Case, rows: Sequence[ReadyRow], judge: Judge) -> CaseOutcome:
    faults: list[str] = []
    for row in rows:
        wanted = row.wanted
        if not wanted:  # the row of a head that is in no artefact
            continue
        try:
            outputs, _ = bench.run([row] * len(wanted), wanted)
        except Exception as error:  # a crash is a failed case, and the others still run
            return CaseOutcome.failed(case.id, f"{row.source.label}: {type(error).__name__}: {error}")
        faults += judge.faults(row, wanted, outputs)
    try:
        faults += generated.faults(bench, case, rows)
    except Exception as error:  # as above
        return CaseOutcome.failed(case.id, f"{type(error).__name__}: {error}")
    if not judge.compared:
        return CaseOutcome.failed(case.id, "nothing was compared")
    if faults:
        return CaseOutcome.failed(case.id, "; ".join(faults), judge.largest)
    return CaseOutcome(case.id, "passed", note(judge.widest), judge.largest)
