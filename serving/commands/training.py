"""`chorus train`: an adapter and its head from lines of text and label, written as a native package."""

from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from adapters.backbone import Backbone
from adapters.formats import native
from adapters.training import TrainingReport, TrainingSettings, read_examples, train
from serving.commands import tables
from serving.errors import Conflict


@dataclass(frozen=True)
class Course:
    """Where the backbone and the examples are, and where the package shall be.

    Without `held_out`, the file of the examples to measure on, a share of `examples` is held out.
    """

    backbone: Path
    examples: Path
    target: Path
    held_out: Path | None = None


def run(course: Course, settings: TrainingSettings, *, as_json: bool) -> None:
    """Train and write; the score on held-out examples goes to stdout."""
    if course.target.exists():
        raise Conflict(f"{course.target} is there already: remove it, or write elsewhere")
    examples = read_examples(course.examples, settings.task)
    held_out = read_examples(course.held_out, settings.task) if course.held_out else ()
    tables.note(f"training {settings.method} on {len(examples)} examples for {settings.epochs} epochs")
    tokenizer = Tokenizer.from_file(str(course.backbone / "tokenizer.json"))
    report = train(Backbone.load(course.backbone), tokenizer, examples, settings, held_out)
    data = native.write(report.package)
    course.target.parent.mkdir(parents=True, exist_ok=True)
    course.target.write_bytes(data)
    if as_json:
        tables.print_json(summary(course.target, report))
        return
    tables.done(
        f"{course.target}  {tables.size(len(data))}  trained on {report.trained_on}, {measured(report, settings)}"
    )


def measured(report: TrainingReport, settings: TrainingSettings) -> str:
    """The score on what was held out, beside that of an answer which ignores the text."""
    if not report.held_out:
        return "nothing held out"
    measure = "R²" if settings.task == "regression" else "accuracy"
    return f"{measure} {report.score:.3f} on {report.held_out} held out (one answer for all: {report.constant:.3f})"


def summary(target: Path, report: TrainingReport) -> dict[str, object]:
    """The report as JSON; `score` and `constant` are None where nothing was held out."""
    return {
        "file": str(target),
        "digest": native.digest(target),
        "labels": list(report.labels),
        "trained_on": report.trained_on,
        "held_out": report.held_out,
        "score": report.score if report.held_out else None,
        "constant": report.constant if report.held_out else None,
        "losses": list(report.losses),
    }
