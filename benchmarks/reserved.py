"""What PyTorch's allocator would take from a GPU for Llama 3.1 8B, beside published figures.

`peak_memory` is what is allocated. torchtitan (benchmarks/llama3_h100_202412_torchtitan.md) prints
what is reserved: all that the allocator has ever asked of the GPU. Here the storages of two steps,
in the order in which they begin and end, are given to a model of that allocator, written from its
documentation: each stream has a pool of its own, and a request takes the smallest free block that
fits, and splits it. It has not been held against a GPU.

Run `python benchmarks/reserved.py`. Exits with 1 when a figure is further off than told.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPCommContext

from pytest_flops import FLOPsMeter, fake_ranks
from pytest_flops.counting.meter.fake_step import training_step
from pytest_flops.counting.metrics import peak_memory

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "one_rank_of_many"))
import llama

BATCH, LENGTH = 2, 8192
PUBLISHED = {8: 82.4, 128: 67.0}  # GiB
MOST_OFF = 0.01
MIB, GIB = 2**20, 2**30


@dataclass
class Block:
    """A part of a segment."""

    size: int
    free: bool = True


class Pool:
    """The segments of one stream, for requests of up to 1 MiB or for larger ones.

    Expandable, it is one segment that grows at its end, by 20 MiB (2 of small requests) at a time.
    """

    def __init__(self, *, small: bool, expandable: bool) -> None:
        self.small, self.expandable = small, expandable
        self.segments: list[list[Block]] = [[]] if expandable else []
        self.reserved = 0

    def take(self, size: int) -> tuple[list[Block], Block]:
        """A block of that size, and the segment that it is in."""
        fitting = [
            (block, segment)
            for segment in self.segments
            for block in segment
            if block.free and block.size >= size
        ]
        if fitting:
            block, segment = min(fitting, key=lambda each: each[0].size)
        else:
            block, segment = self._grown(size)
        rest = block.size - size
        if rest >= 512 if self.small or self.expandable else rest > MIB:
            segment.insert(place(block, segment) + 1, Block(rest))
            block.size = size
        block.free = False
        return segment, block

    def _grown(self, size: int) -> tuple[Block, list[Block]]:
        granule = 20 * MIB if self.expandable or size < 10 * MIB else 2 * MIB
        granule = 2 * MIB if self.small else granule
        if not self.expandable:
            self.segments.append([])
        segment = self.segments[-1]
        if not segment or not segment[-1].free:
            segment.append(Block(0))
        last = segment[-1]
        grown = -(-(size - last.size) // granule) * granule
        self.reserved += grown
        last.size += grown
        return last, segment


def place(block: Block, segment: list[Block]) -> int:
    return next(number for number, each in enumerate(segment) if each is block)


def give_back(segment: list[Block], block: Block) -> None:
    block.free = True
    number = place(block, segment)
    for left in (number, number - 1):
        if 0 <= left < len(segment) - 1 and segment[left].free and segment[left + 1].free:
            segment[left].size += segment.pop(left + 1).size


@dataclass
class Life:
    """A storage, which stands in the list of events twice: where it begins, and where it ends."""

    size: int
    stream: str


class Lives(peak_memory.Counter):
    """Storages as they begin and end, and the stream that each begins in."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Life] = []
        self.found: dict[int, Life] = {}
        current.counter = self

    def _add(self, *args: Any) -> Any:
        known = super()._add(*args)
        self.found[id(known)] = Life(known.size, current.stream)
        self.events.append(self.found[id(known)])
        return known

    def _end(self, known: Any) -> None:
        super()._end(known)
        self.events.append(self.found[id(known)])


class Stream:
    """One of FSDP's, which on a mesh of CPUs are none."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self  # waiting, and recording what is waited for


class Current:
    """Where the step is."""

    stream = "computing"
    counter: Lives


current = Current()


@contextmanager
def on(stream: Stream | None) -> Iterator[None]:
    before = current.stream
    current.stream = stream.name if stream else before
    yield
    current.stream = before


def with_streams(context: Any, device: torch.device) -> None:
    starting(context, device)
    for name in ("all_gather_copy_in", "all_gather", "reduce_scatter", "all_reduce"):
        setattr(context, f"{name}_stream", Stream(name))


starting = FSDPCommContext.lazy_init


def events_of_two_steps(ranks: int) -> list[Life]:
    """The second is like all that follow: it has the optimizer's state."""
    counting = ExitStack()

    @contextmanager
    def first() -> Iterator[None]:
        counting.enter_context(FLOPsMeter(metrics=["peak_memory"]))
        yield

    with (
        counting,
        patch.object(peak_memory, "Counter", Lives),
        patch.object(FSDPCommContext, "lazy_init", with_streams),
        patch.object(torch.cpu, "stream", on),
        fake_ranks(dp_shard=ranks) as mesh,
    ):
        model, inputs = llama.build(batch_size=BATCH, seq_len=LENGTH)
        training_step(
            model,
            inputs,
            {},
            "adamw",
            None,
            training=True,
            each=[first(), ExitStack()],
            like="cuda",
            parallelize=lambda whole: llama.parallelize(whole, mesh),
        )
    return current.counter.events


def played(events: list[Life], *, expandable: bool) -> tuple[float, dict[str, float]]:
    """The most that is allocated, and what is reserved of each stream, in GiB."""
    pools: dict[tuple[str, bool], Pool] = {}
    held: dict[int, Any] = {}
    allocated = most = 0
    for life in events:
        if id(life) in held:
            give_back(*held.pop(id(life)))
            allocated -= life.size
        elif life.size:
            small = life.size <= MIB
            if (life.stream, small) not in pools:
                pools[life.stream, small] = Pool(small=small, expandable=expandable)
            held[id(life)] = pools[life.stream, small].take(life.size)
            allocated += life.size
            most = max(most, allocated)
    reserved: dict[str, float] = defaultdict(float)
    for (stream, _), pool in pools.items():
        reserved[stream] += pool.reserved / GIB
    return most / GIB, dict(reserved)


def main() -> int:
    far = False
    for ranks, published in PUBLISHED.items():
        events = events_of_two_steps(ranks)
        for expandable in (False, True):
            allocated, reserved = played(events, expandable=expandable)
            whole = sum(reserved.values())
            print(
                f"{ranks:>4} ranks: allocated {allocated:.2f} GiB, reserved {whole:.2f}"
                f"{' with expandable segments' if expandable else ''}, published {published}: "
                + ", ".join(f"{stream} {size:.2f}" for stream, size in reserved.items())
            )
            far |= not expandable and abs(whole / published - 1) > MOST_OFF
    return int(far)


if __name__ == "__main__":
    logging.disable()
    sys.exit(main())
