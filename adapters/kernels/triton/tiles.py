"""Which rows of which segment each program of a launch takes: found by the program itself, from the segments' bounds.

A launch has as many programs as segments of so many rows can need at all; those that are not needed end at once. So it
depends on the sizes of its tensors alone: nothing is counted on the host, and a CUDA graph can replay it after other
bounds were written into the same tensor (empty segments fill it up).
"""

import torch
import triton
import triton.language as tl

ALIGN = 16  # elements: where parameters begin in an arena, so that 16 bytes can be read at once
HEIGHTS = (16, 32, 64)  # of a tile: a tensor core takes 16 rows at least; above 64 the registers of a program are short
PROGRAMS = 128  # of a launch, at the least, where there is work for so many: an H200 has 132 multiprocessors
ALIGNED = tl.constexpr(ALIGN)


def height(tokens: int, segments: int, dtype: torch.dtype) -> int:
    """Rows per tile: the most that leave every multiprocessor a program, and no more than a segment has in the mean.

    float32 is not multiplied by tensor cores: its sums fill the registers with the lowest tiles already.
    """
    if dtype == torch.float32:
        return HEIGHTS[0]
    most = min(tokens // PROGRAMS, power_of_two(parts(tokens, segments)))
    return max((rows for rows in HEIGHTS if rows <= most), default=HEIGHTS[0])


def capacity(tokens: int, segments: int, rows: int) -> int:
    """The most tiles of `rows` rows that segments of so many tokens together can need; each may waste part of one."""
    return max(1, (tokens + segments * (rows - 1)) // rows)


def parts(whole: int, part: int) -> int:
    """How many parts of a size a whole has, the last of which may be smaller."""
    return -(-whole // max(1, part))


def power_of_two(least: int) -> int:
    """The smallest power of two that is no less: what a block of a kernel has."""
    return 1 << max(0, least - 1).bit_length()


def lanes(segments: int) -> int:
    """Segments that a program looks at: few different numbers, since each is a kernel of its own."""
    return max(16, power_of_two(segments))


@triton.jit
def tile_of(
    bounds: tl.tensor, segments: tl.tensor, STEP: tl.constexpr, ROWS: tl.constexpr, LANES: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """(segment, first row of the tile, one past the last row of the segment) of this program.

    bounds: first row of segment i at i * STEP, and one past its last behind it. A segment that is not there (`segments`
    or more) tells that there is nothing to do.
    """
    tile, lane = tl.program_id(0), tl.arange(0, LANES)
    first = tl.load(bounds + lane * STEP, mask=lane < segments, other=0)
    last = tl.load(bounds + lane * STEP + 1, mask=lane < segments, other=0)
    count = (last - first + ROWS - 1) // ROWS
    ends = tl.cumsum(count, 0)
    segment = tl.sum((ends <= tile).to(tl.int32), 0)  # those that end before this tile
    mine = lane == segment
    start = tl.sum(tl.where(mine, first + (tile - ends + count) * ROWS, 0), 0)
    return segment, start, tl.sum(tl.where(mine, last, 0), 0)


@triton.jit
def parameter(arena: tl.tensor, offsets: tl.tensor, segment: tl.tensor) -> tl.tensor:
    """The address of a segment's parameter."""
    return arena + tl.multiple_of(tl.load(offsets + segment), ALIGNED)
