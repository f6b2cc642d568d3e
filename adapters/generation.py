"""Generation by transformers' own `generate`: greedy, sampling and beams over rows that each run under adapters of their own.

What `generate` drives is a model without weights: every step is one packed pass of all rows under one plan. What a step
leaves (`adapters.batch.past`) is found again by a sequence's own tokens: beams that are reordered, forked or dropped need
no bookkeeping, and sequences that are alike are computed once. A row whose adapters look at all of it (`continuation`:
gates, splits, ReFT at a row's end) is run whole at every step.
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
from adapters.batch.continuation import Continuation
from adapters.batch.invocation import called
from adapters.batch.past import Past
from adapters.batch.rows import Row
from adapters.errors import InvalidRow
from adapters.loading import generation_settings
from adapters.second_rows import generate_second

_Sequence = tuple[int, tuple[int, ...]]  # which of the rows it goes on from, and its tokens


def generate(backbone: Backbone, rows: Sequence[Row], settings: GenerationConfig | None = None, **more: Any) -> Any:
    """What transformers' `generate` returns for these rows: token ids [rows * returned sequences, length].

    A row's tokens are the prompt, and its head reads the vocabulary it generates in. Prompts of several lengths are
    padded on the left. `settings` and `more` are those of `generate`; where they are silent the backbone's
    `generation_config.json` speaks, else its `config.json`. `use_cache=False` runs all rows whole at every step. Raises `InvalidRow` for rows that can not generate.
    """
    _check(rows, backbone)
    cached = more.pop("use_cache", None)
    if cached is None:
        cached = settings is None or settings.use_cache is not False
    if backbone.profile.geometry.encoder_layers:
        return generate_second(backbone, rows, settings, cached=cached, **more)
    pad = backbone.profile.geometry.pad_token_id
    longest = max(len(row.input_ids) for row in rows)
    ids = np.full((len(rows), longest), max(pad, 0), np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for i, row in enumerate(rows):
        ids[i, longest - len(row.input_ids) :] = row.input_ids
        mask[i, longest - len(row.input_ids) :] = 1
    model = _Generating(backbone, rows, cached=cached)
    given = {"attention_mask": torch.from_numpy(mask).to(backbone.device), **more, "use_cache": False}
    return model.generate(torch.from_numpy(ids).to(backbone.device), generation_config=settings, **given)


class _Generating(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # transformers has no types
    """The rows of one call as a model: it answers for each sequence with the scores of its next token."""

    main_input_name = "input_ids"

    def __init__(self, backbone: Backbone, rows: Sequence[Row], *, cached: bool) -> None:
        super().__init__(backbone.model.config)
        self.generation_config = generation_settings(backbone.model.config)
        self._backbone, self._rows = backbone, [called(row) for row in rows]  # by their prompts
        self._cached = cached and all(row.route is None for row in rows)  # lanes have no pasts
        self._continuation = Continuation()
        self._pasts: dict[_Sequence, Past] = {}  # what the last step left

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
        asked = [(i // each, tuple(ids[own].tolist())) for i, (ids, own) in enumerate(held)]
        scores = self._scores(list(dict.fromkeys(asked)))
        return CausalLMOutput(logits=torch.stack([scores[one] for one in asked]).to(self.device))

    def _scores(self, asked: Sequence[_Sequence]) -> dict[_Sequence, Tensor]:
        """Scores [1, vocabulary] of the token after each sequence, all of which differ."""
        rows = [self._row(*one) for one in asked]
        kept = [self._cached and self._continuation.keeps(row) for row in rows]
        found = dict(zip(asked, self._backbone.proceed(rows, kept), strict=True))
        self._pasts = {one: past for one, (_, past) in found.items() if past is not None}
        return {one: scores for one, (scores, _) in found.items()}

    def _row(self, given: int, tokens: tuple[int, ...]) -> Row:
        row = replace(self._rows[given], input_ids=np.array(tokens, np.int64), positions=(len(tokens) - 1,))
        past = self._pasts.get((given, tokens[:-1]))
        return row if past is None else self._continuation.behind(row, past)


def _check(rows: Sequence[Row], backbone: Backbone) -> None:
    if not rows:
        raise InvalidRow("there is no row to generate from")
    specs = [None if row.head is None else row.head.adapter.head for row in rows]
    wanted = "seq2seq_lm" if backbone.profile.geometry.encoder_layers else "causal_lm"
    if any(spec is None or spec.type != wanted for spec in specs):
        raise InvalidRow(f"every row needs a {wanted} head to generate with: name one, or the backbone's own")
    if len({spec.vocabulary for spec in specs if spec is not None}) > 1:
        raise InvalidRow("rows that generate together need heads over one vocabulary: generate them apart")
