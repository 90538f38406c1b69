"""`FLOPsMeter` counts what PyTorch executes; `count_flops` a training step, without running it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.meter.attribution import Attribution
from pytest_flops.counting.meter.backward_in_place import backward_in_place
from pytest_flops.counting.meter.dispatch import CountingMode
from pytest_flops.counting.meter.fake_step import fake_training_step
from pytest_flops.counting.meter.tally import Tally, tally
from pytest_flops.counting.meter.threads import Threads
from pytest_flops.counting.meter.workarounds.compiled_code import run_eagerly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    import torch
    from typing_extensions import Self

    from pytest_flops.counting.count import FLOPsCount


class FLOPsMeter:
    """Counts the floating-point operations of whatever PyTorch code runs inside it.

    Every operator is counted, by phase, by module and by name, in any model and on any device; the
    rules are those of `pytest_flops.counting.costs`. Compiled modules run eagerly while counted.

    ```python
    with FLOPsMeter() as meter:
        model(x).sum().backward()
        optimizer.step()
    print(meter)
    ```

    The results can be read inside the block too, and are then those so far.

    Raises:
        RuntimeError: The meter is entered twice, or read before it is entered.
    """

    def __init__(self) -> None:
        self._attribution = Attribution()
        self._active: ExitStack | None = None
        self._result: Tally | None = None

    def __enter__(self) -> Self:
        if self._active is not None:
            raise RuntimeError("this FLOPsMeter is counting already; a meter is entered once")
        if self._result is not None:
            raise RuntimeError("this FLOPsMeter has counted already; make a new one")
        with ExitStack() as stack:
            stack.callback(self._attribution.stop)
            self._attribution.start()
            stack.enter_context(Threads(self._attribution).joining())
            stack.enter_context(run_eagerly())
            stack.enter_context(backward_in_place())
            stack.enter_context(CountingMode(self._attribution))
            self._active = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._active is None:
            raise RuntimeError("this FLOPsMeter is left without having been entered")
        try:
            self._active.__exit__(kind, error, traceback)
        finally:
            self._active = None
            self._result = self._read()
            self._attribution = Attribution()  # lets go of the modules

    def _read(self) -> Tally:
        own = self._attribution
        return tally(own.threads, own.paths.names(), own.unseen)

    @property
    def _tally(self) -> Tally:
        if self._result is not None:
            return self._result
        if self._active is None:
            raise RuntimeError("this FLOPsMeter has not counted anything: use it in a with block")
        return self._read()

    @property
    def active(self) -> bool:
        """Whether it is counting now."""
        return self._active is not None

    @property
    def count(self) -> FLOPsCount:
        """Everything that ran."""
        return self._tally.count

    @property
    def components(self) -> Mapping[str, FLOPsCount]:
        """Cost by module path, a tree: what a module costs contains what its children cost."""
        return self._tally.components

    @property
    def operations(self) -> Mapping[str, FLOPsCount]:
        """Cost by operator, e.g. `aten.addmm`; its bias is `aten.addmm:bias`."""
        return self._tally.operations

    @property
    def uncounted(self) -> Mapping[str, int]:
        """Calls of arithmetic operators without a cost, and threads that ran where nobody counts.

        Anything here makes `count` a lower bound.
        """
        return self._tally.uncounted

    @property
    def unseen(self) -> tuple[str, ...]:
        """Names of other libraries' threads that ran meanwhile, where nobody counts.

        They are those of a progress bar, a logger or a server more likely than a model's, so a gate
        lets them pass. They are known at the end of the block.
        """
        return self._tally.unseen

    @property
    def recomputed(self) -> int:
        """The part of `count.backward` that repeats forward work (activation checkpointing)."""
        return self._tally.recomputed

    def measurement(self) -> Measurement:
        """All of the above as plain data."""
        result = self._tally
        return Measurement(
            count=result.count,
            components=result.components,
            source="meter",
            rules="executed",
            uncounted=result.uncounted,
            unseen=result.unseen,
            operations=result.operations,
            recomputed=result.recomputed,
        )

    def table(self) -> str:
        """Cost by component and phase, as text."""
        return self._tally.table()

    def __str__(self) -> str:
        return self.table()


def count_flops(
    model: torch.nn.Module,
    *inputs: Any,
    optimizer: str | Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer] = "adamw",
    loss: Callable[[Any], torch.Tensor] | None = None,
    training: bool = True,
    **kwargs: Any,
) -> Measurement:
    """Count a training step of a model without running it: no weights are read or allocated.

    Everything is computed on fake tensors, which have shapes but no values, so a model of any size
    is counted on any machine. Build a model that does not fit into memory under
    `with torch.device("meta"):`; the model is left as it was.

    Args:
        model: The model, on any device, `meta` included.
        *inputs: Its positional inputs: tensors on any device, or anything else.
        optimizer: `"sgd"`, `"adam"`, `"adamw"` with PyTorch's defaults, `"none"`, or a function
            from the parameters to an optimizer.
        loss: From the model's output to a scalar. By default the output's `loss` if it has one,
            else the sum of its first floating-point tensor (`logits` first).
        training: Whether the model is in training mode; `False` counts the forward alone.
        **kwargs: The model's keyword inputs.

    Returns:
        The count by phase, component and operator.

    Raises:
        DataDependentError: The model's code depends on the values of a tensor, which a fake tensor
            does not have; the message names the operator.
        ValueError: The optimizer's name is unknown, or the output holds nothing to sum.
    """
    with FLOPsMeter() as meter:
        fake_training_step(model, inputs, kwargs, optimizer, loss, training=training)
    return meter.measurement()
