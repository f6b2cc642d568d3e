"""Multiple choice: which of several texts follows or answers a text; each is a row, beside the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.manifest import HeadSpec
from serving.errors import Fault, Unprocessable
from serving.request import Reduced, Reduction
from serving.tasks.inputs import Choices, Input
from serving.tasks.task import ONE_OF_ALL, OneText, Options, Piece, Prepared, Room, fitted, scores
from serving.tasks.tokenization import Encoded, Text, Tokenizer


class MultipleChoice(OneText):
    """`[{"label", "score", "index"}]` per input, best first; `label` is the choice, `index` its place in the input."""

    name = "multiple-choice"
    heads = frozenset({"multiple_choice"})
    parameters = frozenset({"truncate", "top_k", "function_to_apply"})
    functions = ONE_OF_ALL
    reads: tuple[type[Input], ...] = (Choices,)

    def texts(self, item: Input, options: Options) -> tuple[Text, ...]:
        """The text beside each choice."""
        assert isinstance(item, Choices)
        return tuple(Text(item.text, choice) for choice in item.choices)

    def prepare(
        self, item: Input, encoded: Sequence[Encoded], tokenizer: Tokenizer, room: Room, options: Options
    ) -> Prepared:
        """One row per choice; every choice that is too long is named."""
        room.check(len(encoded))
        pieces, faults, truncated = list[Piece](), list[Fault](), False
        for i, (text, row) in enumerate(zip(self.texts(item, options), encoded, strict=True)):
            try:
                fit, cut = fitted(text, row, tokenizer, room, options, "the text with this choice")
            except Unprocessable as error:
                refusal = error
                faults += [Fault(f"/choices/{i}", fault.detail) for fault in error.faults or (Fault("", error.detail),)]
                continue
            pieces.append(Piece(fit))
            truncated = truncated or cut
        if faults:
            raise Unprocessable(refusal.detail, code=refusal.code, faults=tuple(faults))
        return Prepared(item, tuple(pieces), tokenizer, truncated)

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """The head's one logit."""
        return Reduction("logits")

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """[1]."""
        return (1,)

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """Softmax over the choices of the input; ties keep the order written."""
        item = prepared.item
        assert isinstance(item, Choices)
        values = scores(np.array([share.output[0] for share in shares], np.float32), options.function or "softmax")
        order = np.arange(len(values)) if options.label_order else np.argsort(-values, kind="stable")
        return [{"label": item.choices[i], "score": float(values[i]), "index": int(i)} for i in order[: options.top_k]]
