"""Pieces that every kernel here is made of: the product of two tiles, and the joining of blocks' means and variances."""

import triton
import triton.language as tl
from triton import knobs

# The interpreter holds bfloat16 as integers, and multiplies these: it gets the same values in float32 instead.
INTERPRETED = tl.constexpr(bool(knobs.runtime.interpret))


@triton.jit
def product(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """a [m, k] times b [k, n] of one storage type, summed in float32; float32 is multiplied as float32, not as TF32."""
    if INTERPRETED:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def joined(
    values: tl.tensor, inside: tl.tensor, seen: tl.tensor, mean: tl.tensor, spread: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Count, mean [m] and sum of squared deviations [m] of the columns so far and those of a block [m, n].

    Chan, Golub, LeVeque 1979: no less accurate than two passes. `inside` [1, n] tells which columns count.
    """
    own = tl.sum(tl.sum(inside.to(tl.float32), 1), 0)
    centre = tl.sum(tl.where(inside, values, 0.0), 1) / own
    away = tl.where(inside, values - centre[:, None], 0.0)
    apart = centre - mean
    total = seen + own
    mean += apart * own / total
    spread += tl.sum(away * away, 1) + apart * apart * (seen * own / total)
    return total, mean, spread
