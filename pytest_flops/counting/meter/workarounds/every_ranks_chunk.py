"""FSDP cuts each parameter into the chunks of all ranks, and keeps two: the first, and this rank's.

PyTorch: `FSDPParam` calls `_chunk_with_empty`, which makes a view for each rank, and a fake view
takes as long as any other operator on fakes. On 1,024 ranks that is four fifths of a count.
Seen in: 2.11 to 2.14.
May go when: `benchmarks/ranks.py` stays within its limits without it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from pytest_flops.counting.replacing import replaced


def chunks_when_asked_for() -> AbstractContextManager[None]:
    """While active, FSDP makes a chunk of a parameter when it takes it."""
    from torch.distributed.fsdp._fully_shard import _fsdp_param

    return replaced(_fsdp_param, "_chunk_with_empty", lambda _, *args, **dim: _Chunks(*args, **dim))


@dataclass(frozen=True)
class _Chunks:
    """The chunks of `torch.chunk`, then empty ones, `num_chunks` of them in all."""

    tensor: Tensor
    num_chunks: int
    dim: int

    def __getitem__(self, number: int) -> Tensor:
        size = self.tensor.size(self.dim)
        longest = -(-size // self.num_chunks)
        start = number * longest
        if number and start >= size:
            return self.tensor.new_empty(0)
        return self.tensor.narrow(self.dim, start, min(longest, size - start))
