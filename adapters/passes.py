"""One pass that gradients run through: folded adapters in an arena of their own, and answers in the order of the rows.

The service keeps one arena for all tenants; training folds anew at every step, so each pass brings its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from adapters.backbone import Backbone
from adapters.batch.rows import Row, own_tokens
from adapters.errors import InvalidRow
from adapters.weights import ALIGN, Adapter, Resident


@dataclass(frozen=True, eq=False)
class Answers:
    """What a pass leaves, per row in the order given.

    `logits`: what the row's head answers; an empty tensor where the row has none. `states`: one entry for the input of
    each layer if they were asked for, and one for the last hidden states; each holds [own tokens, hidden] per row.
    """

    logits: tuple[Tensor, ...]
    states: tuple[tuple[Tensor, ...], ...]

    @property
    def hidden(self) -> tuple[Tensor, ...]:
        """Last hidden states [own tokens, hidden] per row."""
        return self.states[-1]


def side_by_side(adapters: Sequence[Adapter], device: torch.device) -> list[Resident]:
    """The adapters in one arena of their own, differentiable in each of them."""
    starts = accumulate((adapter.flat.numel() // ALIGN for adapter in adapters), initial=0)
    arena = torch.cat([adapter.flat.to(device) for adapter in adapters]) if adapters else torch.zeros(0, device=device)
    return [Resident(adapter, arena, start, 0) for adapter, start in zip(adapters, starts, strict=False)]


def answer(backbone: Backbone, rows: Sequence[Row], *, layers: bool = False) -> Answers:
    """Run the rows once, with the heads that they name; differentiable in their arena. Raises `InvalidRow`.

    `layers` asks for the inputs of all layers as well. Tokens that prompt tuning inserts are in no state that is
    returned; logits have them unless `Row.positions` says otherwise.
    """
    plan = backbone.plan(rows, [row.head is not None for row in rows])
    if layers and len(plan.lanes) > 1:
        raise InvalidRow("rows of different layer_replication have no layers in common: ask for their states apart")
    with _inputs_of_layers(backbone, on=layers) as seen:
        result = backbone.forward(plan)
    place = {given: at for at, given in enumerate(plan.order)}
    none = result.hidden.new_zeros(0)
    logits = tuple(result.logits.get(place[i], none) for i in range(len(rows)))
    if plan.target is not None:
        if layers:
            raise InvalidRow(
                "the states of all layers of an encoder-decoder, which has two rows for each, are not given"
            )
        own = [torch.arange(*plan.target.bounds(place[i])) for i in range(len(rows))]
    else:
        own = [torch.from_numpy(own_tokens(row)) + plan.layout.starts[place[i]] for i, row in enumerate(rows)]
    places = torch.cat(own).to(result.hidden.device)
    lengths = [len(held) for held in own]
    states = tuple(torch.split(state.index_select(0, places), lengths) for state in (*seen, result.hidden))
    return Answers(logits, states)


@contextmanager
def _inputs_of_layers(backbone: Backbone, *, on: bool) -> Iterator[list[Tensor]]:
    """The states [tokens, hidden] that enter each layer, in the order in which the layers run."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state = args[0] if args else kwargs["hidden_states"]
        seen.append(state.reshape(-1, state.shape[-1]))

    geometry = backbone.profile.geometry
    first = range(0, geometry.layers, geometry.inner_layers)  # a group of layers counts as one, as in transformers
    paths = [geometry.architecture.layer_path(layer) for layer in first] if on else []
    hooks = [backbone.model.get_submodule(path).register_forward_pre_hook(keep, with_kwargs=True) for path in paths]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
