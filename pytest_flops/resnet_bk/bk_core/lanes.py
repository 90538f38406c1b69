"""How BK-Core lays rows out on the CPU, and linear recurrences along them.

A recurrence cannot be vectorised along the row, so each row is cut into chunks of S elements and
the chunks of all rows become the columns ("lanes") of one array: `(S, lanes)`, with
`lanes = B * ceil(N / S)`. Each step of the recurrence is then one vectorised operation over
contiguous lanes. The last chunk of a row is padded with elements that couple to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


class Downwards:
    """The slices of `(S + 1, lanes)` that a recurrence towards higher indices works on.

    The entry value is in row 0, element j in row j + 1.
    """

    def __init__(self, chunk: int) -> None:
        self.entry, self.end = 0, chunk
        self.elements, self.neighbours = slice(1, None), slice(0, -1)

    def combine(self, gap: int) -> tuple[slice, slice]:
        """The last elements of segments of 2 gap elements, and of their first halves."""
        return slice(2 * gap, None, 2 * gap), slice(gap, None, 2 * gap)

    def expand(self, gap: int) -> tuple[slice, slice]:
        """The last elements of the first halves of such segments, and the segments' entries."""
        return slice(gap, None, 2 * gap), slice(0, -1, 2 * gap)

    def entries(self, ends: Tensor) -> Tensor:
        """Each chunk's entry value, `(R, chunks)`: its neighbour's last, 0 where the row begins."""
        return pad(ends[:, :-1], (1, 0))


class Upwards:
    """The slices of `(S + 1, lanes)` that a recurrence towards lower indices works on.

    Element j is in row j, the entry value in row S.
    """

    def __init__(self, chunk: int) -> None:
        self.entry, self.end = chunk, 0
        self.elements, self.neighbours = slice(0, -1), slice(1, None)
        self._chunk = chunk

    def combine(self, gap: int) -> tuple[slice, slice]:
        """The last elements of segments of 2 gap elements, and of their first halves."""
        return slice(0, self._chunk, 2 * gap), slice(gap, self._chunk, 2 * gap)

    def expand(self, gap: int) -> tuple[slice, slice]:
        """The last elements of the first halves of such segments, and the segments' entries."""
        return slice(gap, self._chunk, 2 * gap), slice(2 * gap, None, 2 * gap)

    def entries(self, ends: Tensor) -> Tensor:
        """Each chunk's entry value, `(R, chunks)`: its neighbour's last, 0 where the row begins."""
        return pad(ends[:, 1:], (0, 1))


def accumulate(p: Tensor, c: Tensor, rows: int, direction: Downwards | Upwards) -> None:
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
        onto, of = direction.combine(gap)
        p[onto].addcmul_(c[onto], p[of])
        c[onto].mul_(c[of])
        gap *= 2
    ends = _ends(p[direction.end].view(rows, -1), c[direction.end].view(rows, -1), direction)
    p[direction.entry], p[direction.end] = direction.entries(ends).flatten(), ends.flatten()
    while gap > 1:
        gap //= 2
        onto, of = direction.expand(gap)
        p[onto].addcmul_(c[onto], p[of])


def _ends(source: Tensor, coefficients: Tensor, direction: Downwards | Upwards) -> Tensor:
    """The recurrence over the chunks of each row, `(R, chunks)`."""
    rows, chunks = source.shape
    if chunks == 1:
        return source
    chunk = chunk_length(chunks)
    inner = type(direction)(chunk)
    p, c = source.new_empty(2, chunk + 1, rows * -(-chunks // chunk))
    p[inner.elements] = to_lanes(source, chunk, 0.0)
    c[inner.elements] = to_lanes(coefficients, chunk, 0.0)
    accumulate(p, c, rows, inner)
    return to_rows(p[inner.elements].t().contiguous(), rows, chunks)
