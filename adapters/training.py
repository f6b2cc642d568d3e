"""Train an adapter and its head from lines of text and label: the recipe of `chorus train` and of the samples.

What is trained is what is served: every step folds the parameters and runs a plan (`held`, `passes`, `losses`; the
same as under `model.AdapterModel`). Only the package's tensors have gradients. The learning rate rises over the first
tenth of the steps, and falls to zero over the second half of them.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.errors import InvalidPackage
from adapters.heads.table import initialise_head
from adapters.held import Held
from adapters.losses import loss
from adapters.manifest import HeadSpec, Manifest, Provenance
from adapters.methods.fold import expected, fitting_of
from adapters.methods.presets import parts_of
from adapters.methods.table import METHODS
from adapters.passes import answer, side_by_side
from adapters.requires import Requires
from adapters.weights import Package

TASKS = {  # a task's head and its problem type
    "classification": ("classification", "single_label"),
    "multilabel": ("multilabel_classification", "multi_label"),
    "regression": ("classification", "regression"),
    "tagging": ("tagging", "token"),
}
WARM_UP, COOL_DOWN = 0.1, 0.5  # shares of the steps


@dataclass(frozen=True)
class Example:
    """A text, and its label: a name, several names (multi-label), a number (regression), or one name per word."""

    text: str
    label: str | float | tuple[str, ...]


@dataclass(frozen=True)
class TrainingSettings:
    """What to train, and how. `method` is a preset of `adapters.methods.presets`."""

    method: str
    task: str
    epochs: int = 10
    learning_rate: float = 1e-3
    batch_size: int = 16
    seed: int = 0
    held_out: float = 0.2
    layers: int = 1  # of the head
    dtype: torch.dtype = field(default=torch.float32)  # in which the package is stored


@dataclass(frozen=True, eq=False)
class TrainingReport:
    """The package, and how well it does on examples that it never saw (accuracy; R² for regression)."""

    package: Package
    labels: tuple[str, ...]
    trained_on: int
    held_out: int
    score: float
    constant: float  # the score of the best answer that ignores the text: what `score` has to beat
    losses: tuple[float, ...]  # mean of every epoch


def read_examples(path: Path, task: str) -> list[Example]:
    """Lines of `text<TAB>label` (.tsv) or objects with `text` and `label` (.jsonl); raises `InvalidPackage`.

    Multi-label names are separated by commas in a .tsv; tagging has one label per white-space word.
    """
    examples: list[Example] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        if path.suffix == ".jsonl":
            raw = json.loads(line)
            text, label = raw.get("text"), raw.get("label")
        else:
            text, tab, label = line.partition("\t")
            if not tab:
                raise InvalidPackage(f"{where}: expected text, a tab, and a label")
        examples.append(_example(text, label, task, where))
    if not examples:
        raise InvalidPackage(f"{path.name} holds no examples")
    return examples


def train(
    backbone: Backbone,
    tokenizer: Tokenizer,
    examples: Sequence[Example],
    settings: TrainingSettings,
    held_out: Sequence[Example] = (),
) -> TrainingReport:
    """Train one adapter with its head; seeded, so that the same call gives the same package on one machine.

    Measured on `held_out`, else on the share of `examples` that the settings hold out.
    """
    if settings.task not in TASKS:
        raise InvalidPackage(f"task {settings.task!r} is none of {', '.join(TASKS)}")
    shuffled = list(examples)
    random.Random(settings.seed).shuffle(shuffled)
    cut = max(1, round(len(shuffled) * settings.held_out)) if settings.held_out and not held_out else 0
    labels = _labels(examples, settings.task)
    if len(labels) < 2 and settings.task in ("classification", "tagging"):
        raise InvalidPackage("the examples have fewer than two different labels")
    if unknown := sorted(set(_labels(held_out, settings.task)) - set(labels)):
        raise InvalidPackage(f"labels that are held out but never learned: {', '.join(unknown)}")
    kept, learned = held_out or shuffled[:cut], shuffled[cut:]
    if not learned:
        raise InvalidPackage("there are no examples to train on beside those held out")
    lesson = _Lesson(backbone, tokenizer, labels, settings, -(-len(learned) // settings.batch_size))
    losses = tuple(lesson.epoch(learned, number) for number in range(settings.epochs))
    score, constant = lesson.score(kept) if kept else (float("nan"), float("nan"))
    return TrainingReport(lesson.package(), labels, len(learned), len(kept), score, constant, losses)


class _Lesson:
    """The parameters being trained, and the batches that train them."""

    def __init__(
        self, backbone: Backbone, tokenizer: Tokenizer, labels: tuple[str, ...], settings: TrainingSettings, steps: int
    ) -> None:  # `steps` of one epoch
        self._backbone, self._labels, self._settings = backbone, labels, settings
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(backbone.profile.geometry.max_tokens)
        self._manifest = _manifest(backbone, labels, settings)
        expected(self._manifest, backbone.profile)  # every misfit at once, before any work
        self._held = Held(Package(self._manifest, _fresh(self._manifest, backbone, settings.seed)), torch.float32)
        self._optimizer = torch.optim.AdamW(self._held.parameters(), lr=settings.learning_rate, weight_decay=0.01)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, _slope(steps * settings.epochs))

    def epoch(self, examples: Sequence[Example], number: int) -> float:
        """One pass over the examples in a new order; the mean loss."""
        order = list(examples)
        random.Random(f"{self._settings.seed}/{number}").shuffle(order)
        losses = []
        for batch in _batches(order, self._settings.batch_size):
            answers, goals = self._answers(batch)
            value = loss(self._head, answers, goals)
            self._optimizer.zero_grad()
            torch.autograd.backward(value)
            torch.nn.utils.clip_grad_norm_(self._held.parameters(), 1.0)
            self._optimizer.step()
            self._schedule.step()
            losses.append(float(value.detach()))
        return sum(losses) / len(losses)

    def score(self, examples: Sequence[Example]) -> tuple[float, float]:
        """Accuracy (per word for tagging, per label for multi-label) or R², and the same of the best constant."""
        found: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for batch in _batches(list(examples), self._settings.batch_size):
                found += zip(*self._answers(batch), strict=True)
        # One line of logits, and one target, per word of a tagger and per example of everything else.
        pile = torch.cat if self._settings.task == "tagging" else torch.stack
        logits, targets = pile([a for a, _ in found]), pile([b for _, b in found])
        if self._settings.task == "regression":
            logits = logits.squeeze(-1)
            spread = (targets - targets.mean()).square().sum()
            return float(1 - (logits - targets).square().sum() / spread), 0.0
        if self._settings.task == "multilabel":
            share = targets.mean(0)
            right = ((logits > 0) == (targets > 0.5)).float().mean()
            return float(right), float(torch.maximum(share, 1 - share).mean())
        return float((logits.argmax(-1) == targets).float().mean()), float(targets.bincount().max() / len(targets))

    def package(self) -> Package:
        """The parameters as they are now."""
        now = self._held.package()
        return Package(now.manifest, {name: t.to(self._settings.dtype) for name, t in now.tensors.items()})

    @property
    def _head(self) -> HeadSpec:
        assert self._manifest.head is not None
        return self._manifest.head

    def _answers(self, batch: Sequence[Example]) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """The head's answer and the goal of every example, as `losses.loss` wants them."""
        (resident,) = side_by_side([self._held.folded(self._backbone)], self._backbone.device)
        rows, goals = [], []
        for example in batch:
            encoding = self._encode(example)
            words = _first_tokens(encoding) if self._settings.task == "tagging" else None
            positions = None if words is None else tuple(words.values())
            rows.append(Row((resident,), resident, None, np.array(encoding.ids), positions=positions))
            goals.append(self._target(example, words or {}))
        return answer(self._backbone, rows).logits, goals

    def _target(self, example: Example, words: Mapping[int, int]) -> Tensor:
        if self._settings.task == "regression":
            assert isinstance(example.label, float)
            return torch.tensor(example.label)
        if self._settings.task == "tagging":
            assert isinstance(example.label, tuple)
            return torch.tensor([self._labels.index(example.label[word]) for word in words])
        if self._settings.task == "multilabel":
            assert isinstance(example.label, tuple)
            return torch.tensor([float(name in example.label) for name in self._labels])
        assert isinstance(example.label, str)
        return torch.tensor(self._labels.index(example.label))

    def _encode(self, example: Example) -> Encoding:
        if self._settings.task == "tagging":
            return self._tokenizer.encode(example.text.split(), is_pretokenized=True)
        return self._tokenizer.encode(example.text)


def _first_tokens(encoding: Encoding) -> dict[int, int]:
    """The token that carries each word's label, its first; truncated words are left out."""
    seen: dict[int, int] = {}
    for token, word in enumerate(encoding.word_ids):
        if word is not None:
            seen.setdefault(word, token)
    return seen


def _example(text: object, label: object, task: str, where: str) -> Example:
    if not isinstance(text, str) or not text.strip():
        raise InvalidPackage(f"{where}: no text")
    if task == "regression":
        try:
            return Example(text, float(str(label)))
        except ValueError:
            raise InvalidPackage(f"{where}: {label!r} is not a number") from None
    if task in ("multilabel", "tagging"):
        parts = label if isinstance(label, list) else str(label).split("," if task == "multilabel" else None)
        names = tuple(str(part).strip() for part in parts if str(part).strip())
        if task == "tagging" and len(names) != len(text.split()):
            raise InvalidPackage(f"{where}: {len(text.split())} words, but {len(names)} labels")
        return Example(text, names)
    if not isinstance(label, str) or not label.strip():
        raise InvalidPackage(f"{where}: no label")
    return Example(text, label.strip())


def _labels(examples: Sequence[Example], task: str) -> tuple[str, ...]:
    if task == "regression":
        return ("score",)
    names: set[str] = set()
    for example in examples:
        names |= set(example.label) if isinstance(example.label, tuple) else {str(example.label)}
    return tuple(sorted(names))


def _manifest(backbone: Backbone, labels: tuple[str, ...], settings: TrainingSettings) -> Manifest:
    geometry = backbone.profile.geometry
    head_type, problem_type = TASKS[settings.task]
    head = HeadSpec(
        type=head_type,
        layers=settings.layers,
        activation="tanh" if settings.layers > 1 else None,
        bias=True,
        pooling="tokens" if settings.task == "tagging" else geometry.architecture.hub_pooling,
        labels=labels,
        problem_type=problem_type,
    )
    parts = parts_of(settings.method, fitting_of(backbone.profile))
    requires = Requires.of(geometry)
    return Manifest("adapter", requires, parts, head, provenance=Provenance("chorus", "1", settings.method))


def _fresh(manifest: Manifest, backbone: Backbone, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    fitting = fitting_of(backbone.profile)
    tensors: dict[str, Tensor] = {}
    for part in manifest.parts:
        tensors |= METHODS[part.method].initialise(part.config, fitting, generator)
    assert manifest.head is not None
    return tensors | initialise_head(manifest.head, backbone.profile.geometry.hidden_size, generator)


def _slope(steps: int) -> Callable[[int], float]:
    """The share of the learning rate at each step: up to 1, and down to 0 at the end."""
    return lambda step: min((step + 1) / (steps * WARM_UP), 1.0, (steps - step) / (steps * COOL_DOWN))


def _batches(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]
