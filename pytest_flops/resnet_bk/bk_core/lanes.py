"""How BK-Core lays rows out on the CPU, and linear recurrences along them.

A recurrence cannot be vectorised along the row, so each row is cut into chunks of S elements and
the chunks of all rows become the columns ("lanes") of one array: `(S, lanes)`, with
`lanes = B * ceil(N / S)`. Each step of the recurrence is then one vectorised operation over
contiguous lanes. The last chunk of a row is padded with elements that couple to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch.nn.functional import pad

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST_CHUNK = 64


def chunk_length(length: int) -> int:
    """S, a power of two: the whole row if it is short."""
    return min(_LONGEST_CHUNK, 1 << max(length - 1, 0).bit_length())


def to_lanes(x: Tensor, chunk: int, filler: float) -> Tensor:
    """`(R, n)` to `(S, lanes)`."""
    return pad(x, (0, -x.shape[1] % chunk), value=filler).reshape(-1, chunk).t()


def to_rows(lanes: Tensor, rows: int, length: int) -> Tensor:
    """`(lanes, S)` to `(R, n)`."""
    return lanes.view(rows, lanes.numel() // rows if rows else length)[:, :length]


def following(firsts: Tensor, rows: int, filler: float) -> Tensor:
    """For each lane the value of the next chunk of the same row; the filler after the last."""
    return pad(firsts.view(rows, -1)[:, 1:], (0, 1), value=filler).flatten()


def preceding(lasts: Tensor, rows: int) -> Tensor:
    """For each lane the value of the previous chunk of the same row; 0 before the first."""
    return pad(lasts.view(rows, -1)[:, :-1], (1, 0)).flatten()


class Direction(NamedTuple):
    """Where the values of a recurrence are in `(S + 1, lanes)`: S elements and the entry value.

    `neighbours` are the elements' predecessors, of which the first is the entry value; `end` is the
    last element that the recurrence reaches.
    """

    entry: int
    end: int
    elements: slice
    neighbours: slice


DOWNWARDS = Direction(entry=0, end=-1, elements=slice(1, None), neighbours=slice(0, -1))
"""Towards higher indices: element j is in row j + 1."""

UPWARDS = Direction(entry=-1, end=0, elements=slice(0, -1), neighbours=slice(1, None))
"""Towards lower indices: element j is in row j."""


def accumulate(p: Tensor, c: Tensor, rows: int, direction: Direction) -> None:
    """`p_j += c_j p_{j-1}` (upwards: `p_{j+1}`) along each row, in place; overwrites c.

    A parallel prefix sum (G. E. Blelloch, Prefix sums and their applications, 1990) in three steps:
    combine each chunk into its last element; the last elements of a row's chunks follow the same
    recurrence, over a shorter row; expand each chunk from its entry value.

    Args:
        p: `(S + 1, lanes)`: S elements and the entry value, which is computed here and may hold
            anything before.
        c: Coefficients, likewise.
        rows: The number of rows that the lanes belong to.
        direction: Towards higher or lower indices.
    """
    chunk = p.shape[0] - 1
    gap = 1
    while gap < chunk:
        _, halves, wholes = _segments(gap, direction)
        p[wholes].addcmul_(c[wholes], p[halves])
        c[wholes].mul_(c[halves])
        gap *= 2
    ends = _ends(p[direction.end].view(rows, -1), c[direction.end].view(rows, -1), direction)
    lanes = ends.flatten()
    entries = preceding(lanes, rows) if direction is DOWNWARDS else following(lanes, rows, 0.0)
    p[direction.entry], p[direction.end] = entries, lanes
    while gap > 1:
        gap //= 2
        entering, halves, _ = _segments(gap, direction)
        p[halves].addcmul_(c[halves], p[entering])


def _segments(gap: int, direction: Direction) -> tuple[slice, slice, slice]:
    """Of segments of 2 gap elements: their entries, the ends of their first halves, their ends."""
    step = 2 * gap
    lower, middle, upper = slice(0, -1, step), slice(gap, None, step), slice(step, None, step)
    return (lower, middle, upper) if direction is DOWNWARDS else (upper, middle, lower)


def _ends(source: Tensor, coefficients: Tensor, direction: Direction) -> Tensor:
    """The recurrence over the chunks of each row, `(R, chunks)`."""
    rows, chunks = source.shape
    if chunks == 1:
        return source
    chunk = chunk_length(chunks)
    p, c = source.new_empty(2, chunk + 1, rows * -(-chunks // chunk))
    p[direction.elements] = to_lanes(source, chunk, 0.0)
    c[direction.elements] = to_lanes(coefficients, chunk, 0.0)
    accumulate(p, c, rows, direction)
    return to_rows(p[direction.elements].t().contiguous(), rows, chunks)
