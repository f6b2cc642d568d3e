"""Tickets and replies as bytes: a head in JSON, and behind it the arrays of all rows, one after the other.

As values of their own, rows cost several times as much to write and to read. What is read equals what was written.
Numbers are little-endian. Nothing here can make anything but tickets and replies of bytes, whoever sent them.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.dispatch import errands
from serving.dispatch.errands import Errand
from serving.request import Refusal, Reply, Result, Ticket, Timing

Buffer = bytes | bytearray | memoryview
_ALIGNED = 8  # bytes: where the arrays begin


def write_tickets(tickets: Sequence[Ticket]) -> bytes:
    """The tickets, in their order."""
    numbers: dict[tuple[Any, ...], int] = {}
    told: list[str] = []
    chosen = []
    for t in tickets:
        # Rows of one request share these values themselves, and to compare them would cost more.
        key = (t.tenant, id(t.composition), id(t.head), id(t.embedding), id(t.reduction), t.inserted, t.visits)
        if key not in numbers:
            numbers[key] = len(told)
            told.append(errands.written(Errand.of(t)))
        chosen.append(numbers[key])
    typed = [t.type_ids is not None for t in tickets]
    pixels = [t.pixels for t in tickets if t.pixels is not None]
    head = {
        "ids": [t.id for t in tickets],
        "errands": told,
        "chosen": chosen,
        "tokens": [len(t.input_ids) for t in tickets],
        "typed": typed if any(typed) else None,
        "words": [t.word_starts for t in tickets] if any(t.word_starts is not None for t in tickets) else None,
        "pixels": [None if t.pixels is None else t.pixels.shape for t in tickets] if pixels else None,
    }
    deadlines = np.array([t.deadline_ms for t in tickets], np.float64)
    types = [t.type_ids for t in tickets if t.type_ids is not None]
    return _written(head, [deadlines, *(t.input_ids for t in tickets), *types, *pixels])


def read_tickets(data: Buffer) -> tuple[Ticket, ...]:
    """What `write_tickets` wrote."""
    head, arrays = _read(data)
    ids, counts = head["ids"], head["tokens"]
    deadlines = arrays.take(np.float64, (len(ids),)).tolist()
    rows = [arrays.take(np.int32, (count,)) for count in counts]
    typed = head["typed"] or [False] * len(ids)
    types = [arrays.take(np.int32, (count,)) if has else None for has, count in zip(typed, counts, strict=True)]
    words = [None if starts is None else tuple(starts) for starts in head["words"] or [None] * len(ids)]
    shapes = head["pixels"] or [None] * len(ids)
    pixels = [None if shape is None else arrays.take(np.uint8, tuple(shape)) for shape in shapes]
    known = [errands.read(text) for text in head["errands"]]
    made = []
    for i, number in enumerate(head["chosen"]):
        e = known[number]
        made.append(
            Ticket(
                ids[i],
                e.tenant,
                e.composition,
                e.head,
                e.embedding,
                rows[i],
                types[i],
                e.reduction,
                deadlines[i],
                e.inserted,
                words[i],
                e.visits,
                pixels[i],
            )
        )
    return tuple(made)


def write_replies(replies: Sequence[Reply]) -> bytes:
    """The replies of one engine."""
    results = [reply for reply in replies if isinstance(reply, Result)]
    tiers: dict[tuple[tuple[str, str], ...], int] = {}
    head = {
        "ids": [result.ticket for result in results],
        "shapes": [result.output.shape for result in results],
        "indices": [None if result.indices is None else result.indices.shape for result in results],
        "found": [tiers.setdefault(tuple(result.residency.items()), len(tiers)) for result in results],
        "tiers": [dict(found) for found in tiers],
        "replicas": [result.replica for result in results],
        "rows": [result.batch_rows for result in results],
        "refusals": [
            [reply.ticket, reply.code, reply.detail, reply.replica, reply.retry_after]
            for reply in replies
            if isinstance(reply, Refusal)
        ],
    }
    times = np.array([(r.timing.queue, r.timing.load, r.timing.forward) for r in results], np.float64)
    indices = [result.indices for result in results if result.indices is not None]
    return _written(head, [times, *(result.output for result in results), *indices])


def read_replies(data: Buffer) -> tuple[Reply, ...]:
    """What `write_replies` wrote: the results in their order, then the refusals."""
    head, arrays = _read(data)
    count = len(head["ids"])
    times = arrays.take(np.float64, (count, 3)).tolist()
    outputs = [arrays.take(np.float32, tuple(shape)) for shape in head["shapes"]]
    indices = [None if shape is None else arrays.take(np.int32, tuple(shape)) for shape in head["indices"]]
    made: list[Reply] = [
        Result(
            head["ids"][i],
            outputs[i],
            Timing(*times[i]),
            head["tiers"][head["found"][i]],
            head["replicas"][i],
            head["rows"][i],
            indices[i],
        )
        for i in range(count)
    ]
    return (*made, *(Refusal(*refusal) for refusal in head["refusals"]))


class _Arrays:
    """Reads arrays that lie one behind the other."""

    def __init__(self, data: memoryview, begin: int) -> None:
        self._data = data
        self._at = begin

    def take(self, kind: type[np.generic], shape: tuple[int, ...]) -> NDArray[Any]:
        """The next one, which shares the memory of the whole."""
        found = np.frombuffer(self._data, kind, math.prod(shape), self._at)
        self._at += found.nbytes
        return found.reshape(shape)


def _written(head: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 4) % _ALIGNED)  # which JSON allows
    return b"".join([len(text).to_bytes(4, "little"), text, *(array.tobytes() for array in arrays)])


def _read(data: Buffer) -> tuple[dict[str, Any], _Arrays]:
    view = memoryview(data)
    end = 4 + int.from_bytes(view[:4], "little")
    return json.loads(bytes(view[4:end])), _Arrays(view, end)
