"""A task as the gateway uses it, on the small vocabulary, with logits that a test gives."""

from collections.abc import Sequence

import numpy as np

from adapters.manifest import HeadSpec
from serving.request import Reduced
from serving.tasks.inputs import Input
from serving.tasks.task import Options, Prepared, Room, Task
from serving.tasks.tokenization import Tokenizer
from tests.serving.samples import tokenizer_json

TOKENIZER = Tokenizer(tokenizer_json(), vocabulary=64, types=2)


def prepare(task: Task, item: Input, room: Room = Room(512), tokenizer: Tokenizer = TOKENIZER, **options) -> Prepared:  # noqa: B008 - a frozen value
    """The rows of an input."""
    chosen = task.settle(Options(**options), tokenizer)
    return task.prepare(item, tokenizer.encode(task.texts(item, chosen)), tokenizer, room, chosen)


def answer(task: Task, prepared: Prepared, outputs: Sequence[object], head: HeadSpec | None = None, **options):
    """The answer from the logits of each row; they have the shape that the task says."""
    shares = [item if isinstance(item, Reduced) else Reduced(np.asarray(item, np.float32)) for item in outputs]
    for piece, share in zip(prepared.pieces, shares, strict=True):
        wanted = task.shape(piece, head, Options(**options))
        assert len(wanted) == share.output.ndim
        assert all(w in (None, n) for w, n in zip(wanted, share.output.shape, strict=True))
    return task.answer(prepared, shares, head, Options(**options))
