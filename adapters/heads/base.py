"""What a kind of head is: the contract between a head's file and the rest of the library.

A head says which tensors it stores (`shapes`), why it could not run (`reasons`), and computes many heads of equal
specification at once (`apply`), each over its own rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from adapters.kernels.arena import Stacked
from adapters.kernels.runs import Runs
from adapters.manifest import HeadSpec

MAX_LAYERS = 8
Places = Literal["row", "tokens"]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class TrainedWords:
    """Vectors [k, width] in the place of those of the token ids [k]."""

    ids: Tensor
    vectors: Tensor


@dataclass(frozen=True, eq=False)
class HeadContext:
    """What a head may need beside the states.

    `rows`: each row's range in x. `word_starts`, per row: the first token of every word, counted from the row's first
    token, and one past the last word (dependency parsing). `undo`: the inverse of the rows' invertible adapters, for
    states [n, width of the embeddings] in the order of x (masked language models); None where no row has one. `whole`:
    a head for rows gets all of their states, and answers for each. `trained`, per row: the words whose vectors the row's
    adapter brings, for a head that reads the backbone's table.
    """

    rows: tuple[tuple[int, int], ...]
    word_starts: tuple[tuple[int, ...] | None, ...]
    undo: Callable[[Tensor], Tensor] | None = None
    whole: bool = False
    trained: tuple[TrainedWords | None, ...] = ()


class Head(Protocol):
    """Every kind of head."""

    @property
    def type(self) -> str:
        """`HeadSpec.type`, the key in `HEADS`."""
        ...

    @property
    def places(self) -> Places:
        """What it reads: one pooled state per row, or the states of tokens."""
        ...

    def shapes(self, spec: HeadSpec, hidden: int) -> Shapes:
        """Full names and shapes of the stored tensors."""
        ...

    def reasons(self, spec: HeadSpec, hidden: int, *, has_pooler: bool) -> list[str]:
        """Everything that keeps the head from running on a backbone whose states are `hidden` wide."""
        ...

    def apply(
        self, x: Tensor, runs: Runs, spec: HeadSpec, params: Mapping[str, Stacked], context: HeadContext
    ) -> list[Tensor]:
        """One answer per row, in order, from states x [n, hidden] under S heads (`runs` are their segments of x).

        `params` holds the tensors of `shapes` under their names without `head/`, with dots.
        """
        ...
