"""`pytest-flops`, also `python -m pytest_flops`: budgets and reports without pytest.

Exit codes: 0 all is well, 1 something costs more than allowed, 2 a file or an argument is unusable.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops import __version__, hookspecs
from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.units import parse_amount, parse_percent
from pytest_flops.counting.measure import WorkloadError, measure_workload
from pytest_flops.counting.metric import ROOFLINE, TIME
from pytest_flops.counting.registration import names_in, register_installed
from pytest_flops.counting.roofline.device import DeviceError, device
from pytest_flops.counting.roofline.roofline import FasterThanTheBoundError, roofline
from pytest_flops.counting.table import table
from pytest_flops.counting.workload import Workload
from pytest_flops.reports.comparison.comparison import compare
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.report import load_base, load_history, load_report
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.session.extensions import Extensions, importable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from fractions import Fraction

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.reports.report import Report

OK, REGRESSED, UNUSABLE = 0, 1, 2
_UNUSABLE = (
    BudgetError,
    DeviceError,
    FasterThanTheBoundError,
    ReportError,
    ScalingError,
    WorkloadError,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = _parser().parse_args(arguments)
    try:
        code: int = given.run(given)
    except _UNUSABLE as error:
        print(f"pytest-flops: error: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        sys.stderr.close()
        return UNUSABLE
    return code


def _compare(given: argparse.Namespace) -> int:
    from pytest_flops.reports.pages.comparison import FORMATS
    from pytest_flops.reports.pages.summary import headline

    tolerance = _percent(given.tolerance)
    base, head = load_base(given.base), load_report(given.head)
    if not head.held:
        raise ReportError(f"{given.head} measured nothing, so there is nothing to compare.")
    comparison = compare(base, head, tolerance=tolerance)
    print(FORMATS[given.format](comparison), end="")
    if not head.passed:
        print(f"pytest-flops: {given.head} is red by itself: {headline(head)}", file=sys.stderr)
    return OK if head.passed and not comparison.regressed else REGRESSED


def _merge(given: argparse.Namespace) -> int:
    from pytest_flops.reports.merge import merge
    from pytest_flops.reports.write import write_reports

    if given.shards not in (None, len(given.reports)):
        raise ReportError(
            f"{len(given.reports)} of {given.shards} shards have a report here: "
            f"{', '.join(given.reports)}."
        )
    report = merge(load_report(path) for path in given.reports)
    _refuse_to_overwrite(Path(given.output) / "flops.json", given.reports)
    print(*write_reports(report, given.output), sep="\n")
    _tell_why_red(report)
    return OK if report.passed else REGRESSED


def _html(given: argparse.Namespace) -> int:
    from pytest_flops.reports.comparison.wording import judge_regressions
    from pytest_flops.reports.pages.html import render_html
    from pytest_flops.reports.write import write_text

    report, comparison = load_report(given.report), None
    if given.base:
        tolerance = _percent(given.tolerance)
        comparison = compare(load_report(given.base), report, tolerance=tolerance)
        report = judge_regressions(report, comparison)
    history = load_history(given.history) if given.history else ()
    output = Path(given.output or Path(given.report).with_suffix(".html"))
    _refuse_to_overwrite(output, [given.report, given.base or given.report])
    print(write_text(output, render_html(report, comparison=comparison, history=history)))
    _tell_why_red(report)
    return OK


def _count(given: argparse.Namespace) -> int:
    if given.device is not None:
        return _count_on_device(given)
    if given.step_time is not None or given.tf32:
        raise DeviceError("--step-time and --tf32 say something of a device; name it with --device")
    try:
        metrics = names_in(given.metrics)
    except ValueError as error:
        raise BudgetError(f"--metrics: {error}") from error
    measurement = _measured(_named(given.target), metrics)
    if given.json:
        print(json.dumps(measurement.to_dict(), indent=2))
    else:
        print(table(measurement, given.depth))
    return OK


def _count_on_device(given: argparse.Namespace) -> int:
    from pytest_flops.reports.pages.roofline import roofline_text

    at = device(given.device)
    took = None if given.step_time is None else _step_time(given.step_time)
    # The bound is of what runs, and so are the FLOPs beside it.
    workload = replace(_named(given.target), rules="executed")
    measurement = _measured(workload, [ROOFLINE.name])
    found = roofline(measurement, at, tf32=given.tf32)
    record = found.to_dict()
    if took is not None:
        record |= {"step_seconds": took / 1e9, "mfu": found.mfu(took / 1e9)}
    text = roofline_text(found, measurement, levels=given.depth, nanoseconds=took)
    print(json.dumps(record, indent=2) if given.json else text)
    return OK


def _named(target: str) -> Workload:
    """The workload of a budget or of a builder."""
    is_budget = "::" in target or Path(target).suffix in (".yaml", ".yml")
    return _workload_of(target) if is_budget else Workload(target)


def _measured(workload: Workload, metrics: Sequence[str]) -> Measurement:
    Extensions(hookspecs.installed()).register_costs()
    with importable(Path.cwd()):
        # Who asks for the compiler's metrics here asks to compile.
        return measure_workload(
            replace(workload, compile=workload.compile or True), metrics=metrics
        )


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


def _explain(given: argparse.Namespace) -> int:
    from pytest_flops.scaling.workloads import explain_workload

    register_installed()
    workload = _workload_of(given.budget)
    Extensions(hookspecs.installed()).register_costs()
    over = given.over.split(",") if given.over else _sized(workload)
    with importable(Path.cwd()):
        explanation = explain_workload(workload, over)
    print(json.dumps(explanation.to_dict(), indent=2) if given.json else explanation.to_text())
    return OK


def _schema(given: argparse.Namespace) -> int:
    folder = {"report": "reports", "budgets": "budgets"}[given.of]
    path = Path(__file__).parent / folder / "schema.json"
    print(path.read_text(encoding="utf-8"), end="")
    return OK


def _tell_why_red(report: Report) -> None:
    from pytest_flops.reports.pages.terminal import terminal_lines

    if not report.passed:
        print(
            *(text for text, _ in terminal_lines(report, verbosity=-1)), sep="\n", file=sys.stderr
        )


def _refuse_to_overwrite(output: Path, inputs: Sequence[str]) -> None:
    for name in inputs:
        if output.resolve() == Path(name).resolve():
            raise ReportError(f"{output} is one of the reports given; name another --output.")


def _percent(text: str | None) -> Fraction | None:
    return parse_percent(text) if text else None


def _workload_of(budget: str) -> Workload:
    from pytest_flops.budgets.files.loader import load_budgets

    file, separator, name = budget.partition("::")
    budgets = load_budgets(file)
    if not separator and len(budgets) == 1:
        (name,) = budgets
    if name not in budgets:
        raise BudgetError(f"name one budget as {file}::NAME; it has {', '.join(budgets)}")
    workload = budgets[name].workload
    if workload is None:
        raise BudgetError(f"the budget {name!r} has no workload to explain")
    return workload


def _sized(workload: Workload) -> list[str]:
    sizes = {"batch_size": workload.batch_size, "seq_len": workload.seq_len}
    found = [dimension for dimension, size in sizes.items() if size is not None]
    if not found:
        raise BudgetError("the workload has no batch_size and no seq_len; name others with --over")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pytest-flops", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"pytest-flops {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("compare", help="hold a report against the base's")
    command.add_argument("base", help="flops.json of the base")
    command.add_argument("head", help="flops.json to judge")
    command.add_argument("--tolerance", metavar="PCT", help="replaces every budget's own")
    command.add_argument("--format", choices=("text", "markdown", "json", "github"), default="text")
    command.set_defaults(run=_compare)

    command = commands.add_parser("merge", help="join the reports of CI shards")
    command.add_argument("reports", nargs="+", metavar="REPORT", help="flops.json of a shard")
    command.add_argument("-o", "--output", metavar="DIR", default="reports")
    command.add_argument("--shards", metavar="N", type=int, help="how many reports there must be")
    command.set_defaults(run=_merge)

    command = commands.add_parser("html", help="render a report as one HTML page")
    command.add_argument("report", help="flops.json")
    command.add_argument("-o", "--output", metavar="FILE", help="beside the report unless given")
    command.add_argument("--base", metavar="FILE", help="a report to compare with")
    command.add_argument("--tolerance", metavar="PCT", help="replaces every budget's own")
    command.add_argument("--history", metavar="DIR", help="a folder of past reports")
    command.set_defaults(run=_html)

    command = commands.add_parser("count", help="print what a step costs, and how fast it can be")
    command.add_argument("target", metavar="TARGET", help="FILE::BUDGET, or package.module:builder")
    command.add_argument(
        "--metrics", metavar="NAMES", default="", help="others than FLOPs, with commas, or all"
    )
    command.add_argument("--device", metavar="NAME", help="the roofline on it, e.g. h100-sxm")
    command.add_argument(
        "--step-time", metavar="TIME", help="what you measured, e.g. 210ms; tells the MFU"
    )
    command.add_argument("--tf32", action="store_true", help="float32 products may run in TF32")
    command.add_argument("--depth", metavar="N", type=int, help="levels of components to print")
    command.add_argument("--json", action="store_true", help="as data")
    command.set_defaults(run=_count)

    command = commands.add_parser("explain", help="print a workload's cost as a formula")
    command.add_argument("budget", metavar="FILE::BUDGET")
    command.add_argument(
        "--over", metavar="DIMENSIONS", help="batch_size,seq_len unless given; or keys of config"
    )
    command.add_argument("--json", action="store_true", help="as data")
    command.set_defaults(run=_explain)

    command = commands.add_parser("schema", help="print a JSON Schema")
    command.add_argument("of", choices=("report", "budgets"))
    command.set_defaults(run=_schema)
    return parser
