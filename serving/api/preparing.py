"""Inputs to rows by the tasks that answer them; every input that can not be read is named in one refusal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adapters.composition import Block, Leaf, Split
from serving.api.selection import Branch, Selection
from serving.errors import Fault, ServiceError, TooLarge, Unprocessable
from serving.request import Reduction
from serving.tasks.inputs import Input
from serving.tasks.task import Options, Prepared, Room, Task, form_fault
from serving.tasks.tokenization import Text, Tokenizer

Pointer = Callable[[int], str]  # number of an input -> where it stands in the body
_Way = tuple[Task, int]  # branches of one task that leave as much room have their inputs prepared alike


@dataclass(frozen=True)
class Part:
    """One input as one branch answers it, and what is wanted of each of its rows."""

    branch: Branch
    prepared: Prepared
    reductions: tuple[Reduction, ...]

    @classmethod
    def of(cls, branch: Branch, prepared: Prepared, options: Options) -> "Part":
        """With the reductions of the branch's task."""
        wanted = (branch.task.reduction(prepared, piece, options) for piece in prepared.pieces)
        return cls(branch, prepared, tuple(wanted))


@dataclass(frozen=True)
class Preparation:
    """What a request's inputs are prepared with."""

    selection: Selection
    options: Options
    tokenizer: Tokenizer
    max_tokens: int
    max_rows: int
    max_items: int

    def parts(self, inputs: Sequence[Input], pointer: Pointer) -> tuple[tuple[Part, ...], ...]:
        """A part per branch of every input; raises `Unprocessable` or `TooLarge` naming every input at fault."""
        made: dict[tuple[_Way, int], Prepared] = {}
        refusals: dict[int, ServiceError] = {}
        rows = 0
        settled: dict[Task, Options] = {}
        for way, wanted in self._ways(len(inputs)).items():
            if way[0] not in settled:
                settled[way[0]] = way[0].settle(self.options, self.tokenizer)
            options = settled[way[0]]
            texts = {i: self._texts(way[0], inputs[i]) for i in wanted}
            sound = {i: found for i, found in texts.items() if not isinstance(found, ServiceError)}
            refusals |= {i: found for i, found in texts.items() if isinstance(found, ServiceError)}
            read = [text for found in sound.values() for text in found]
            encoded = iter(self.tokenizer.encode(read, placed=way[0].places))
            for i, found in sound.items():
                room = Room(self.max_tokens - way[1], way[1], (self.max_rows - rows) // wanted[i])
                mine = [next(encoded) for _ in found]
                try:
                    made[way, i] = prepared = way[0].prepare(inputs[i], mine, self.tokenizer, room, options)
                    _check_readable(prepared)
                except TooLarge as error:
                    raise refusal({i: error}, pointer) from error  # after this one, no other has room either
                except ServiceError as error:
                    refusals[i] = error
                else:
                    rows += len(prepared.pieces) * wanted[i]
        if refusals:
            raise refusal(refusals, pointer)
        parts = tuple(
            tuple(Part.of(branch, made[way_of(branch), i], settled[branch.task]) for branch in self.selection.of(i))
            for i in range(len(inputs))
        )
        check_splits(parts, pointer)
        check_items(parts, settled, self.max_items)
        return parts

    def _ways(self, count: int) -> Mapping[_Way, dict[int, int]]:
        """What has to be prepared: by task and prompt, the inputs, and for how many branches each."""
        ways: dict[_Way, dict[int, int]] = {}
        for i in range(count):
            for branch in self.selection.of(i):
                wanted = ways.setdefault(way_of(branch), {})
                wanted[i] = wanted.get(i, 0) + 1
        return ways

    def _texts(self, task: Task, item: Input) -> tuple[Text, ...] | ServiceError:
        try:
            return task.texts(item, self.options)
        except ServiceError as error:
            return error


def way_of(branch: Branch) -> _Way:
    """The task, and the positions that a row's own tokens have to leave to its first adapter."""
    return branch.task, branch.inserted + branch.shifted


def check_forms(inputs: Sequence[Input], selection: Selection, pointer: Pointer) -> None:
    """Raise `Unprocessable` naming every input of a form that a task can not take."""
    found = {
        i: fault
        for i, item in enumerate(inputs)
        for fault in (form_fault(branch.task, item) for branch in selection.of(i))
        if fault is not None
    }
    if found:
        raise refusal(found, pointer)


def check_items(parts: Sequence[Sequence[Part]], settled: Mapping[Task, Options], most: int) -> None:
    """Raise `TooLarge` for an answer that would hold too much, before anything runs for it."""
    held = [
        part.branch.task.items(part.prepared, part.branch.head_spec, settled[part.branch.task])
        for found in parts
        for part in found
    ]
    total = sum(items.count for items in held)
    if total > most:
        name = max(held, key=lambda items: items.count).parameter
        detail = f"the answer would hold {total} items; at most {most} in one request"
        remedy = f"make {name} less, or send fewer inputs" if name else "send fewer inputs"
        pointer = f"/parameters/{name}" if name else "/inputs"
        raise TooLarge(f"{detail}: {remedy}", code="too_many_items", pointer=pointer)


def refusal(errors: Mapping[int, ServiceError], pointer: Pointer) -> ServiceError:
    """One refusal for the inputs at fault: that of the first, with the faults of all, each where it stands."""
    first = errors[min(errors)]
    faults = [
        Fault(fault.pointer if fault.pointer.startswith("/parameters") else pointer(i) + fault.pointer, fault.detail)
        for i, error in sorted(errors.items())
        for fault in error.faults or (Fault("", error.detail),)
    ]
    return type(first)(first.detail, code=first.code, faults=tuple(dict.fromkeys(faults)))


def _check_readable(prepared: Prepared) -> None:
    for piece in prepared.pieces:
        fault = prepared.tokenizer.fault(piece.encoded)
        if fault is not None:
            raise Unprocessable(fault, code="unreadable_input", pointer="")


def check_splits(parts: Sequence[Sequence[Part]], pointer: Pointer) -> None:
    """Raise `Unprocessable` naming the inputs that the lengths of a split can not hold."""
    refusals: dict[int, ServiceError] = {}
    for i, found in enumerate(parts):
        for part in found:
            if not part.branch.splits:
                continue
            for piece in part.prepared.pieces:
                fault = split_fault(part.branch.composition.block, piece.row.tokens + part.branch.inserted)
                if fault is not None:
                    detail = f"row {i}: {fault}"
                    refusals[i] = Unprocessable(detail, code="too_long", pointer="")
    if refusals:
        raise refusal(refusals, pointer)


def split_fault(block: Block, tokens: int) -> str | None:
    """Why the lengths of a split can not hold so many tokens (those of a prompt included); None if they can."""
    if isinstance(block, Leaf):
        return None
    shares = [tokens] * len(block.children)
    if isinstance(block, Split):
        total = sum(block.splits)
        if tokens > total:
            return f"{tokens} tokens, but the lengths of the split add up to {total}: make them longer"
        shares = [min(length, max(tokens - sum(block.splits[:i]), 0)) for i, length in enumerate(block.splits)]
    faults = (split_fault(child, share) for child, share in zip(block.children, shares, strict=True))
    return next((fault for fault in faults if fault is not None), None)
