"""Prompt tuning: Lester et al. 2021 (arXiv:2104.08691): learned tokens, put into a row.

prefix: [prompt; x]      prefix_after_bos: [x_0; prompt; x_1 ...]

AdapterHub's prompt goes in after the embedding module, and has no positions. PEFT's goes in as word vectors before it,
always in front: positions count the prompt (p-tuning, arXiv:2103.10385, trains the same vectors through a network). For an
encoder-decoder it stores one for each stack (`stacks`), and runs the encoder's alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapters.architectures.sites import Address
from adapters.kernels.upload import upload
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.settings import Settings
from adapters.weights import Block, Folded, Insertion

AFTER, BEFORE = Address(None, "embed_out"), Address(None, "embed_lookup")
PLACES = ("prefix", "prefix_after_bos")
_AFTER, _BEFORE = ("length", "at"), ("length", "segments", "stacks")
MAX_LENGTH = 512  # every prompt token costs what a token of the text costs


@dataclass(frozen=True)
class PromptTuning:
    """The method; `address`: before or after the embedding module."""

    name: str = "prompt_tuning"
    address: Address = AFTER
    first_only: bool = True

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`: prompt [stacks * tokens, embedding width]."""
        length = self.insertion(config).count * int(config.get("stacks", 1))
        return prefixed(self.address, {"prompt": (length, fitting.geometry.embedding_size)})

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """N(0, 0.02), as BERT's embeddings."""
        shapes = self.shapes(config, fitting).items()
        return {name: torch.randn(shape, generator=generator) * 0.02 for name, shape in shapes}

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """The prompt as it is, that of the first stack."""
        insertion = self.insertion(config)
        prompt = {"prompt": at(tensors, self.address)["prompt"][: insertion.count]}
        return {self.address: Folded(self.name, insertion.at, prompt)}

    def insertion(self, config: Mapping[str, Any]) -> Insertion:
        """Where the prompt's tokens go; raises `Misfit`."""
        before = self.address == BEFORE
        settings = Settings(self.name, {"stacks": 1, **config} if before else config, _BEFORE if before else _AFTER)
        length = settings.count("length", at_most=MAX_LENGTH)
        if self.address == AFTER:
            found = Insertion(length, PLACES.index(settings.choice("at", PLACES)))
        else:
            settings.count("stacks", at_most=2)
            found = Insertion(length, 0, shift=length, segments=settings.flag("segments"))
        settings.done()
        return found

    def embed_out(self, x: Tensor, operand: Operand) -> Tensor:
        """See `ActsOnEmbedding`: the tokens that were inserted into each row become the prompt."""
        prompt, shift = operand.params["prompt"], operand.variant
        assert isinstance(shift, int)
        count = prompt.shape[0]
        starts = upload(torch.tensor([start + shift for start, _ in operand.runs.rows]), x.device)
        places = (starts[:, None] + torch.arange(count, device=x.device)).reshape(-1)
        segment_of_row = operand.runs.segment_of_token[starts]
        values = prompt.all().index_select(0, segment_of_row).reshape(-1, x.shape[-1])
        return x.index_copy(0, places, values)

    def settled(self, block: Block, seen: int) -> bool:
        """See `ActsByPlace`: a prompt is in with the row's first tokens."""
        return seen > 0


PROMPT_TUNING = PromptTuning()
WORD_PROMPT = PromptTuning("word_prompt", BEFORE)


def reference(folded: Folded, x: Tensor) -> Tensor:
    """One row [tokens, width] without the prompt -> the row with it."""
    at_token = folded.variant
    assert isinstance(at_token, int)
    return torch.cat([x[:at_token], folded.tensors["prompt"], x[at_token:]])
