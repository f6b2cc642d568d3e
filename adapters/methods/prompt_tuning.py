"""Prompt tuning: Lester et al. 2021 (arXiv:2104.08691): learned tokens, put in after the embedding module.

prefix: [prompt; x]      prefix_after_bos: [x_0; prompt; x_1 ...]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings
from adapters.weights import Folded, Insertion

ADDRESS = Address(None, "embed_out")
PLACES = ("prefix", "prefix_after_bos")
MAX_LENGTH = 512  # every prompt token costs what a token of the text costs


@dataclass(frozen=True)
class PromptTuning:
    """The method."""

    name: str = "prompt_tuning"
    first_only: bool = True

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`: prompt [tokens, embedding width]."""
        length, _ = _read(config)
        return prefixed(ADDRESS, {"prompt": (length, fitting.geometry.embedding_size)})

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """N(0, 0.02), as BERT's embeddings."""
        shapes = self.shapes(config, fitting).items()
        return {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in shapes}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The prompt as it is."""
        return {ADDRESS: Folded(self.name, _read(config)[1], {"prompt": at(tensors, ADDRESS)["prompt"]})}

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """Where the prompt's tokens go."""
        length, place = _read(config)
        return Insertion(length, 0 if place == "prefix" else 1)

    def embed_out(self, x: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnEmbedding`: the tokens that were inserted into each row become the prompt."""
        prompt = operand.params["prompt"]
        count, shift = prompt.shape[0], 0 if operand.variant == "prefix" else 1
        starts = torch.tensor([start + shift for start, _ in operand.runs.rows], device=x.device)
        places = (starts[:, None] + torch.arange(count, device=x.device)).reshape(-1)
        segment_of_row = operand.runs.segment_of_token[starts]
        values = prompt.all().index_select(0, segment_of_row).reshape(-1, x.shape[-1])
        return x.index_copy(0, places, values)


PROMPT_TUNING = PromptTuning()


def reference(folded: Folded, x: Tensor) -> Tensor:
    """One row [tokens, width] without the prompt -> the row with it."""
    at_token = 0 if folded.variant == "prefix" else 1
    return torch.cat([x[:at_token], folded.tensors["prompt"], x[at_token:]])


def _read(config: Mapping[str, Any]) -> tuple[int, str]:
    settings = Settings("prompt_tuning", config, ("length", "at"))
    length, place = settings.count("length", at_most=MAX_LENGTH), settings.choice("at", PLACES)
    settings.done()
    return length, str(place)
