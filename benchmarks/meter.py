"""What the meter adds to an operator, against an empty dispatch mode and PyTorch's own counter.

GPT-2's operator stream (12 layers, dropout, tanh-GELU, attention by parts) at tiny sizes, so that
time is overhead: forward, backward and AdamW. All rivals run in turn, in every round; the fastest
round of each is taken, in CPU time.

Run `python benchmarks/meter.py [rounds]`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from language_models import GPT2
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from pytest_flops.counting.meter.meter import FLOPsMeter

EMPTY_LIMIT, COUNTER_LIMIT = 1.5, 0.35


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
    "FlopCounterMode": lambda: FlopCounterMode(display=False),
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


def main(rounds: int) -> int:
    torch.set_num_threads(1)
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
    print(f"of an empty TorchDispatchMode: {to_empty:.2f}x (at most {EMPTY_LIMIT}x)")
    print(f"of FlopCounterMode:            {to_counter:.2f}x (at most {COUNTER_LIMIT}x)")
    return int(to_empty > EMPTY_LIMIT or to_counter > COUNTER_LIMIT)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 25))
