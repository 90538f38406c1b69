"""What a builder counts by itself, joined with the other metrics of the model that it builds."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from pytest_flops import FLOPsCount
from pytest_flops.counting.builder import Accepted, Builder
from pytest_flops.counting.measure import WorkloadError, measure_workload
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.workload import Workload


class Twice(nn.Module):
    """A product through a call, and one that uses its layer without a call."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.used = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.matmul(self.called(x), self.used.weight)


def measured(components: dict[str, int], **found: Any) -> Measurement:
    def measure(_: Workload) -> Measurement:
        counts = {path: FLOPsCount(flops, 0, 0) for path, flops in components.items()}
        return Measurement(
            FLOPsCount(64, 0, 0), counts, source="analytic", rules="executed", **found
        )

    builder = Builder(lambda: (Twice(), torch.ones(2, 4)), measure=measure)
    workload = Workload("twice", optimizer="none")
    return measure_workload(workload, {"twice": builder}, metrics=["bytes"])


def test_what_either_of_them_did_not_count_is_told() -> None:
    found = measured({"called": 32, "used": 32}, uncounted={"my.op": 1})
    assert found.count == FLOPsCount(64, 0, 0)
    assert found.uncounted == {"my.op": 1}
    assert found.not_called == ("used",)
    # Reads 2 x 4 and 4 x 4, writes 2 x 4: elements of 4 bytes.
    assert found.of("bytes forward", "called") == 4 * (8 + 16 + 8)


def test_components_that_the_model_does_not_have_are_an_error() -> None:
    with pytest.raises(WorkloadError, match=r"does not have \(ghost\)"):
        measured({"ghost": 64})


def test_an_accepted_object_has_the_metrics_of_its_builders_model() -> None:
    def accepts(found: object) -> Accepted | None:
        own = Workload("twice", optimizer="none")
        return (
            Accepted(own, lambda _: Measurement(FLOPsCount(64, 0, 0), {}, "analytic", "executed"))
            if found == 2
            else None
        )

    twice = Builder(lambda: (Twice(), torch.ones(2, 4)), accepts=accepts)
    builders = {"twice": twice, "two": Builder(lambda: 2)}
    workload = Workload("two", optimizer="none")
    found = measure_workload(workload, builders, metrics=["parameters"])
    assert found.of("parameters total") == 2 * 4 * 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (partial(torch.set_default_dtype, torch.bfloat16), torch.get_default_dtype),
        (partial(torch.set_default_device, "meta"), torch.get_default_device),
        (partial(torch.set_grad_enabled, mode=False), torch.is_grad_enabled),
        (partial(torch.manual_seed, 7), torch.initial_seed),
    ],
    ids=["dtype", "device", "grad", "seed"],
)
@pytest.mark.parametrize("step", [False, True], ids=["model", "step"])
def test_what_a_builder_sets_is_not_for_the_next(
    change: Callable[[], object], told: Callable[[], object], step: bool
) -> None:
    def build() -> object:
        model, x = Twice(), torch.ones(2, 4)
        change()
        return (lambda: model(x)) if step else (model, x)

    before, random = told(), torch.get_rng_state()
    measure_workload(Workload("own", optimizer="none", step=step), {"own": build})
    assert told() == before
    assert torch.get_rng_state().equal(random)
