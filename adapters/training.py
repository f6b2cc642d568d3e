"""Train an adapter and its head on the frozen backbone, through the methods, folds and plans that serve it.

Every step folds the stored parameters (differentiably), lays them out in an arena of their own, and runs a plan over
a batch of rows: what is trained is what is served. Only the package's tensors have gradients. The learning rate rises
over the first tenth of the steps, and falls to zero over the second half of them.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor
from torch.nn import functional

from adapters.backbone import Backbone
from adapters.batch.plan import plan_batch
from adapters.batch.rows import Row
from adapters.errors import InvalidPackage
from adapters.heads import head_shapes
from adapters.manifest import HeadSpec, Manifest, PartSpec, Provenance, Requires
from adapters.methods.fold import expected, fitting_of, fold
from adapters.methods.presets import part_of
from adapters.methods.table import METHODS
from adapters.weights import Package, alone

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
        self._tensors = _fresh(self._manifest, backbone, settings.seed)
        self._optimizer = torch.optim.AdamW(list(self._tensors.values()), lr=settings.learning_rate, weight_decay=0.01)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, _slope(steps * settings.epochs))

    def epoch(self, examples: Sequence[Example], number: int) -> float:
        """One pass over the examples in a new order; the mean loss."""
        order = list(examples)
        random.Random(f"{self._settings.seed}/{number}").shuffle(order)
        losses = []
        for batch in _batches(order, self._settings.batch_size):
            loss = self._loss(batch)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(list(self._tensors.values()), 1.0)
            self._optimizer.step()
            self._schedule.step()
            losses.append(float(loss.detach()))
        return sum(losses) / len(losses)

    def score(self, examples: Sequence[Example]) -> tuple[float, float]:
        """Accuracy (per word for tagging, per label for multi-label) or R², and the same of the best constant."""
        found: list[tuple[Tensor, Tensor]] = []
        with torch.no_grad():
            for batch in _batches(list(examples), self._settings.batch_size):
                found += self._answers(batch)
        logits, targets = torch.cat([a for a, _ in found]), torch.cat([b for _, b in found])
        if self._settings.task == "regression":
            spread = (targets - targets.mean()).square().sum()
            return float(1 - (logits - targets).square().sum() / spread), 0.0
        if self._settings.task == "multilabel":
            share = targets.mean(0)
            right = ((logits > 0) == (targets > 0.5)).float().mean()
            return float(right), float(torch.maximum(share, 1 - share).mean())
        return float((logits.argmax(-1) == targets).float().mean()), float(targets.bincount().max() / len(targets))

    def package(self) -> Package:
        """The parameters as they are now."""
        held = {name: tensor.detach().to(self._settings.dtype).clone() for name, tensor in self._tensors.items()}
        return Package(self._manifest, held)

    def _loss(self, batch: Sequence[Example]) -> Tensor:
        pairs = self._answers(batch)
        logits, targets = torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs])
        if self._settings.task == "regression":
            return functional.mse_loss(logits, targets)
        if self._settings.task == "multilabel":
            return functional.binary_cross_entropy_with_logits(logits, targets)
        return functional.cross_entropy(logits, targets)

    def _answers(self, batch: Sequence[Example]) -> list[tuple[Tensor, Tensor]]:
        """Logits and targets of every example: [1, labels] and [1], or one line per labelled word."""
        resident = alone(fold(Package(self._manifest, self._tensors), self._backbone.profile, torch.float32))
        encodings = [self._encode(example) for example in batch]
        rows = [Row((resident,), resident, None, np.array(encoding.ids)) for encoding in encodings]
        plan = plan_batch(rows, self._backbone.profile.geometry, self._backbone.device, [True] * len(rows))
        logits = self._backbone.forward(plan).logits
        place = {given: at for at, given in enumerate(plan.order)}
        answers = []
        for i, (example, encoding) in enumerate(zip(batch, encodings, strict=True)):
            values = logits[place[i]]
            if self._settings.task == "tagging":
                answers.append(self._words(values, example, encoding, rows[i]))
            else:
                answers.append((values.unsqueeze(0), self._target(example).unsqueeze(0)))
        return answers

    def _words(self, values: Tensor, example: Example, encoding: Encoding, row: Row) -> tuple[Tensor, Tensor]:
        """The first token of every word carries the word's label; truncated words are left out."""
        assert isinstance(example.label, tuple)
        seen: dict[int, int] = {}
        for token, word in enumerate(encoding.word_ids):
            if word is not None:
                seen.setdefault(word, token)
        at, more = (row.insertion.at, row.insertion.count) if row.insertion else (0, 0)
        places = [token + more if token >= at else token for token in seen.values()]
        targets = [self._labels.index(example.label[word]) for word in seen]
        return values[torch.tensor(places)], torch.tensor(targets)

    def _target(self, example: Example) -> Tensor:
        if self._settings.task == "regression":
            assert isinstance(example.label, float)
            return torch.tensor([example.label])
        if self._settings.task == "multilabel":
            assert isinstance(example.label, tuple)
            return torch.tensor([float(name in example.label) for name in self._labels])
        assert isinstance(example.label, str)
        return torch.tensor(self._labels.index(example.label))

    def _encode(self, example: Example) -> Encoding:
        if self._settings.task == "tagging":
            return self._tokenizer.encode(example.text.split(), is_pretokenized=True)
        return self._tokenizer.encode(example.text)


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
        pooling="tokens" if settings.task == "tagging" else "first_token",
        labels=labels,
        problem_type=problem_type,
    )
    part: PartSpec = part_of(settings.method, fitting_of(backbone.profile))
    requires = Requires(geometry.model_type, geometry.hidden_size, geometry.layers, geometry.heads)
    return Manifest("adapter", requires, (part,), head, provenance=Provenance("chorus", "1", settings.method))


def _fresh(manifest: Manifest, backbone: Backbone, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    fitting = fitting_of(backbone.profile)
    tensors: dict[str, Tensor] = {}
    for part in manifest.parts:
        tensors |= METHODS[part.method].initialise(part.config, fitting, generator)
    assert manifest.head is not None
    for name, shape in head_shapes(manifest.head, backbone.profile.geometry.hidden_size).items():
        fresh = torch.zeros(shape) if name.endswith("bias") else torch.randn(shape, generator=generator) * 0.02
        tensors[name] = fresh
    return {name: tensor.requires_grad_() for name, tensor in tensors.items()}


def _slope(steps: int) -> Callable[[int], float]:
    """The share of the learning rate at each step: up to 1, and down to 0 at the end."""
    return lambda step: min((step + 1) / (steps * WARM_UP), 1.0, (steps - step) / (steps * COOL_DOWN))


def _batches(examples: Sequence[Example], size: int) -> Iterator[Sequence[Example]]:
    for start in range(0, len(examples), size):
        yield examples[start : start + size]
