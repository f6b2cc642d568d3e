"""Extractive question answering: the characters of a context that answer a question, long contexts in windows.

Scores are those of transformers' question answering pipeline: in each window a softmax over the start logits and one
over the end logits, of the context's tokens and the first (special) token alone; a span's score is the product.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.manifest import HeadSpec
from serving.errors import Unprocessable
from serving.request import Reduced, Reduction
from serving.tasks.inputs import FORMS, Input, Question
from serving.tasks.spans import Span, best_spans
from serving.tasks.task import ONE_OF_ALL, Items, OneText, Options, Piece, Prepared, Room
from serving.tasks.tokenization import Encoded, Text, Tokenizer
from serving.tasks.windows import window_count

MAX_SEQ_LEN = 384  # tokens of a window unless told otherwise, as in transformers
DOC_STRIDE = 128
MAX_TOP_K = 100
MAX_ANSWER_LEN = 1000


class QuestionAnswering(OneText):
    """`{"answer", "score", "start", "end"}` per input (characters of the context); a list of them where `top_k` > 1.

    `"function_to_apply": "none"` gives, for any text, a list of its windows, each
    `{"start_logits", "end_logits", "offsets"}` with one entry per token.
    """

    name = "question-answering"
    heads = frozenset({"question_answering"})
    parameters = frozenset(
        {
            "truncate",
            "top_k",
            "function_to_apply",
            "doc_stride",
            "max_answer_len",
            "max_question_len",
            "max_seq_len",
            "handle_impossible_answer",
            "align_to_words",
        }
    )
    functions = ONE_OF_ALL
    reads: tuple[type[Input], ...] = (Question, Text)
    pairs = True
    places = True

    def check(self, options: Options) -> None:
        """Bounds how many answers each window is searched for, and how long they may be."""
        for name, asked, most in (
            ("top_k", options.top_k or 1, MAX_TOP_K),
            ("max_answer_len", options.max_answer_len, MAX_ANSWER_LEN),
        ):
            if asked > most:
                detail = f"{self.name}: {name} is at most {most}"
                raise Unprocessable(detail, code="invalid_value", pointer=f"/parameters/{name}")

    def texts(self, item: Input, options: Options) -> tuple[Text, ...]:
        """The question and its context as a pair; and, if the question may be cut, the question alone."""
        if isinstance(item, Text):
            if options.function != "none":
                detail = (
                    f"{self.name} takes {FORMS[Question]}; a plain text has raw logits only (function_to_apply none)"
                )
                raise Unprocessable(detail, code="wrong_input", pointer="")
            return (item,)
        assert isinstance(item, Question)
        pair = Text(item.question, item.context)
        return (pair,) if options.max_question_len is None else (pair, Text(item.question))

    def prepare(
        self, item: Input, encoded: Sequence[Encoded], tokenizer: Tokenizer, room: Room, options: Options
    ) -> Prepared:
        """One row, or as many windows as the context needs; the question stands whole in each."""
        if isinstance(item, Text):
            return super().prepare(item, encoded, tokenizer, room, options)
        assert isinstance(item, Question)
        row, cut = encoded[0], False
        if options.max_question_len is not None:
            question = _shortened(item.question, encoded[1], options.max_question_len)
            cut = question != item.question
            item = Question(question, item.context)
            row = tokenizer.encode([Text(item.question, item.context)])[0] if cut else row
        if 1 not in row.parts:
            raise Unprocessable("the context has no tokens", code="unreadable_input", pointer="/context")
        return Prepared(item, _windows(item, row, tokenizer, room, options), tokenizer, cut)

    def items(self, prepared: Prepared, head: HeadSpec | None, options: Options) -> Items:
        """The best answers of every window; raw logits are bounded by the tokens that run."""
        if options.function == "none":
            return Items(1)
        return Items(len(prepared.pieces) * (options.top_k or 1), "top_k")

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """Start and end logits of every token."""
        return Reduction("logits")

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """[tokens, 2]."""
        return (piece.encoded.tokens, 2)

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """The best spans of all windows; spans that read alike are one answer, and their scores are added."""
        rows = [piece.encoded for piece in prepared.pieces]
        if options.function == "none":
            return [_raw(row, share) for row, share in zip(rows, shares, strict=True)]
        assert isinstance(prepared.item, Question)
        context, top_k = prepared.item.context, options.top_k or 1
        wanted = 2 * top_k + 10 if options.align_to_words else top_k  # several spans may be one answer
        found: dict[str, dict[str, Any]] = {}
        nulls = []
        for row, share in zip(rows, shares, strict=True):
            spans, null = best_spans(share.output, _context(row), wanted, options.max_answer_len)
            nulls.append(null)
            for span in spans:
                start, end = _characters(row, span, align=options.align_to_words)
                text = context[start:end]
                known = found.setdefault(text.lower(), {"answer": text, "score": 0.0, "start": start, "end": end})
                known["score"] += span.score
        answers = list(found.values())
        if options.handle_impossible_answer:
            answers.append({"answer": "", "score": min(nulls), "start": 0, "end": 0})
        answers.sort(key=lambda answer: -answer["score"])
        return answers[0] if top_k == 1 else answers[:top_k]


def _windows(item: Question, row: Encoded, tokenizer: Tokenizer, room: Room, options: Options) -> tuple[Piece, ...]:
    longest = min(room.tokens, options.max_seq_len or MAX_SEQ_LEN)
    context = row.parts.count(1)
    fit = longest - (row.tokens - context)
    if fit < 1:
        raise _without_context(row, longest, room)
    if options.doc_stride is not None and options.doc_stride >= fit:  # short contexts too: parameters stay as sound
        detail = f"a window has {fit} tokens of the context beside this question: doc_stride must be less"
        raise Unprocessable(detail, code="invalid_value", pointer="/parameters/doc_stride")
    if row.tokens <= longest:
        room.check(1)
        return (Piece(row),)
    usual = min(longest // 2, DOC_STRIDE)
    stride = (usual if usual < fit else fit // 2) if options.doc_stride is None else options.doc_stride
    count = window_count(context, fit, stride)
    assert count is not None, "the stride leaves room for new tokens"
    room.check(count)
    return tuple(Piece(window) for window in tokenizer.windows(Text(item.question, item.context), longest, stride))


def _without_context(row: Encoded, longest: int, room: Room) -> Unprocessable:
    """The refusal of a window that the question fills; of `max_seq_len` where a longer window would have room."""
    needed = row.tokens - row.parts.count(1) + 1
    detail = f"the question has {row.parts.count(0)} tokens, which leaves a window of {longest} none for the context"
    if longest < needed <= room.tokens:
        remedy = f"max_seq_len must be {needed} or more, or max_question_len cuts the question"
        return Unprocessable(f"{detail}; {remedy}", code="invalid_value", pointer="/parameters/max_seq_len")
    remedy = 'max_question_len cuts it (nothing else does, "truncate" neither)'
    return Unprocessable(f"{detail}; {remedy}", code="too_long", pointer="/question")


def _shortened(question: str, row: Encoded, tokens: int) -> str:
    """The question up to the end of its token number `tokens`."""
    own = row.own_positions
    return question if len(own) <= tokens else question[: row.offsets[own[tokens - 1]][1]]


def _context(row: Encoded) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array([part == 1 for part in row.parts])


def _characters(row: Encoded, span: Span, *, align: bool) -> tuple[int, int]:
    if align:
        return row.word_span(span.first, span.last, 1)
    return row.offsets[span.first][0], row.offsets[span.last][1]


def _raw(row: Encoded, share: Reduced) -> dict[str, Any]:
    return {
        "start_logits": share.output[:, 0].tolist(),
        "end_logits": share.output[:, 1].tolist(),
        "offsets": [list(offsets) for offsets in row.offsets],
    }
