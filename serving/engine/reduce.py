"""What of a row's output travels: the reductions that a ticket asks for, on the row's own tokens."""

import numpy as np
from numpy.typing import NDArray

from adapters.errors import InvalidRow
from serving.request import Pooling, Reduced, Reduction

Array = NDArray[np.float32]


def reduce(output: Array, reduction: Reduction, own: NDArray[np.int64]) -> Reduced:
    """One row's share; `own` are the places of its own tokens among those that ran.

    Logits: [labels] as they are; [length, labels] at `own` places, or [positions, labels] where the ticket named
    positions (the head ran on those alone); [words, words + 1, 1 + relations] of a parser. Hidden states [length, width].
    The result owns its memory: a view would keep the whole batch alive. Raises `InvalidRow` for impossible wishes.
    """
    if reduction.output == "hidden_state":
        return Reduced(_states(output, reduction, own))
    if output.ndim == 1:
        if reduction.positions is not None:
            raise InvalidRow("positions were asked for, but the head answers for the row as a whole")
        return Reduced(output.copy())
    if output.ndim == 3:
        return Reduced(_best_head(output) if reduction.best_head else output.copy())
    logits = output[own] if reduction.positions is None else output
    if reduction.chosen is not None or reduction.top is not None:
        return _few(logits, reduction.top, reduction.chosen)
    return Reduced(logits.copy() if logits is output else logits)


def _states(output: Array, reduction: Reduction, own: NDArray[np.int64]) -> Array:
    places = own
    if reduction.positions is not None:
        if not all(0 <= position < len(own) for position in reduction.positions):
            raise InvalidRow(f"positions must lie within the row's {len(own)} tokens")
        places = own[list(reduction.positions)]
    states = output[places]
    if reduction.pooling is None:
        return states
    vector = _pooled(states, reduction.pooling)
    if reduction.normalize:
        vector = vector / max(float(np.linalg.norm(vector.astype(np.float64))), 1e-12)
    return vector.astype(np.float32)


def _pooled(states: Array, pooling: Pooling) -> Array:
    """One vector [width] of states [tokens, width]."""
    if pooling == "cls":
        return np.array(states[0])
    if pooling == "last":
        return np.array(states[-1])
    if pooling == "max":
        return np.asarray(states.max(axis=0))
    return np.asarray(states.mean(axis=0, dtype=np.float64))


def _best_head(output: Array) -> Array:
    """[words, words + 1 + relations]: arc scores, then the relation scores at the best head of each word."""
    arcs = output[:, :, 0]
    best = arcs.argmax(axis=1)
    return np.concatenate([arcs, output[np.arange(len(best)), best, 1:]], axis=1)


def _few(logits: Array, top: int | None, chosen: tuple[int, ...] | None) -> Reduced:
    """The largest logits of each position, or the chosen ones, best first; ties go to the smaller id."""
    positions, vocabulary = logits.shape
    if chosen is not None:
        if not all(0 <= token < vocabulary for token in chosen):
            raise InvalidRow(f"the head scores a vocabulary of {vocabulary}, and an id outside of it was asked for")
        ids = np.tile(np.array(chosen, np.int32), (positions, 1))
    else:
        assert top is not None
        count = min(top, vocabulary)
        ids = np.empty((positions, count), np.int32)
        for i, row in enumerate(logits):
            if np.isnan(row).any():  # nothing can be sorted by it; the sum below is not a number either, and is refused
                ids[i] = np.arange(count)
                continue
            least = np.partition(row, vocabulary - count)[vocabulary - count]
            able = np.flatnonzero(row >= least)
            ids[i] = able[np.argsort(-row[able], kind="stable")][:count]
    values = np.take_along_axis(logits, ids.astype(np.int64), axis=1)
    return Reduced(np.concatenate([values, _log_sum(logits)], axis=1).astype(np.float32), ids)


def _log_sum(logits: Array) -> NDArray[np.float64]:
    """[positions, 1]: log of the sum of exponentials, in double precision."""
    values = logits.astype(np.float64)
    most = values.max(axis=1, keepdims=True)
    return np.asarray(most + np.log(np.exp(values - most).sum(axis=1, keepdims=True)))
