"""`pytest-flops`, also `python -m pytest_flops`: budgets and reports without pytest.

Exit codes: 0 all is well, 1 something costs more than allowed, 2 a file or an argument is unusable.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flops import __version__
from pytest_flops.budgets.errors import BudgetError
from pytest_flops.commands import reports
from pytest_flops.commands.count import count
from pytest_flops.commands.explain import explain
from pytest_flops.commands.init import init
from pytest_flops.commands.targets import file_of
from pytest_flops.counting.measure import WorkloadError
from pytest_flops.counting.roofline.device import DeviceError
from pytest_flops.counting.roofline.roofline import FasterThanTheBoundError
from pytest_flops.reports.errors import ReportError
from pytest_flops.scaling.errors import ScalingError
from pytest_flops.session.project import in_project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_flops.session.session import Session

OK, UNUSABLE = 0, 2
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
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may come next; no run pays for it
        with suppress(ImportError):  # of the extra `completion`
            import_module("argcomplete").autocomplete(parser)
    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # of Windows, whose files and pipes lack characters
            stream.reconfigure(errors="backslashreplace")
    try:
        code: int = given.run(given)
    except _UNUSABLE as error:
        print(f"pytest-flops: error: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        sys.stderr.close()
        return UNUSABLE
    return code


def _counting(
    command: Callable[[Session, argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """A command that counts, in the project of its target."""

    def run(given: argparse.Namespace) -> int:
        code = in_project(lambda session: command(session, given), file_of(given.target))
        return UNUSABLE if code is None else code

    return run


def _schema(given: argparse.Namespace) -> int:
    folder = {"report": "reports", "budgets": "budgets"}[given.of]
    path = Path(__file__).parent / folder / "schema.json"
    print(path.read_text(encoding="utf-8"), end="")
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pytest-flops", description=__doc__.partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"pytest-flops {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str, *examples: str) -> Any:
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog="\n".join(
                ["examples:", *(f"  pytest-flops {name} {each}" for each in examples)]
            ),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        return command

    command = add(
        "count",
        _counting(count),
        "print what a step costs and where, and how fast it can be",
        "models.gpt:build",
        "models.gpt:build --batch-size 8 --seq-len 512 --config 'layers: 12' --over 5",
        "budgets/gpt.yaml::gpt --metrics bytes,peak_memory",
        "budgets/gpt.yaml --device h100-sxm --step-time 210ms",
    )
    command.add_argument("target", metavar="TARGET", help="package.module:builder, or FILE::BUDGET")
    _add_workload(command)
    command.add_argument(
        "--metrics", metavar="NAMES", default="", help="others than FLOPs, with commas, or all"
    )
    command.add_argument(
        "--macs", action="store_true", help="the forward's multiply-adds, as published tables have"
    )
    command.add_argument("--device", metavar="NAME", help="the roofline on it, e.g. h100-sxm")
    command.add_argument(
        "--step-time", metavar="TIME", help="what you measured, e.g. 210ms; tells the MFU"
    )
    command.add_argument("--tf32", action="store_true", help="float32 products may run in TF32")
    command.add_argument("--depth", metavar="N", type=int, help="levels of components to print")
    command.add_argument(
        "--over", metavar="PCT", type=float, default=0, help="leave out what is below it"
    )
    command.add_argument("--json", action="store_true", help="as data")

    command = add(
        "init",
        _counting(init),
        "write a budget file, with limits above what is counted today",
        "models.gpt:build --batch-size 8 --seq-len 512",
        "models.gpt:build --config 'layers: 12' --margin 2% --name gpt-12",
    )
    command.add_argument("target", metavar="TARGET", help="package.module:builder")
    _add_workload(command)
    command.add_argument("--name", help="of the budget, the builder's unless given")
    command.add_argument(
        "--margin", metavar="PCT", default="5%", help="between count and limit; 5%% unless given"
    )
    command.add_argument(
        "-o", "--output", metavar="FILE", help="budgets/NAME.yaml of the rootdir unless given"
    )

    command = add(
        "explain",
        _counting(explain),
        "print a workload's cost as a formula",
        "budgets/gpt.yaml::gpt",
        "budgets/gpt.yaml::gpt --over seq_len,layers",
    )
    command.add_argument("target", metavar="FILE::BUDGET")
    command.add_argument(
        "--over",
        metavar="DIMENSIONS",
        help="batch_size,seq_len unless given; or keys of config, mesh",
    )
    command.add_argument("--json", action="store_true", help="as data")

    _add_reading(add)
    command = add("schema", _schema, "print a JSON Schema", "budgets > budgets.schema.json")
    command.add_argument("of", choices=("report", "budgets"))
    return parser


def _add_reading(add: Callable[..., Any]) -> None:
    """The commands that read reports."""
    command = add(
        "show",
        reports.show,
        "print a report as its run did",
        "reports/flops.json",
        "reports/flops.json -v",
    )
    command.add_argument("report", help="flops.json")
    command.add_argument("-v", "--verbose", action="count", default=0, help="components, too")

    command = add(
        "compare",
        reports.compare,
        "hold a report against the base's",
        "base/flops.json reports/flops.json",
        "base/flops.json reports/flops.json --tolerance 1% --format markdown",
    )
    command.add_argument("base", help="flops.json of the base")
    command.add_argument("head", help="flops.json to judge")
    command.add_argument("--tolerance", metavar="PCT", help="replaces every budget's own")
    command.add_argument("--format", choices=("text", "markdown", "json", "github"), default="text")

    command = add(
        "merge",
        reports.merge,
        "join the reports of CI shards",
        "shard-1/flops.json shard-2/flops.json --shards 2 -o reports",
    )
    command.add_argument("reports", nargs="+", metavar="REPORT", help="flops.json of a shard")
    command.add_argument("-o", "--output", metavar="DIR", default="reports")
    command.add_argument("--shards", metavar="N", type=int, help="how many reports there must be")

    command = add(
        "html",
        reports.html,
        "render a report as one HTML page, or many as the page of their trend",
        "reports/flops.json",
        "reports/flops.json --base base/flops.json -o page.html",
        "flops-history -o trend.html",
    )
    command.add_argument(
        "reports", nargs="+", metavar="REPORT", help="flops.json; several, or folders: their trend"
    )
    _add_output(command)
    command.add_argument("--base", metavar="FILE", help="a report to compare with")
    command.add_argument("--tolerance", metavar="PCT", help="replaces every budget's own")
    command.add_argument("--history", metavar="DIR", help="a folder of past reports")

    command = add(
        "trace",
        reports.trace,
        "write a report as trace events, for Perfetto or speedscope",
        "reports/flops.json",
        "reports/flops.json -o step.trace.json",
    )
    _add_page(command)

    command = add(
        "badge",
        reports.badge,
        "write a report as a badge for a README",
        "reports/flops.json",
        "reports/flops.json -o public/flops.badge.json",
    )
    _add_page(command)


def _add_page(command: argparse.ArgumentParser) -> None:
    """What is read, and where what is made of it is written."""
    command.add_argument("report", help="flops.json")
    _add_output(command)


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("-o", "--output", metavar="FILE", help="beside the report unless given")


def _add_workload(command: argparse.ArgumentParser) -> None:
    """What a builder is called with, and the optimizer of the step."""
    command.add_argument("--batch-size", metavar="N", type=int, help="given to the builder")
    command.add_argument("--seq-len", metavar="N", type=int, help="given to the builder")
    command.add_argument(
        "--config",
        metavar="YAML",
        help="other keywords of the builder, e.g. 'layers: 2, width: 64'",
    )
    command.add_argument("--optimizer", metavar="NAME", help="one of torch.optim, or none")
