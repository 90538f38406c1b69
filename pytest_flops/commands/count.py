"""`pytest-flops count`: what a step costs and where, and how fast a device can be at best."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.units import format_amount, format_flops, parse_amount
from pytest_flops.commands.targets import measured, workload_of
from pytest_flops.counting.metric import MACS, PARAMETERS, ROOFLINE, TIME, TOTAL
from pytest_flops.counting.registration import names_in
from pytest_flops.counting.roofline.device import DeviceError, device
from pytest_flops.counting.roofline.roofline import roofline

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.workload import Workload
    from pytest_flops.session.session import Session


def count(session: Session, given: argparse.Namespace) -> int:
    """Print the table of a target, or its roofline."""
    if given.device is not None:
        return _on_device(session, given)
    if given.step_time is not None or given.tf32:
        raise DeviceError("--step-time and --tf32 say something of a device; name it with --device")
    try:
        metrics = names_in(given.metrics)
    except ValueError as error:
        raise BudgetError(f"--metrics: {error}") from error
    workload = workload_of(session, given)
    builder = session.extensions.builder(workload.model)
    # One that counts by itself has the parameters only of a model that it would have to build.
    beside = () if given.json or (builder and builder.measure) else (PARAMETERS.name,)
    if given.macs:
        beside = (*beside, MACS.name)
    found = measured(session, workload, [*dict.fromkeys((*metrics, *beside))])
    if given.json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        print(found.table(given.depth, given.over), *_per_token(found, workload), sep="\n")
    return 0


def _per_token(found: Measurement, workload: Workload) -> Iterator[str]:
    """The step's cost by what it is given, where the workload says how much that is."""
    for what, number in workload.inputs.items():
        yield f"per {what}: {format_flops(found.count.total // number)}"
        if what == "sample" and (costs := found.metrics.get(MACS.name)):
            macs = format_amount(costs.of(MACS, TOTAL) // number, MACS.unit)
            yield f"forward MACs per sample: {macs}"
    by_rule = 6 * found.of(f"{PARAMETERS.name} total") * workload.inputs.get("token", 0)
    if by_rule and found.count.backward:
        counted = found.count.forward + found.count.backward
        yield (
            f"6 x parameters x tokens: {format_flops(by_rule)}; forward and backward cost "
            f"{counted / by_rule:.3f} times that"
        )


def _on_device(session: Session, given: argparse.Namespace) -> int:
    from pytest_flops.reports.pages.roofline import roofline_text

    at = device(given.device)
    took = None if given.step_time is None else _step_time(given.step_time)
    # The bound is of what runs, and so are the FLOPs beside it.
    workload = replace(workload_of(session, given), rules="executed")
    measurement = measured(session, workload, [ROOFLINE.name])
    found = roofline(measurement, at, tf32=given.tf32)
    record = found.to_dict()
    if took is not None:
        record |= {"step_seconds": took / 1e9, "mfu": found.mfu(took / 1e9)}
    asked = {"levels": given.depth, "over": given.over, "nanoseconds": took}
    text = roofline_text(found, measurement, **asked)
    print(json.dumps(record, indent=2) if given.json else text)
    return 0


def _step_time(text: str) -> int:
    """The nanoseconds that a time says; it must have a unit, and be above 0."""
    if not text.strip()[-1:].isalpha():
        raise BudgetError(
            f"--step-time {text} has no unit; write {text}ms, or another of s, ms, us"
        )
    time = parse_amount(text, TIME)
    if time == 0:
        raise BudgetError(f"--step-time {text} is no time that a step takes")
    return time
