"""What an encoder-decoder's stacks are told of their packed rows: where tokens stand, and that no bias is for all of them."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from adapters.architectures.record import Architecture
from adapters.architectures.sites import Address
from adapters.batch.plan import BatchPlan
from adapters.batch.segments import RowLayout
from adapters.batch.targets import row_positions, target_positions
from adapters.kernels.runs import Runs
from adapters.kernels.upload import upload


class Surroundings(Protocol):
    """What must be known of the running pass."""

    @property
    def plan(self) -> BatchPlan:
        """The plan of the running pass."""
        ...


def install(family: Architecture, modules: Mapping[str, nn.Module], surroundings: Surroundings) -> None:
    """Hook the modules that look positions up, and keep those that share a bias from making it over all tokens of a pass."""
    for stack, path in enumerate(family.positions):
        hook = _positions_hook(surroundings, decodes=bool(stack))
        modules[path].register_forward_pre_hook(hook, with_kwargs=True)
    if family.relative_bias:
        crossing = modules[family.attention_path(Address(family.encoder_layers, "cross_kv"))]
        for module in (*(modules[path] for path in family.relative_bias), crossing):
            module.has_relative_attention_bias, module.compute_bias = True, _no_bias  # type: ignore[assignment]


def rows_in(runs: Runs, layout: RowLayout) -> Iterator[tuple[int, int]]:
    """(segment, row) of every row that the segments are made of."""
    row_at = {start: row for row, start in enumerate(layout.starts[:-1])}
    for segment, (start, end) in enumerate(runs.bounds):
        row = row_at[start]
        while row < layout.rows and layout.starts[row] < end:
            yield segment, row
            row += 1


def _no_bias(*args: Any, device: torch.device | None = None, **kwargs: Any) -> Tensor:
    """What the model hands on from layer to layer in the place of its own bias, which packed attention does not look at."""
    return torch.zeros(1, device=device)


def _positions_hook(surroundings: Surroundings, *, decodes: bool) -> Any:
    def tell(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plan = surroundings.plan
        rows = zip(plan.rows, plan.target_ids, strict=True)
        places = [target_positions(row, ids) if decodes else row_positions(row) for row, ids in rows]
        return args, {**kwargs, "position_ids": upload(torch.from_numpy(np.concatenate(places)), plan.device)}

    return tell
