"""What a task is: which heads it reads, what it asks of the engine for a row, and how it words the answer."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import HeadSpec
from serving.request import Reduction
from serving.tasks.tokenization import Encoded

Function = Literal["softmax", "sigmoid", "none"]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Options:
    """How a client wants its answer. `label_order` keeps the head's order where the default is to sort by score."""

    top_k: int | None = None
    function: Function | None = None  # None is the default of the head's problem type
    label_order: bool = False


class Task(Protocol):
    """One task; implementations are stateless."""

    @property
    def name(self) -> str:
        """The name in the HTTP contract, as in the Hugging Face Inference API."""
        ...

    @property
    def problem_types(self) -> frozenset[str]:
        """The heads it can read; empty for a task without a head."""
        ...

    @property
    def parameters(self) -> frozenset[str]:
        """The optional parameters that mean something for it (`truncate` always does)."""
        ...

    @property
    def pairs(self) -> bool:
        """Whether an input may be a text and its pair."""
        ...

    def reduction(self, encoded: Encoded) -> Reduction:
        """What to return of the row."""
        ...

    def answer(self, output: NDArray[np.float32], encoded: Encoded, head: HeadSpec | None, options: Options) -> Any:
        """Plain JSON for one row's `output`, which the engine reduced as `reduction` asked."""
        ...


def scores(logits: NDArray[np.float32], function: Function) -> Scores:
    """Logits [..., labels] as scores, computed in double precision; "none" leaves them as they are."""
    values = logits.astype(np.float64)
    if function == "softmax":
        powers = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
    if function == "sigmoid":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))  # 1 / (1 + exp(-x)) without overflow
    return values
