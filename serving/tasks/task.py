"""What a task is: which heads and inputs it reads, which rows it makes of an input, and how it words the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import HeadSpec
from serving.errors import Fault, TooLarge, Unprocessable
from serving.images.preprocessing import Picture
from serving.request import Pooling, Reduced, Reduction
from serving.tasks.inputs import FORMS, Input
from serving.tasks.tokenization import Encoded, Text, Tokenizer

Function = Literal["softmax", "sigmoid", "none"]
Aggregation = Literal["none", "simple", "first", "average", "max"]
Scores = NDArray[np.float64]
ALL: frozenset[Function] = frozenset({"softmax", "sigmoid", "none"})
ONE_OF_ALL: frozenset[Function] = frozenset({"softmax", "none"})  # where alternatives exclude one another


@dataclass(frozen=True, slots=True)
class Options:
    """How a client wants its rows and its answer; None is the task's own default.

    `label_order` keeps the head's order where the default is to sort by score.
    """

    top_k: int | None = None
    function: Function | None = None
    label_order: bool = False
    truncate: bool = False
    aggregation: Aggregation = "none"
    ignore_labels: tuple[str, ...] | None = None
    stride: int | None = None
    doc_stride: int | None = None
    max_answer_len: int = 15
    max_question_len: int | None = None
    max_seq_len: int | None = None
    handle_impossible_answer: bool = False
    align_to_words: bool = True
    targets: tuple[str, ...] = ()
    target_ids: tuple[int, ...] = ()  # the targets in the chosen vocabulary, see `Task.settle`
    pooling: Pooling = "mean"
    normalize: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """How many tokens of its own a row may have beside the `inserted` ones of a prompt, and how many rows may come."""

    tokens: int
    inserted: int = 0
    rows: int = 1_000_000

    def too_long(self, tokens: int, what: str = "the input", remedy: str = '"truncate": true cuts it') -> Unprocessable:
        """The refusal of an input with so many tokens."""
        prompt = f" beside the {self.inserted} of the adapter's prompt" if self.inserted else ""
        detail = f"{what} has {tokens} tokens; at most {self.tokens} fit{prompt}"
        return Unprocessable(f"{detail} ({remedy})", code="too_long", faults=(Fault("", detail),))

    def check(self, rows: int) -> None:
        """Raise `TooLarge` where an input makes more rows than may come."""
        if rows > self.rows:
            detail = f"this input makes {rows} rows (windows, choices), and the request has room for {self.rows} more"
            raise TooLarge(detail, code="too_many_rows", pointer="")


@dataclass(frozen=True, slots=True)
class Items:
    """How much an answer holds beside a thing per token, and the parameter that makes it less ("" where none does)."""

    count: int
    parameter: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """An image as the backbone sees it: the class token and `tokens - 1` patches, whose ids mean nothing."""

    pixels: Picture  # [height, width, 3]
    tokens: int
    type_ids: ClassVar[None] = None

    @property
    def input_ids(self) -> NDArray[np.int32]:
        """Zeros [tokens]."""
        return np.zeros(self.tokens, np.int32)


@dataclass(frozen=True, slots=True)
class Piece:
    """One row that an input makes: the whole text, a window of it, a choice; or an image."""

    row: Encoded | Patches
    word_starts: tuple[int, ...] | None = None

    @property
    def encoded(self) -> Encoded:
        """The tokens of a text."""
        assert isinstance(self.row, Encoded), "an image is no text"
        return self.row

    @property
    def pixels(self) -> Picture | None:
        """Those of an image."""
        return self.row.pixels if isinstance(self.row, Patches) else None


@dataclass(frozen=True, slots=True)
class Prepared:
    """One input with its rows, and whether something of it was cut off."""

    item: Input
    pieces: tuple[Piece, ...]
    reader: Tokenizer | None = None  # None: it is no text
    truncated: bool = False

    @property
    def tokenizer(self) -> Tokenizer:
        """What the text was read with."""
        assert self.reader is not None, "an image is no text"
        return self.reader


class Task(Protocol):
    """One task; implementations are stateless."""

    @property
    def name(self) -> str:
        """The name in the HTTP contract, as in the Hugging Face Inference API."""
        ...

    @property
    def heads(self) -> frozenset[str]:
        """The types of head that it reads; empty for a task without a head."""
        ...

    @property
    def parameters(self) -> frozenset[str]:
        """The optional parameters that mean something for it."""
        ...

    @property
    def functions(self) -> frozenset[Function]:
        """What `function_to_apply` may be."""
        ...

    @property
    def reads(self) -> tuple[type[Input], ...]:
        """The forms of input that it takes."""
        ...

    @property
    def pairs(self) -> bool:
        """Whether a text may have a pair."""
        ...

    @property
    def places(self) -> bool:
        """Whether it has to know which characters a token came from, or how it is spelt."""
        ...

    def check(self, options: Options) -> None:
        """Raise `Unprocessable` for parameters that contradict one another."""
        ...

    def settle(self, options: Options, tokenizer: Tokenizer) -> Options:
        """The parameters with what depends on the vocabulary, once per request; raises `Unprocessable`."""
        ...

    def texts(self, item: Input, options: Options) -> tuple[Text, ...]:
        """What of an input is to be tokenized before `prepare`, so that a request is tokenized at once."""
        ...

    def prepare(
        self, item: Input, encoded: Sequence[Encoded], tokenizer: Tokenizer, room: Room, options: Options
    ) -> Prepared:
        """The rows of an input from its `texts`; raises `Unprocessable` or `TooLarge` with a pointer within the input."""
        ...

    def items(self, prepared: Prepared, head: HeadSpec | None, options: Options) -> Items:
        """How much the answer for one input may hold; told before anything runs."""
        ...

    def reduction(self, prepared: Prepared, piece: Piece, options: Options) -> Reduction:
        """What to return of a row."""
        ...

    def shape(self, piece: Piece, head: HeadSpec | None, options: Options) -> tuple[int | None, ...]:
        """The shape that the reduced output of a row must have; None is any number."""
        ...

    def answer(self, prepared: Prepared, shares: Sequence[Reduced], head: HeadSpec | None, options: Options) -> Any:
        """Plain JSON for one input, from what the engine left of each of its rows."""
        ...


class OneText:
    """What most tasks do with an input: a text (or a pair) is one row, cut only where the client allows it."""

    reads: tuple[type[Input], ...] = (Text,)
    pairs = False
    places = False

    def check(self, options: Options) -> None:
        """Nothing contradicts."""

    def settle(self, options: Options, tokenizer: Tokenizer) -> Options:
        """Nothing depends on the vocabulary."""
        return options

    def texts(self, item: Input, options: Options) -> tuple[Text, ...]:
        """The input itself."""
        assert isinstance(item, Text)
        return (item,)

    def prepare(
        self, item: Input, encoded: Sequence[Encoded], tokenizer: Tokenizer, room: Room, options: Options
    ) -> Prepared:
        """One row."""
        assert isinstance(item, Text)
        room.check(1)
        row, cut = fitted(item, encoded[0], tokenizer, room, options)
        return Prepared(item, (Piece(row),), tokenizer, cut)

    def items(self, prepared: Prepared, head: HeadSpec | None, options: Options) -> Items:
        """One: what else it holds is bounded by the tokens that run."""
        return Items(1)


def fitted(
    text: Text, encoded: Encoded, tokenizer: Tokenizer, room: Room, options: Options, what: str = "the input"
) -> tuple[Encoded, bool]:
    """A row that fits, and whether it was cut; raises `Unprocessable` where it may not be."""
    if encoded.tokens <= room.tokens:
        return encoded, False
    if not options.truncate:
        raise room.too_long(encoded.tokens, what)
    return tokenizer.cut(text, room.tokens), True


def form_fault(task: Task, item: Input) -> Unprocessable | None:
    """Why a task can not take an input of this form; None if it can."""
    if not isinstance(item, task.reads):
        wanted = " or ".join(FORMS[form] for form in task.reads)
        return Unprocessable(f"{task.name} takes {wanted}, not {FORMS[type(item)]}", code="wrong_input", pointer="")
    if isinstance(item, Text) and item.pair is not None and not task.pairs:
        return Unprocessable(f"{task.name} takes one text, not a pair", code="no_pairs", pointer="/text_pair")
    return None


def scores(logits: NDArray[np.float32], function: Function) -> Scores:
    """Logits [..., labels] as scores, computed in double precision; "none" leaves them as they are."""
    values = logits.astype(np.float64)
    if function == "softmax":
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    if function == "sigmoid":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))  # 1 / (1 + exp(-x)) without overflow
    return values
