"""Inputs to tickets: within the limits, tokenized with the vocabulary that was chosen, or decoded; a ticket per row."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from serving.api.deadlines import Deadline
from serving.api.inputs import input_of
from serving.api.pictures import Pictures
from serving.api.preparing import Part, Pointer, Preparation, check_forms, way_of
from serving.api.schemas import PredictRequest
from serving.api.selection import Selection
from serving.api.services import Services
from serving.errors import Fault, TooLarge, Unprocessable
from serving.request import Ticket, tokens_run
from serving.tasks.inputs import Choices, Image, Input
from serving.tasks.task import Options, Piece
from serving.tasks.tokenization import Tokenizer
from serving.tasks.vocabularies import Vocabularies

TOKENIZING_THREADS = 2
BRIEF = 4096  # characters: tokenizing fewer takes less than two milliseconds, and a thread's turn costs a part of one


@dataclass(frozen=True)
class Rows:
    """A request's inputs, each with a part per branch; what its tickets are called, and how long tokenizing took (s)."""

    inputs: tuple[tuple[Part, ...], ...]
    seconds: float
    mark: str  # no other request of any gateway has it, and no client chooses it

    @cached_property
    def pieces(self) -> tuple[tuple[int, Part, Piece], ...]:
        """Every row in the order in which its ticket is sent, with the number of its input."""
        return tuple(
            (i, part, piece) for i, parts in enumerate(self.inputs) for part in parts for piece in part.prepared.pieces
        )

    @cached_property
    def tokens(self) -> int:
        """Tokens of all rows, special ones included."""
        return sum(piece.row.tokens for _, _, piece in self.pieces)

    def costs(self, layers: int) -> list[float]:
        """Of every row, in the order of the tickets, tokens x layers; a prompt's tokens run as well."""
        sizes = ((piece.row.tokens, part.branch) for _, part, piece in self.pieces)
        return [float(layers * tokens_run(tokens, branch.inserted, branch.visits)) for tokens, branch in sizes]

    @property
    def truncated(self) -> list[bool]:
        """Of every input, whether something of it was cut off."""
        return [any(part.prepared.truncated for part in parts) for parts in self.inputs]

    def tickets(self, tenant: str, selection: Selection, timeout_s: float) -> tuple[Ticket, ...]:
        """One ticket per row."""
        embedding = selection.embedding
        wanted = (reduction for parts in self.inputs for part in parts for reduction in part.reductions)
        return tuple(
            Ticket(
                id=f"{self.mark}-{number}",
                tenant=tenant,
                composition=part.branch.composition,
                head=None if part.branch.head is None else part.branch.head.version.ref,
                embedding=None if embedding is None else embedding.version.ref,
                input_ids=piece.row.input_ids,
                type_ids=piece.row.type_ids,
                reduction=reduction,
                deadline_ms=timeout_s * 1000,
                inserted=part.branch.inserted,
                word_starts=piece.word_starts,
                visits=part.branch.visits,
                pixels=piece.pixels,
            )
            for number, ((_, part, piece), reduction) in enumerate(zip(self.pieces, wanted, strict=True))
        )


class RowMaker:
    """Makes `Rows`; more than `BRIEF` is tokenized on worker threads, at most `TOKENIZING_THREADS` at once."""

    def __init__(self, services: Services) -> None:
        self._limits = services.limits
        self._max_tokens = min(services.limits.max_tokens, services.profile.geometry.max_tokens)
        self._control = services.control
        self._geometry = services.profile.geometry
        self._readers = _readers(services)
        self._slots = asyncio.Semaphore(TOKENIZING_THREADS)
        self._mark, self._requests = uuid.uuid4().hex, itertools.count()  # a random number each would be a system call

    def inputs(self, request: PredictRequest) -> list[Input]:
        """The inputs, counted before anything reads them; raises `TooLarge` or `Unprocessable`."""
        items = request.items
        if not items:
            raise Unprocessable("inputs is empty", code="no_inputs", pointer="/inputs")
        if len(items) > self._limits.max_inputs:
            detail = f"{len(items)} inputs; at most {self._limits.max_inputs} in one request"
            raise TooLarge(detail, code="too_many_inputs", pointer="/inputs")
        inputs = [input_of(item) for item in items]
        self._check_kind(inputs, request)
        rows = self.count(inputs)
        if rows > self._limits.max_rows:
            detail = f"{rows} rows (each choice makes one); at most {self._limits.max_rows} in one request"
            raise TooLarge(detail, code="too_many_rows", pointer="/inputs")
        cap = self._limits.max_input_characters
        faults = tuple(
            Fault(request.pointer(i), f"the input has {item.characters} characters; at most {cap}")
            for i, item in enumerate(inputs)
            if item.characters > cap
        )
        if faults:
            raise Unprocessable(faults[0].detail, code="too_long", faults=faults)
        return inputs

    def known_tokens(self, inputs: Sequence[Input]) -> int:
        """The tokens that inputs have at least, as far as that is known before they are read: those of images."""
        return self._readers.tokens(len(inputs)) if isinstance(self._readers, Pictures) else 0

    def count(self, inputs: Sequence[Input]) -> int:
        """The rows that inputs make at least: windows and branches come on top."""
        return sum(len(item.choices) if isinstance(item, Choices) else 1 for item in inputs)

    async def rows(self, request: PredictRequest, selection: Selection, options: Options, deadline: Deadline) -> Rows:
        """Tokenize the inputs; raises `Unprocessable` naming every input that is too long or can not be read.

        Raises `TooLarge` for more tokens than one request may have, `DeadlineExceeded` where its turn came too late.
        """
        inputs = self.inputs(request)
        check_forms(inputs, selection, request.pointer)
        begun, limits = time.perf_counter(), self._limits
        if isinstance(self._readers, Pictures):
            parts = await self._readers.parts(inputs, selection, options, request.pointer)
        else:
            parts = await self._tokenized(inputs, selection, options, request.pointer, deadline, self._readers)
        rows = Rows(parts, time.perf_counter() - begun, f"{self._mark}-{next(self._requests)}")
        if rows.tokens > limits.max_request_tokens:
            detail = f"{rows.tokens} tokens in all rows; at most {limits.max_request_tokens} in one request"
            raise TooLarge(detail, code="too_many_tokens", pointer="/inputs")
        return rows

    async def _tokenized(
        self,
        inputs: Sequence[Input],
        selection: Selection,
        options: Options,
        pointer: Pointer,
        deadline: Deadline,
        vocabularies: Vocabularies,
    ) -> tuple[tuple[Part, ...], ...]:
        tokenizer = await self._tokenizer(selection, vocabularies)
        limits = self._limits
        prepare = Preparation(selection, options, tokenizer, self._max_tokens, limits.max_rows, limits.max_answer_items)
        if _is_brief(inputs, selection):
            deadline.check("tokenizing")
            return prepare.parts(inputs, pointer)
        async with self._slots:
            deadline.check("tokenizing")
            return await asyncio.to_thread(prepare.parts, inputs, pointer)

    def _check_kind(self, inputs: Sequence[Input], request: PredictRequest) -> None:
        """Raise `Unprocessable` naming every text for a backbone of images, and every image for one of text."""
        images = self._geometry.image is not None
        read, remedy = ("images", 'send {"image": "<base64>"}') if images else ("text", "send a text")
        detail = f"this backbone ({self._geometry.model_type}) reads {read}: {remedy}"
        faults = tuple(
            Fault(request.pointer(i), detail) for i, item in enumerate(inputs) if isinstance(item, Image) != images
        )
        if faults:
            raise Unprocessable(detail, code="wrong_input", faults=faults)

    async def _tokenizer(self, selection: Selection, vocabularies: Vocabularies) -> Tokenizer:
        if selection.embedding is None:
            return vocabularies.default
        ref, spec = selection.embedding.version.ref, selection.embedding.version.manifest.embedding
        assert spec is not None, "the registry keeps only embeddings in this space"
        held = vocabularies.held(ref)
        if held is not None:
            return held
        package = await self._control.blob(selection.embedding)
        async with self._slots:
            return await asyncio.to_thread(vocabularies.read, ref, spec, package)


def _readers(services: Services) -> Vocabularies | Pictures:
    geometry = services.profile.geometry
    if geometry.image is None:
        assert services.tokenizer_json is not None, "a backbone of text comes with its tokenizer"
        return Vocabularies(services.tokenizer_json, geometry)
    assert services.decode is not None, "a backbone of images comes with a decoder"
    return Pictures(services.decode, geometry, services.limits)


def _is_brief(inputs: Sequence[Input], selection: Selection) -> bool:
    """Whether a thread's turn would cost more than the tokenizing: few characters, of which no task cuts windows."""
    ways = {way_of(branch) for branches in selection.branches for branch in branches}
    windows = any(task.places for task in selection.tasks)
    return not windows and len(ways) * sum(item.characters for item in inputs) <= BRIEF
