"""Generation by transformers' own `generate`: greedy, sampling and beams over rows that each run under adapters of their own.

What `generate` drives is a model without weights: every step is one packed pass of all rows under one plan. A step runs
the whole rows anew, so that what looks at all of a row (gates, ReFT, prefixes, DoRA) is what it is in any other pass.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.errors import InvalidRow


def generate(backbone: Backbone, rows: Sequence[Row], settings: GenerationConfig | None = None, **more: Any) -> Any:
    """What transformers' `generate` returns for these rows: token ids [rows * returned sequences, length].

    A row's tokens are the prompt, and its head reads the vocabulary it generates in. Prompts of several lengths are
    padded on the left. `settings` and `more` are those of `generate`, where the backbone's `config.json` does not say
    them. Raises `InvalidRow` for rows that can not generate.
    """
    _check(rows)
    pad = backbone.profile.geometry.pad_token_id
    longest = max(len(row.input_ids) for row in rows)
    ids = np.full((len(rows), longest), max(pad, 0), np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, longest - len(row.input_ids) :] = row.input_ids
        mask[i, longest - len(row.input_ids) :] = 1
    model = _Generating(backbone, rows)
    given = {"attention_mask": torch.from_numpy(mask).to(backbone.device), **more, "use_cache": False}
    return model.generate(torch.from_numpy(ids).to(backbone.device), generation_config=settings, **given)


class _Generating(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # transformers has no types
    """The rows of one call as a model: it answers for each sequence with the scores of its next token."""

    main_input_name = "input_ids"

    def __init__(self, backbone: Backbone, rows: Sequence[Row]) -> None:
        super().__init__(backbone.model.config)
        self._backbone, self._rows = backbone, rows

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        return self._backbone.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> CausalLMOutput:
        """Scores [sequences, 1, vocabulary]; a row's beams, or several samples of it, stand side by side.

        `generate` leaves a mask out that hides nothing.
        """
        each = len(input_ids) // len(self._rows)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        held = zip(input_ids.cpu().numpy(), mask.cpu().numpy() != 0, strict=True)
        rows = [
            replace(self._rows[i // each], input_ids=ids[own], positions=(int(own.sum()) - 1,))
            for i, (ids, own) in enumerate(held)
        ]
        scores = self._backbone.run(rows, ["logits"] * len(rows))
        return CausalLMOutput(logits=torch.stack(scores).to(self.device))


def _check(rows: Sequence[Row]) -> None:
    if not rows:
        raise InvalidRow("there is no row to generate from")
    specs = [None if row.head is None else row.head.adapter.head for row in rows]
    if any(spec is None or spec.type != "causal_lm" for spec in specs):
        raise InvalidRow("every row needs a causal_lm head to generate with: name one, or the backbone's own")
    if len({spec.vocabulary for spec in specs if spec is not None}) > 1:
        raise InvalidRow("rows that generate together need heads over one vocabulary: generate them apart")
