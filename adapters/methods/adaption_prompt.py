"""Adaption prompts: LLaMA-Adapter, Zhang et al. 2023 (arXiv:2303.16199): a second attention, to a prompt of each layer's own.

    y' = y + W_o (g softmax(q K^T / sqrt(d)) V) + b_o      K, V = W_k P + b_k, W_v P + b_v      P [tokens, hidden]

y is the attention's output, and q are its queries, turned by their positions as for its own keys; those of P are not turned.
As in PEFT, GPT-2's second attention does not pass its output map: y' = y + g softmax(..) V. P and g are stored, and
become keys and values once, when they are folded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapters.architectures.sites import Address
from adapters.methods.base import Fitting, Operand, Shapes, at, prefixed
from adapters.methods.prefix_tuning import MAX_LENGTH
from adapters.methods.settings import Settings
from adapters.weights import Folded, Insertion

THROUGH, PAST = "through", "past"  # the output map
FORMS: Mapping[str, str] = {"gpt2": PAST, "llama": THROUGH, "mistral": THROUGH}


@dataclass(frozen=True)
class AdaptionPrompt:
    """The method. Its configuration is {"length": tokens of each layer's prompt, "layers": [...]}."""

    name: str = "adaption_prompt"
    first_only: bool = False

    def shapes(self, config: Mapping[str, Any], fitting: Fitting) -> Shapes:
        """See `Method.shapes`. Per layer: prompt [tokens, hidden], gate [1]."""
        length, layers = _read(config, fitting)
        names: Shapes = {"prompt": (length, fitting.geometry.hidden_size), "gate": (1,)}
        return {key: shape for layer in layers for key, shape in prefixed(Address(layer, "attn_kv"), names).items()}

    def initialise(self, config: Mapping[str, Any], fitting: Fitting, generator: torch.Generator) -> dict[str, Tensor]:
        """Prompts N(0, 1); gates of zero, so that it starts as the identity."""
        return {
            name: torch.zeros(shape) if name.endswith("gate") else torch.randn(shape, generator=generator)
            for name, shape in self.shapes(config, fitting).items()
        }

    def fold(self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], fitting: Fitting) -> dict[Address, Folded]:
        """Per layer: keys and values [2, tokens, key width], and the gate."""
        _, layers = _read(config, fitting)
        form, folded = FORMS[fitting.architecture.model_type], {}
        for layer in layers:
            address = Address(layer, "attn_kv")
            held = at(tensors, address)
            prompt = held["prompt"].to(torch.promote_types(held["prompt"].dtype, torch.float32))
            maps = (Address(layer, "attn_k"), Address(layer, "attn_v"))
            pair = [
                functional.linear(prompt, fitting.weight(one).to(prompt), fitting.bias(one).to(prompt)) for one in maps
            ]
            folded[address] = Folded(self.name, form, {"keys_values": torch.stack(pair), "gate": held["gate"]})
        return folded

    def insertion(self, config: Mapping[str, Any]) -> Insertion | None:
        """None: rows keep their tokens, and their positions."""
        return None

    def beside(self, q: Tensor, operand: Operand) -> Tensor:
        """See `AttendsBeside`."""
        pairs, gates = operand.params["keys_values"], operand.params["gate"]
        pieces = torch.split(q, list(operand.runs.lengths))
        return torch.cat([_attended(piece, pairs.one(i), gates.one(i)) for i, piece in enumerate(pieces)])

    def past_map(self, operand: Operand) -> bool:
        """See `AttendsBeside`."""
        return operand.variant == PAST


ADAPTION_PROMPT = AdaptionPrompt()


def _attended(q: Tensor, pair: Tensor, gate: Tensor) -> Tensor:
    """[n, heads * width] of one adapter, from q [n, heads, width] and its keys and values [2, tokens, key heads * width]."""
    heads, width = q.shape[1:]
    keys, values = pair.view(2, pair.shape[1], -1, width).repeat_interleave(heads * width // pair.shape[2], dim=2)
    scores = torch.einsum("nhw,thw->hnt", q, keys) * width**-0.5
    return gate * torch.einsum("hnt,thw->nhw", scores.softmax(-1), values).flatten(1)


def _read(config: Mapping[str, Any], fitting: Fitting) -> tuple[int, tuple[int, ...]]:
    settings = Settings("adaption_prompt", config, ("length", "layers"))
    length, layers = settings.count("length", at_most=MAX_LENGTH), settings.layers(fitting)
    if fitting.architecture.model_type not in FORMS:
        settings.wrong(f"PEFT has it for {', '.join(FORMS)} alone, not for {fitting.architecture.model_type}")
    elif fitting.widths("attn_q")[1] != fitting.geometry.hidden_size:
        settings.wrong("PEFT runs it only where the heads of queries together are as wide as the states")
    settings.done()
    return length, layers
