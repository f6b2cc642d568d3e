"""Multitask prompt tuning: Wang et al. 2023 (arXiv:2303.02861): a prompt that tasks share, times a product of each one's own.

    prompt_t = P * (C_t R_t)        P [tokens, width], C_t [tokens, ranks], R_t [ranks, width]; `*` by elements

PEFT's, for one of its tasks: at load it becomes a prompt of word vectors. What is of other tasks stays in the package,
so that it can be written again, and takes no room on the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.methods.base import Fitting, Shapes, at, prefixed
from adapters.methods.prompt_tuning import BEFORE, MAX_LENGTH, WORD_PROMPT
from adapters.methods.settings import Settings
from adapters.weights import Folded, Insertion

MAX_TASKS = 4096


@dataclass(frozen=True)
class _Said:
    """A configuration as read: {"length", "segments", "ranks", "tasks", "task"}."""

    insertion: Insertion
    ranks: int
    tasks: int
    task: int


@dataclass(frozen=True)
class MultitaskPrompt:
    """The method; tensors of all tasks, the block of one."""

    name: str = "multitask_prompt"
    first_only: bool = True

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`: prompt [tokens, width], columns [tasks, tokens, ranks], rows [tasks, ranks, width]."""
        said, width = self._read(config), fitting.geometry.embedding_size
        length = said.insertion.count
        shapes: Shapes = {
            "prompt": (length, width),
            "columns": (said.tasks, length, said.ranks),
            "rows": (said.tasks, said.ranks, width),
        }
        return prefixed(BEFORE, shapes)

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """As PEFT: the shared prompt N(0, 1), columns and rows N(0, 0.02)."""
        deviations = {f"{BEFORE}/prompt": 1.0}
        shapes = self.shapes(config, fitting).items()
        return {name: torch.randn(shape, generator=generator) * deviations.get(name, 0.02) for name, shape in shapes}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The task's own prompt, as that of `word_prompt`."""
        said, held = self._read(config), at(tensors, BEFORE)
        prompt = held["prompt"] * (held["columns"][said.task] @ held["rows"][said.task])
        return {BEFORE: Folded(WORD_PROMPT.name, said.insertion.at, {"prompt": prompt})}

    def insertion(self, config: Mapping[str, Any]) -> Insertion:
        """Where the prompt's tokens go; raises `Misfit`."""
        return self._read(config).insertion

    def _read(self, config: Mapping[str, Any]) -> _Said:
        settings = Settings(self.name, config, ("length", "segments", "ranks", "tasks", "task"))
        length = settings.count("length", at_most=MAX_LENGTH)
        ranks, tasks = settings.count("ranks"), settings.count("tasks", at_most=MAX_TASKS)
        segments, task = settings.flag("segments"), settings.count("task", at_most=tasks - 1, at_least=0)
        settings.done()
        return _Said(Insertion(length, 0, shift=length, segments=segments), ranks, tasks, task)


MULTITASK_PROMPT = MultitaskPrompt()
