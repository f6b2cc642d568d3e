"""Inputs to tickets: within the limits, tokenized with the vocabulary that was chosen, one ticket per input."""

import asyncio
import time
import uuid
from dataclasses import dataclass

from serving.api.schemas import PredictRequest, TextInput
from serving.api.selection import Selection
from serving.api.services import Services
from serving.errors import Fault, TooLarge, Unprocessable
from serving.request import Ticket
from serving.tasks.tokenization import Encoded, Text, Tokenizer
from serving.tasks.vocabularies import Vocabularies

TOKENIZING_THREADS = 2


@dataclass(frozen=True)
class Rows:
    """The tokenized inputs of a request, which of them were cut, and how long it took (seconds)."""

    encoded: tuple[Encoded, ...]
    truncated: tuple[bool, ...]
    seconds: float

    @property
    def tokens(self) -> int:
        """Tokens of all rows, special ones included."""
        return sum(row.tokens for row in self.encoded)

    def tickets(self, tenant: str, selection: Selection, timeout_s: float) -> tuple[Ticket, ...]:
        """One ticket per row; ids are fresh, so that no client can make two alike."""
        request = uuid.uuid4().hex
        head, embedding = selection.head, selection.embedding
        return tuple(
            Ticket(
                id=f"{request}-{i}",
                tenant=tenant,
                members=tuple(member.version.ref for member in selection.members),
                head=None if head is None else head.version.ref,
                embedding=None if embedding is None else embedding.version.ref,
                skip_layers=selection.skip_layers,
                input_ids=row.input_ids,
                type_ids=row.type_ids,
                reduction=selection.task.reduction(row),
                deadline_ms=timeout_s * 1000,
                inserted=selection.inserted,
            )
            for i, row in enumerate(self.encoded)
        )


class RowMaker:
    """Makes `Rows`; tokenizing runs on worker threads, at most `TOKENIZING_THREADS` at once, never on the event loop."""

    def __init__(self, services: Services) -> None:
        self._limits = services.limits
        self._max_tokens = min(services.limits.max_tokens, services.profile.geometry.max_tokens)
        self._control = services.control
        self._vocabularies = Vocabularies(services.tokenizer_json, services.profile.geometry)
        self._slots = asyncio.Semaphore(TOKENIZING_THREADS)

    def texts(self, request: PredictRequest) -> list[Text]:
        """The inputs, counted before anything reads them; raises `TooLarge` or `Unprocessable`."""
        items = request.items
        if not items:
            raise Unprocessable("inputs is empty", code="no_inputs", pointer="/inputs")
        if len(items) > self._limits.max_inputs:
            detail = f"{len(items)} inputs; at most {self._limits.max_inputs} in one request"
            raise TooLarge(detail, code="too_many_inputs", pointer="/inputs")
        texts = [Text(item.text, item.text_pair) if isinstance(item, TextInput) else Text(item) for item in items]
        cap = self._limits.max_input_characters
        faults = tuple(
            Fault(request.pointer(i), f"the input has {text.characters} characters; at most {cap}")
            for i, text in enumerate(texts)
            if text.characters > cap
        )
        if faults:
            raise Unprocessable(faults[0].detail, code="too_long", faults=faults)
        return texts

    async def rows(self, request: PredictRequest, selection: Selection) -> Rows:
        """Tokenize the inputs; raises `Unprocessable` naming every input that is too long or can not be read."""
        texts = self.texts(request)
        if not selection.task.pairs:
            _refuse_pairs(request, texts, selection.task.name)
        begun = time.perf_counter()
        tokenizer = await self._tokenizer(selection)
        async with self._slots:
            encoded, truncated = await asyncio.to_thread(self._encode, request, texts, tokenizer, selection.inserted)
        return Rows(encoded, truncated, time.perf_counter() - begun)

    async def _tokenizer(self, selection: Selection) -> Tokenizer:
        if selection.embedding is None:
            return self._vocabularies.default
        ref, spec = selection.embedding.version.ref, selection.embedding.version.manifest.embedding
        assert spec is not None, "the registry keeps only embeddings in this space"
        held = self._vocabularies.held(ref)
        if held is not None:
            return held
        package = await self._control.blob(selection.embedding)
        async with self._slots:
            return await asyncio.to_thread(self._vocabularies.read, ref, spec, package)

    def _encode(
        self, request: PredictRequest, texts: list[Text], tokenizer: Tokenizer, inserted: int
    ) -> tuple[tuple[Encoded, ...], tuple[bool, ...]]:
        room = self._max_tokens - inserted
        encoded = tokenizer.encode(texts)
        truncated = tuple(row.tokens > room for row in encoded)
        if request.parameters.truncate:
            encoded = [tokenizer.cut(texts[i], room) if cut else encoded[i] for i, cut in enumerate(truncated)]
        elif any(truncated):
            prompt = f" beside the {inserted} of the adapter's prompt" if inserted else ""
            faults = tuple(
                Fault(request.pointer(i), f"the input has {encoded[i].tokens} tokens; at most {room} fit{prompt}")
                for i, cut in enumerate(truncated)
                if cut
            )
            detail = f'{faults[0].detail} ("truncate": true cuts them)'
            raise Unprocessable(detail, code="too_long", faults=faults)
        wrong = [(i, tokenizer.fault(row)) for i, row in enumerate(encoded)]
        unreadable = tuple(Fault(request.pointer(i), fault) for i, fault in wrong if fault is not None)
        if unreadable:
            raise Unprocessable(unreadable[0].detail, code="unreadable_input", faults=unreadable)
        return tuple(encoded), truncated


def _refuse_pairs(request: PredictRequest, texts: list[Text], task: str) -> None:
    for i, text in enumerate(texts):
        if text.pair is not None:
            pointer = f"{request.pointer(i)}/text_pair"
            raise Unprocessable(f"{task} takes one text, not a pair", code="no_pairs", pointer=pointer)
