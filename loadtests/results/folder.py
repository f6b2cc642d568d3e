"""The folder of a run: `run.json` for all that is told of it, `requests.jsonl` and `publishes.jsonl` for all that was sent."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from loadtests.client.plan import Sample
from loadtests.results.record import FORMAT, Run, Take

RUN, REQUESTS, PUBLISHES = "run.json", "requests.jsonl", "publishes.jsonl"


class NoRun(Exception):
    """There is no run in a folder, or none that this version reads; the message says which."""


def append(folder: Path, take: Take, samples: Sequence[Sample]) -> None:
    """Add the samples and publishes of one take, each with its step and round."""
    step = {"step": take.value, "round": take.round}
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in ((REQUESTS, samples), (PUBLISHES, take.published)):
        with (folder / name).open("a") as file:
            file.writelines(json.dumps(step | asdict(value)) + "\n" for value in values)


def write(folder: Path, run: Run) -> Path:
    """Write what is told of a run."""
    path = folder / RUN
    path.write_text(json.dumps(asdict(run), indent=1, allow_nan=False) + "\n")
    return path


def read(folder: Path) -> Run:
    """The run that lies in a folder (or file); raises `NoRun`."""
    path = folder / RUN if folder.is_dir() else folder
    try:
        text = path.read_text()
    except OSError as error:
        raise NoRun(f"{path}: {error.strerror}: give a folder that `python -m loadtests run` wrote") from error
    try:
        told = json.loads(text)
        if told.get("format") != FORMAT:
            raise NoRun(f"{path}: its format is {told.get('format')!r}, and this version reads {FORMAT!r}")
        return TypeAdapter(Run).validate_json(text)
    except (ValueError, AttributeError, ValidationError) as error:
        raise NoRun(f"{path}: it is no run: {str(error)[:300]}") from error
