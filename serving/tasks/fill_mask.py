"""Fill-mask: the likeliest tokens at every mask of a text; only those, and one sum, leave the engine."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adapters.manifest import HeadSpec
from serving.errors import EngineFailed, Unprocessable
from serving.request import Reduced, Reduction
from serving.tasks.inputs import Input
from serving.tasks.task import ONE_OF_ALL, Items, OneText, Options, Piece, Prepared, Room
from serving.tasks.tokenization import Encoded, Tokenizer

TOP_K = 5
MAX_TOP_K = 1000
MAX_TARGETS = 1000


class FillMask(OneText):
    """`[{"score", "token", "token_str", "sequence"}]` per input, best first; with several masks, such a list for each."""

    name = "fill-mask"
    heads = frozenset({"masked_lm"})
    parameters = frozenset({"truncate", "top_k", "function_to_apply", "targets"})
    functions = ONE_OF_ALL
    pairs = True

    def check(self, options: Options) -> None:
        """Bounds `top_k` and `targets`: what is asked for must stay small beside the vocabulary."""
        if options.top_k is not None and options.top_k > MAX_TOP_K:
            detail = f"{self.name} gives at most {MAX_TOP_K} tokens"
            raise Unprocessable(detail, code="invalid_value", pointer="/parameters/top_k")
        if len(options.targets) > MAX_TARGETS:
            detail = f"{self.name} scores at most {MAX_TARGETS} targets"
            raise Unprocessable(detail, code="invalid_value", pointer="/parameters/targets")

    def settle(self, options: Options, tokenizer: Tokenizer) -> Options:
        """The ids of the targets."""
        return replace(options, target_ids=target_ids(tokenizer, options)) if options.targets else options

    def prepare(
        self, item: Input, encoded: Sequence[Encoded], tokenizer: Tokenizer, room: Room, options: Options
    ) -> Prepared:
        """One row, which must hold a mask when it has been cut to its room."""
        if tokenizer.mask is None:
            raise Unprocessable("this vocabulary has no mask token: nothing can be filled", code="no_mask", pointer="")
        prepared = super().prepare(item, encoded, tokenizer, room, options)
        if not _masks(prepared, prepared.pieces[0]):
            where = "what is left of the text after the cut" if prepared.truncated else "the text"
            detail = f"{where} holds no {tokenizer.mask[0]}, which is what {self.name} fills"
            raise Unprocessable(detail, code="no_mask", pointer="")
        return prepared

    def items(self, prepared: Prepared, head: HeadSpec | None, options: Options) -> Items:
        """As many tokens at every mask as are asked for or targets."""
        masks = len(_masks(prepared, prepared.pieces[0]))
        if options.target_ids:
            return Items(masks * len(options.target_ids), "targets")
        return Items(masks * (options.top_k or TOP_K), "top_k")

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """The best tokens at the masks, or the targets'."""
        chosen = options.target_ids or None
        top = None if chosen else options.top_k or TOP_K
        return Reduction("logits", _masks(prepared, piece), top=top, chosen=chosen)

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """[masks, tokens + 1]."""
        return (None, None)

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """Probability = exp(logit - log of the sum over the whole vocabulary); "none" gives the logits."""
        (share,), (piece,) = shares, prepared.pieces
        masks = _masks(prepared, piece)
        wanted = (len(masks), share.output.shape[1] - 1)
        if share.indices is None or share.indices.shape != wanted or len(share.output) != len(masks):
            raise EngineFailed("the engine did not return the tokens of every mask")
        values = share.output.astype(np.float64)
        values = values[:, :-1] if options.function == "none" else np.exp(values[:, :-1] - values[:, -1:])
        found = []
        for position, ids, row in zip(masks, share.indices, values, strict=True):
            order = np.argsort(-row, kind="stable")[: options.top_k or TOP_K]
            found.append(_filled(prepared, position, ids[order].tolist(), row[order].tolist()))
        return found[0] if len(found) == 1 else found


def target_ids(tokenizer: Tokenizer, options: Options) -> tuple[int, ...]:
    """Vocabulary ids of the targets, without repeats; raises `Unprocessable` for one that is not a single token."""
    found = []
    for i, target in enumerate(options.targets):
        ids = tokenizer.ids(target)
        if len(ids) != 1 or (ids[0] == tokenizer.unknown and target != tokenizer.token(ids[0])):
            pieces = " ".join(repr(tokenizer.token(token)) for token in ids) or "nothing"
            detail = f"{target!r} is no token of the vocabulary (it would be {pieces}): name single tokens"
            raise Unprocessable(detail, code="unknown_target", pointer=f"/parameters/targets/{i}")
        found.append(ids[0])
    return tuple(dict.fromkeys(found))


def _masks(prepared: Prepared, piece: Piece) -> tuple[int, ...]:
    assert prepared.tokenizer.mask is not None
    return tuple(np.flatnonzero(piece.encoded.input_ids == prepared.tokenizer.mask[1]).tolist())


def _filled(prepared: Prepared, position: int, tokens: Sequence[int], values: Sequence[float]) -> list[dict[str, Any]]:
    """The fillings of one mask; with several masks the others, and so all special tokens, stay to be seen."""
    (piece,), tokenizer = prepared.pieces, prepared.tokenizer
    ids = piece.encoded.input_ids.tolist()
    before, after = ids[:position], ids[position + 1 :]
    single = len(_masks(prepared, piece)) == 1
    spelled = tokenizer.texts_of([[token] for token in tokens])
    sequences = tokenizer.texts_of([[*before, token, *after] for token in tokens], special=not single)
    return [
        {"score": score, "token": token, "token_str": text, "sequence": sequence}
        for score, token, text, sequence in zip(values, tokens, spelled, sequences, strict=True)
    ]
