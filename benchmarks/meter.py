"""What the meter adds to an operator, against an empty dispatch mode and PyTorch's own counter.

The meter alone, and with other metrics, which are also held against PyTorch's `MemTracker`. Its
`RuntimeEstimator` does not run without a GPU.

GPT-2's operator stream (12 layers, dropout, tanh-GELU, attention by parts) at tiny sizes, so that
time is overhead: forward, backward and AdamW. All rivals run in turn, in every round; the fastest
round of each is taken, in CPU time.

Then how long it takes to enter and leave a meter, alone and beside a thread that never rests: the
median of many, after the compiler has been imported.

Run `python benchmarks/meter.py [rounds]`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import median
from typing import Any

import torch
import torch._dynamo
from language_models import GPT2
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pytest_flops.counting.meter.meter import FLOPsMeter

EMPTY_LIMIT, COUNTER_LIMIT = 1.3, 0.35
METRICS_LIMIT = 2.0  # with bytes, launches and syncs, of an empty mode
MEMORY_LIMIT = 2.7  # and with peak memory
ENTERING_LIMIT = 0.4  # ms


class EmptyMode(TorchDispatchMode):
    """The least a dispatch mode can do."""

    operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        EmptyMode.operators += 1
        return func(*args, **(kwargs or {}))


RIVALS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "nothing": nullcontext,
    "empty TorchDispatchMode": EmptyMode,
    "FLOPsMeter": FLOPsMeter,
    "with three metrics": lambda: FLOPsMeter(metrics=["bytes", "launches", "syncs"]),
    "with memory": lambda: FLOPsMeter(metrics=["bytes", "launches", "syncs", "peak_memory"]),
    "FlopCounterMode": lambda: FlopCounterMode(display=False),
    "MemTracker": MemTracker,
}


def make_step() -> Callable[[], None]:
    torch.manual_seed(0)
    model = GPT2(vocab=64, width=24, heads=12, layers=12, length=8)
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(0, 64, (1, 8))

    def step() -> None:
        logits = model(tokens)
        F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Callable[[], None], rival: Callable[[], AbstractContextManager[Any]]) -> float:
    with rival():
        begin = time.process_time()
        step()
        return time.process_time() - begin


def milliseconds_of_an_empty_meter(times: int = 200) -> float:
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        with FLOPsMeter():
            pass
        taken.append((time.perf_counter() - begin) * 1e3)
    return median(taken)


@contextmanager
def busy_thread() -> Iterator[None]:
    ends = threading.Event()

    def compute() -> None:
        while not ends.is_set():
            torch.ones(8) + 1

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def print_per_operator(rounds: int) -> bool:
    """Whether it is within the limits."""
    step = make_step()
    for rival in RIVALS.values():
        seconds(step, rival)
    EmptyMode.operators = 0
    seconds(step, EmptyMode)
    operators = EmptyMode.operators
    best = dict.fromkeys(RIVALS, float("inf"))
    for _ in range(rounds):
        for name, rival in RIVALS.items():
            best[name] = min(best[name], seconds(step, rival))
    extra = {name: (best[name] - best["nothing"]) / operators * 1e6 for name in RIVALS}
    print(f"{operators:,} operators a step, fastest of {rounds} rounds, 1 thread")
    for name in RIVALS:
        print(f"{name:<24} {extra[name]:6.1f} us more per operator")
    to_empty = extra["FLOPsMeter"] / extra["empty TorchDispatchMode"]
    to_counter = extra["FLOPsMeter"] / extra["FlopCounterMode"]
    with_metrics = extra["with three metrics"] / extra["empty TorchDispatchMode"]
    with_memory = extra["with memory"] / extra["empty TorchDispatchMode"]
    print(f"of an empty TorchDispatchMode: {to_empty:.2f}x (at most {EMPTY_LIMIT}x)")
    print(f"with bytes, launches, syncs:   {with_metrics:.2f}x (at most {METRICS_LIMIT}x)")
    print(f"and with peak memory:          {with_memory:.2f}x (at most {MEMORY_LIMIT}x)")
    print(f"of FlopCounterMode:            {to_counter:.2f}x (at most {COUNTER_LIMIT}x)")
    within = [
        to_empty <= EMPTY_LIMIT,
        with_metrics <= METRICS_LIMIT,
        with_memory <= MEMORY_LIMIT,
        extra["with memory"] < min(extra["FlopCounterMode"], extra["MemTracker"]),
        to_counter <= COUNTER_LIMIT,
    ]
    return all(within)


def print_entering() -> bool:
    """Whether it is within the limit."""
    alone = milliseconds_of_an_empty_meter()
    with busy_thread():
        beside = milliseconds_of_an_empty_meter()
    print(f"an empty meter:                {alone:.2f} ms (at most {ENTERING_LIMIT} ms)")
    print(f"beside a busy thread:          {beside:.2f} ms (at most {ENTERING_LIMIT} ms)")
    return max(alone, beside) <= ENTERING_LIMIT


def main(rounds: int) -> int:
    torch.set_num_threads(1)
    within = [print_per_operator(rounds), print_entering()]
    return int(not all(within))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 25))
