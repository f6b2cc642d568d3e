"""Token classification: the best label of every token of the text, or the entities that neighbours make together."""

from collections.abc import Sequence
from typing import Any

from adapters.manifest import HeadSpec
from serving.errors import Unprocessable
from serving.request import Reduced, Reduction
from serving.tasks.aggregation import entities, tokens_of, without_overlaps
from serving.tasks.inputs import Input
from serving.tasks.task import ALL, OneText, Options, Piece, Prepared, Room, Scores, scores
from serving.tasks.tokenization import Encoded, Text, Tokenizer
from serving.tasks.windows import window_count

AGGREGATED_AWAY = ("O",)  # labels that an aggregation leaves out unless told otherwise


class TokenClassification(OneText):
    """`[{"entity", "score", "index", "word", "start", "end"}]` per input, in reading order, one per token.

    With an `aggregation_strategy`: `[{"entity_group", "score", "word", "start", "end"}]`, one per entity. With `stride`
    a text that is too long is read in windows that share so many tokens.
    """

    name = "token-classification"
    heads = frozenset({"tagging"})
    parameters = frozenset({"truncate", "function_to_apply", "aggregation_strategy", "ignore_labels", "stride"})
    functions = ALL
    places = True

    def check(self, options: Options) -> None:
        """Windows overlap, which only an aggregation can put together."""
        if options.stride is not None and options.aggregation == "none":
            detail = "stride needs an aggregation_strategy other than none: windows give tokens twice"
            raise Unprocessable(detail, code="wrong_parameter", pointer="/parameters/stride")

    def prepare(
        self, item: Input, encoded: Sequence[Encoded], tokenizer: Tokenizer, room: Room, options: Options
    ) -> Prepared:
        """One row, or with `stride` as many windows as the text needs."""
        (row,) = encoded
        if options.stride is None or row.tokens <= room.tokens:
            return super().prepare(item, encoded, tokenizer, room, options)
        assert isinstance(item, Text)
        fit = room.tokens - tokenizer.added()
        count = window_count(row.tokens - tokenizer.added(), fit, options.stride)
        if count is None:
            detail = f"the windows have {max(fit, 0)} tokens of the text: stride must be less"
            raise Unprocessable(detail, code="invalid_value", pointer="/parameters/stride")
        room.check(count)
        found = tokenizer.windows(item, room.tokens, options.stride)
        return Prepared(item, tuple(Piece(window) for window in found), tokenizer)

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """The logits of the text's own tokens, without the special ones around it."""
        return Reduction("logits", piece.encoded.own_positions)

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """[own tokens, labels]."""
        assert head is not None
        return (len(piece.encoded.own_positions), len(head.labels))

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """`index` counts the row's tokens from 0, special ones included; `start` and `end` count characters."""
        assert head is not None
        assert isinstance(prepared.item, Text)
        ignored = options.ignore_labels
        if options.aggregation == "none":
            values = scores(shares[0].output, options.function or "softmax")
            found = _by_token(prepared.pieces[0].encoded, values, head)
            return [entity for entity in found if entity["entity"] not in (ignored or ())]
        groups: list[dict[str, Any]] = []
        for piece, share in zip(prepared.pieces, shares, strict=True):
            values = scores(share.output, options.function or "softmax")
            tokens = tokens_of(prepared.item.text, piece.encoded, values, prepared.tokenizer)
            groups += entities(tokens, head.labels, options.aggregation, prepared.tokenizer)
        unwanted = AGGREGATED_AWAY if ignored is None else ignored
        groups = [group for group in groups if group["entity_group"] not in unwanted]
        return without_overlaps(groups) if len(shares) > 1 else groups


def _by_token(row: Encoded, values: Scores, head: HeadSpec) -> list[dict[str, Any]]:
    words, offsets = row.words, row.offsets
    return [
        {
            "entity": head.labels[best],
            "score": float(scored[best]),
            "index": position,
            "word": words[position],
            "start": offsets[position][0],
            "end": offsets[position][1],
        }
        for position, scored, best in zip(row.own_positions, values, values.argmax(axis=-1), strict=True)
    ]
