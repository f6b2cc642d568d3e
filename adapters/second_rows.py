"""Generation by an encoder-decoder: its encoder runs once for every row, its decoder anew at every step."""

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
from adapters.batch.rows import Row


def generate_second(
    backbone: Backbone, rows: Sequence[Row], settings: GenerationConfig | None = None, **more: Any
) -> Any:
    """What transformers' `generate` returns for these rows: the second rows' ids [rows * returned sequences, length].

    As `generation.generate`, whose rows have been looked at. Raises `InvalidRow`.
    """
    said = backbone.model.config
    starts = any(getattr(said, name, None) is not None for name in ("decoder_start_token_id", "bos_token_id"))
    given = (
        {} if starts or settings is not None else {"decoder_start_token_id": backbone.profile.geometry.decoder_start}
    )
    ids = pad_sequence([torch.from_numpy(row.input_ids) for row in rows], batch_first=True).to(backbone.device)
    more.pop("attention_mask", None)  # the rows are their own tokens alone
    model = _Generating(backbone, rows)
    all_said = {**given, **more, "use_cache": False}  # every step runs the decoder whole
    return model.generate(ids, generation_config=settings, **all_said)


class _Encoder(nn.Module):
    """What the encoder makes of the rows, whatever it is given: `generate` asks it once."""

    def __init__(self, backbone: Backbone, rows: Sequence[Row]) -> None:
        super().__init__()
        start = np.array([backbone.profile.geometry.decoder_start])
        short = [replace(row, decoder_ids=start, head=None) for row in rows]
        self._states = backbone.run(short, ["encoder_hidden_state"] * len(rows))

    def forward(self, *args: Any, **kwargs: Any) -> BaseModelOutput:
        """States [rows, length, hidden], padded behind the rows."""
        return BaseModelOutput(last_hidden_state=pad_sequence(self._states, batch_first=True))


class _Generating(PreTrainedModel, GenerationMixin):  # type: ignore[misc]  # transformers has no types
    """The rows of one call as a model: it answers for each sequence with the scores of its next token."""

    main_input_name = "input_ids"

    def __init__(self, backbone: Backbone, rows: Sequence[Row]) -> None:
        super().__init__(backbone.model.config)
        self._backbone, self._rows = backbone, rows
        self._encoder = _Encoder(backbone, rows)

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
        encoder_outputs: BaseModelOutput | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Scores [sequences, 1, vocabulary]; a row's beams, or several samples of it, stand side by side."""
        assert decoder_input_ids is not None
        assert encoder_outputs is not None
        each = len(decoder_input_ids) // len(self._rows)
        held = zip(decoder_input_ids.cpu().numpy(), encoder_outputs.last_hidden_state, strict=True)
        rows = [
            replace(row, decoder_ids=ids, positions=(len(ids) - 1,), encoded=states[: row.length])
            for i, (ids, states) in enumerate(held)
            for row in [self._rows[i // each]]
        ]
        scores = self._backbone.run(rows, ["logits"] * len(rows))
        return Seq2SeqLMOutput(logits=torch.stack(scores).to(self.device))
