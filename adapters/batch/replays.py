"""Which passes of a backbone are captured, and when: CUDA graphs per bucket of tokens and kind of work.

The model alone is captured. Word vectors, prompts, the pooler and the heads run before it and after it, as ever.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor

from adapters.batch.attention import Packing
from adapters.batch.fixed import ReadOnHost, fixed, outline_of, tables
from adapters.batch.plan import BatchPlan
from adapters.kernels.triton.graphs import Captured, NotCaptured

SIGHTS = 3  # of a key, until it is captured: that costs two passes more, and the memory of its result
KNOWN = 1024  # keys whose sights are counted
REASONS = 100  # that are logged: a device may word each refusal anew
_LOG = logging.getLogger(__name__)

Inputs = Mapping[str, Any]  # of the model: tensors [1, tokens, ...], and settings
# The model under a plan and its packing, in the midst of a pass: inputs -> states [tokens, hidden].
Compute = Callable[[BatchPlan, Packing, Inputs], Tensor]


class Replays:
    """The captured passes of one backbone. Not thread-safe: one pass at a time."""

    def __init__(self, captured: Captured, compute: Compute) -> None:
        self._captured = captured
        self._compute = compute
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self.refused: OrderedDict[Hashable, str] = OrderedDict()  # why keys were not captured; they never will be
        self._told: set[str] = set()  # reasons that were logged, each once
        self.replayed = 0  # passes

    def run(self, plan: BatchPlan, packing: Packing, inputs: Inputs) -> Tensor | None:
        """The model's states [tokens, hidden] by a captured pass; None where this pass has to run as it is.

        That is: with gradients; in a batch larger than every bucket, or with a fork; in one whose methods read its
        rows on the host (`ReadOnHost`); at the first two sights of a key; and where the device refused a capture.
        """
        states = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
        settings = {name: value for name, value in inputs.items() if name not in states}
        outline = None if torch.is_grad_enabled() else outline_of(plan)
        if outline is None or any(state.shape[:2] != (1, plan.layout.tokens) for state in states.values()):
            return None
        forms = tuple((name, state.dtype, state.shape[2:]) for name, state in states.items())
        key = (outline.key, forms, tuple(settings.items()))
        if not self._due(key):
            return None

        def compute(given: Mapping[str, Tensor]) -> Tensor:
            standing, starts = fixed(plan, outline, packing, given)
            return self._compute(standing, starts, {**{name: given[name] for name in states}, **settings})

        try:
            with torch.inference_mode():  # of all captures and replays: their tensors can be written in no other mode
                found = self._captured.run(key, tables(plan, outline), states, outline.shape.tokens, compute)
        except NotCaptured as error:
            self._refuse(key, str(error) if isinstance(error.__cause__, ReadOnHost) else repr(error.__cause__))
            return None
        self.replayed += 1
        return found[: plan.layout.tokens].clone()  # the next replay writes over it

    def _due(self, key: Hashable) -> bool:
        if key in self.refused:
            return False
        self._seen[key] = self._seen.pop(key, 0) + 1
        if len(self._seen) > KNOWN:
            self._seen.popitem(last=False)
        return self._seen[key] >= SIGHTS

    def _refuse(self, key: Hashable, reason: str) -> None:
        self.refused[key] = reason
        if reason not in self._told and len(self._told) < REASONS:
            self._told.add(reason)
            _LOG.warning("passes of a kind run without CUDA graphs: %s", reason)
        if len(self.refused) > KNOWN:
            self.refused.popitem(last=False)
