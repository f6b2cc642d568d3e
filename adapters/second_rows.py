"""Generation by an encoder-decoder: its encoder runs once for every row, its decoder once for every token.

What a step leaves is found again by a sequence's own tokens, as in `adapters.generation`, and rows whose adapters look at
all of the decoder's row are run whole.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput

from adapters.backbone import Backbone
from adapters.batch.continuation import Continuation
from adapters.batch.past import Past
from adapters.batch.rows import Row
from adapters.errors import InvalidRow
from adapters.loading import generation_settings

_Sequence = tuple[int, tuple[int, ...]]  # which of the rows it goes on from, and its decoder's tokens


def generate_second(
    backbone: Backbone, rows: Sequence[Row], settings: GenerationConfig | None = None, *, cached: bool, **more: Any
) -> Any:
    """What transformers' `generate` returns for these rows: the second rows' ids [rows * returned sequences, length].

    As `generation.generate`, whose rows have been looked at. Raises `InvalidRow`.
    """
    said = generation_settings(backbone.model.config)
    starts = any(getattr(said, name, None) is not None for name in ("decoder_start_token_id", "bos_token_id"))
    given = (
        {} if starts or settings is not None else {"decoder_start_token_id": backbone.profile.geometry.decoder_start}
    )
    ids = pad_sequence(
        [torch.from_numpy(row.input_ids) for row in rows], True, max(backbone.profile.geometry.pad_token_id, 0)
    ).to(backbone.device)
    more.pop("attention_mask", None)  # the rows are their own tokens alone
    if more.get("encoder_outputs") is not None:
        raise InvalidRow("encoder_outputs are made of the rows, under their adapters: leave them out")
    hidden = more.pop("decoder_attention_mask", None)
    if hidden is not None and not bool(hidden.all()):
        raise InvalidRow("decoder_attention_mask hides tokens: rows whose decoder_input_ids differ in length go apart")
    all_said = {**given, **more, "use_cache": False}  # what `generate` would keep is kept here
    return _Generating(backbone, rows, cached=cached).generate(ids, generation_config=settings, **all_said)


class _Encoder(nn.Module):
    """What the encoder makes of the rows, whatever it is given: `generate` asks it once."""

    def __init__(self, backbone: Backbone, rows: Sequence[Row]) -> None:
        super().__init__()
        start = np.array([backbone.profile.geometry.decoder_start])
        short = [replace(row, decoder_ids=start, head=None) for row in rows]
        self.states = backbone.run(short, ["encoder_hidden_state"] * len(rows))

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutput:
        """States [rows, length, hidden], padded behind the rows."""
        return BaseModelOutput(last_hidden_state=pad_sequence(self.states, batch_first=True))


class _Generating(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # transformers has no types
    """The rows of one call as a model: it answers for each sequence with the scores of its next token."""

    main_input_name = "input_ids"

    def __init__(self, backbone: Backbone, rows: Sequence[Row], *, cached: bool) -> None:
        super().__init__(backbone.model.config)
        self.generation_config = generation_settings(backbone.model.config)
        self._backbone, self._rows, self._cached = backbone, rows, cached
        self._encoder = _Encoder(backbone, rows)
        self._continuation = Continuation(backbone.profile.geometry.architecture)
        self._pasts: dict[_Sequence, Past] = {}  # what the last step left

    @property
    def device(self) -> torch.device:
        """Where the backbone is."""
        return self._backbone.device

    def get_encoder(self, modality: str | None = None) -> nn.Module:
        """See `GenerationMixin`."""
        return self._encoder

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Scores [sequences, 1, vocabulary]; a row's beams, or several samples of it, stand side by side."""
        assert decoder_input_ids is not None
        each = len(decoder_input_ids) // len(self._rows)
        asked = [(i // each, tuple(ids)) for i, ids in enumerate(decoder_input_ids.tolist())]
        scores = self._scores(list(dict.fromkeys(asked)))
        return Seq2SeqLMOutput(logits=torch.stack([scores[one] for one in asked]).to(self.device))

    def _scores(self, asked: Sequence[_Sequence]) -> dict[_Sequence, Tensor]:
        """Scores [1, vocabulary] of the token after each sequence, all of which differ."""
        left: dict[_Sequence, Past] = {}
        scores: dict[_Sequence, Tensor] = {}
        behind = [one for one in asked if (one[0], one[1][:-1]) in self._pasts]
        whole = [one for one in asked if (one[0], one[1][:-1]) not in self._pasts]
        for part in (whole, behind):  # a pass reads encoders' states, or what pasts have of them
            if part:
                rows = [self._row(*one) for one in part]
                kept = [self._cached and self._continuation.keeps(row) for row in rows]
                for one, (score, past) in zip(part, self._backbone.proceed(rows, kept), strict=True):
                    scores[one] = score
                    left |= {} if past is None else {one: past}
        self._pasts = left
        return scores

    def _row(self, given: int, tokens: tuple[int, ...]) -> Row:
        ids = np.array(tokens, np.int64)
        row = replace(
            self._rows[given], decoder_ids=ids, positions=(len(ids) - 1,), encoded=self._encoder.states[given]
        )
        past = self._pasts.get((given, tokens[:-1]))
        return row if past is None else self._continuation.behind_second(row, past)
