"""What of a row's output travels: the reductions that a ticket asks for, on the row's own tokens."""

import numpy as np
from numpy.typing import NDArray

from adapters.errors import InvalidRow
from serving.request import Reduction


def reduce(output: NDArray[np.float32], reduction: Reduction, own: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits [labels] as they are; per-token outputs [length, width] at `own` places, or at `positions` among them.

    The result owns its memory: a view would keep the whole batch alive. Raises `InvalidRow` for impossible positions.
    """
    positions = reduction.positions
    if output.ndim == 1:
        if positions is not None:
            raise InvalidRow("positions were asked for, but the head answers for the row as a whole")
        return output.copy()
    if positions is None:
        return output[own]
    if not all(0 <= position < len(own) for position in positions):
        raise InvalidRow(f"positions must lie within the row's {len(own)} tokens")
    return output[own[list(positions)]]
