"""`pytest-flops init`: a budget file, with limits a margin above what is counted today."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.units import format_flops, format_percent, parse_percent, rounded_up
from pytest_flops.commands.targets import file_of, measured, workload_of
from pytest_flops.counting.components import OUTSIDE_PATH, outermost
from pytest_flops.files import write_atomically
from pytest_flops.options import DEFAULT_BUDGETS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from pytest_flops.counting.measurement import Measurement
    from pytest_flops.counting.workload import Workload
    from pytest_flops.session.session import Session

_WORTH_A_LIMIT = Fraction(1, 20)

_HEAD = """\
# What a training step may cost. Hold it: pytest {folder}
# Proposed by `pytest-flops init {target}`: {margin} above what was counted.
# Limits of other costs stand beside these: bytes, peak_memory, launches, syncs, parameters.
version: 1
budgets:
  {name}:
"""


def init(session: Session, given: argparse.Namespace) -> int:
    """Write the file, and say what else belongs to it.

    Raises:
        BudgetError: The target is a budget already, costs something that nobody knows, or the file
            is there.
    """
    if file_of(given.target) is not None:
        raise BudgetError(f"{given.target} is a budget already; name a builder")
    margin, workload = parse_percent(given.margin), workload_of(session, given)
    name = given.name or _name_of(workload.model)
    folder = session.settings.rootdir / DEFAULT_BUDGETS
    path = Path(given.output) if given.output else folder / f"{name.replace('-', '_')}.yaml"
    if path.exists():
        raise BudgetError(f"{path} is there already and was left as it is; name another --output")
    found = measured(session, workload)
    if found.uncounted:
        what = ", ".join(found.uncounted)
        raise BudgetError(
            f"it costs more than was counted, by what nobody knows the cost of: {what}"
        )
    head = _HEAD.format(
        folder=_shown(path.parent),
        target=given.target,
        margin=format_percent(margin),
        name=json.dumps(name),
    )
    text = "\n".join((head + "    workload:", *_workload(workload), *_limits(found, margin), ""))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise BudgetError(f"{path} cannot be written: {error.strerror}") from error
    print(*_told(session, path, found, margin), sep="\n")
    return 0


def _name_of(model: str) -> str:
    """Of a builder's budget: `small-gpt` of `nets:build_small_gpt`, `nets` of `nets:build`."""
    *_, module, own = ["", *re.split("[:.]", model)]
    return (re.sub("^(build|make)(_|$)", "", own) or module).replace("_", "-")


def _workload(workload: Workload) -> Iterator[str]:
    yield f"      model: {json.dumps(workload.model)}"
    if workload.config:
        yield f"      config: {json.dumps(workload.config)}"
    for name in ("batch_size", "seq_len"):
        if (size := getattr(workload, name)) is not None:
            yield f"      {name}: {size}"
    yield f"      optimizer: {json.dumps(workload.optimizer)}"


def _limits(found: Measurement, margin: Fraction) -> Iterator[str]:
    yield "    limits:"
    for phase, flops in found.count.to_dict().items():
        if flops:
            yield f"      {phase}: {_limit(flops, margin)}  # counted {flops:,}"
    parts = [
        path
        for path in outermost(found.components)
        if path != OUTSIDE_PATH and path not in found.not_called
        if found.of("total", path) >= _WORTH_A_LIMIT * found.count.total
    ]
    if parts:
        yield "      components:"
    for path in parts:
        flops = found.of("total", path)
        yield f"        {json.dumps(path)}: {{total: {_limit(flops, margin)}}}  # counted {flops:,}"


def _limit(flops: int, margin: Fraction) -> str:
    """The margin above a count, rounded up to three digits."""
    return format_flops(rounded_up(ceil(flops * (1 + margin))))


def _told(session: Session, path: Path, found: Measurement, margin: Fraction) -> Iterator[str]:
    file, folder = _shown(path), _shown(path.parent)
    total = format_flops(found.count.total)
    yield f"wrote {file}: a step costs {total}, and may cost {format_percent(margin)} more"
    yield ""
    yield f"hold it:              pytest {folder}"
    yield f"record today's count: pytest {folder} --flops-update"
    yield f"commit:               {file}, and the {path.stem}.lock.json beside it once recorded"
    yield ""
    yield "in the ini file, so that `pytest` alone holds it, and does not run without the plugin:"
    in_toml = session.settings.ini is not None and session.settings.ini.suffix == ".toml"
    yield "  [tool.pytest.ini_options]" if in_toml else "  [pytest]"
    for name, value in (
        ("addopts", "--strict-markers"),
        ("required_plugins", "pytest-flops"),
        ("testpaths", " ".join(dict.fromkeys([*session.settings.testpaths, folder]))),
    ):
        yield f"  {name} = {json.dumps(value) if in_toml else value}"


def _shown(path: Path) -> str:
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()
