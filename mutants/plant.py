"""Plant regressions, tricks and mistakes; the gate must catch each.

    python mutants/plant.py [--write docs/mutants.md] [--only WORD]

A *mutant* is one small edit in a copy of this project, in which `pytest budgets` then runs; it must
go red. A *step* is a regression that FLOPs do not show, in a small project that has recorded its
other metrics; it must go red by those that it is known to move. A *trick* weakens the gate as a
pull request may, and runs against the base's report; it must go red, or be told. A *mistake* is
made in the small project of a user. What gets through is a hole in the gate, and this command
fails. An edit whose text is no longer found is out of date, and this command fails as well.
`regressions.py` and `mistakes.py` hold what is planted.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest
import torch._dynamo  # noqa: F401 - what each run would import for two seconds
from mistakes import BASE, COST, HIGH_LIMIT, LOW_LIMIT, MISTAKES, PROJECTS, Mistake
from regressions import (
    GOOD,
    MUTANTS,
    PLANTED,
    STEP_PROJECT,
    TRICKS,
    Edit,
    Mutant,
    Trick,
)

ROOT = Path(__file__).resolve().parents[1]
AT_ONCE = 2
MISSED = "**missed**"

# What a run says, the most telling first.
SAID = [
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^(?:pytest-flops: )?(?:error|ERROR): (.+)",
        r"^(?:FAILED|ERROR) \S+ - (.+)",
        r"^ +(allows more: .+|the workload changed: .+)",
        r"^ +(\S+: (?:gone|new|grew, as newly recorded))$",
        r"^(not measured: .+|Red: .+)",
        r"^ *(.+ counted by nobody|the limit of .+ holds nothing.+)",
        r"^(.+ over, as expected) ",
        r"(PytestUnknownMarkWarning: .+)",
    )
]

WIDTH = 120
PAGE = """\
# Gates that cannot be fooled

What `make mutants` plants, one thing at a time, and what the gate said. The command
fails if anything gets through that is neither red nor told.

## Regressions

In this project's own model, training step, counting rules and budgets, with the items of its gate
that went red. Its records alone catch them; no base is compared with.

| planted regression | in | caught by |
|---|---|---|
{}

## Regressions that FLOPs do not show

In the training step of a small GPT, and in that of one rank of a fully sharded model, with the
metrics that went red by more than a tolerance of 3 %. All metrics are recorded, by
`--flops-update --flops-metrics=all`.

| planted regression | caught by |
|---|---|
{}

## Tricks

What a pull request may do to the gate itself, held against the report of its base. `0` is the exit
code of a run that is green and tells the reviewer, under the comparison, what is allowed now.

| trick | exit code, and what is said |
|---|---|
{}

## Mistakes of use

Ordinary mistakes, each made in a small project when its model gets four times dearer: once where
only the base can tell, since the limit is far too high, and once without a base, where the limit is
passed.

| mistake | against the base | without a base |
|---|---|---|
{}
"""

Row = tuple[str, ...]
Step = tuple[str, str, str, tuple[str, ...]]
"""The name of a regression, its file, the step that has it, and the metrics that must show it."""


@dataclass(frozen=True)
class Run:
    """How a run ended, and what it wrote."""

    code: int
    output: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", metavar="FILE", help="also write the tables as Markdown")
    parser.add_argument("--only", metavar="WORD", default="", help="what has it in its name")
    given = parser.parse_args()
    with workers() as others:  # a child of this process would have the package from here
        steps = others.submit(planted_steps).result()
    steps = [each for each in steps if given.only in each[0]]
    with tempfile.TemporaryDirectory() as folder, workers() as pool:
        project = copy_of_this_project(Path(folder) / "project")
        mutants = [each for each in MUTANTS if given.only in each.name]
        tricks = [each for each in TRICKS if given.only in each.name]
        mistakes = [each for each in MISTAKES if given.only in each.name]
        tables = [
            [*map(told, pool.map(partial(try_mutant, project), mutants))],
            [*map(told, pool.map(try_step, steps))],
            [*map(told, pool.map(partial(try_trick, project), tricks))],
            [*map(told, pool.map(try_mistake, mistakes))],
        ]
    if given.write:
        Path(given.write).write_text(as_markdown(*tables), encoding="utf-8")
    rows = [row for table in tables for row in table]
    missed = sum(any(MISSED in cell for cell in row) for row in rows)
    print(f"\n{len(rows) - missed} of {len(rows)} caught or told")
    return 1 if missed else 0


def workers() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(AT_ONCE, mp_context=get_context("fork"))


def told(row: Row) -> Row:
    print(*row, sep=" | ", flush=True)
    return row


def copy_of_this_project(folder: Path) -> Path:
    """What the gate needs of this project, with the report that its run leaves as the base's.

    Bytecode is found good by the source's hash: an edit within the second shows.
    """
    for part in ("pytest_flops", "budgets"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    mode = PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(folder / "pytest_flops", quiet=1, invalidation_mode=mode)
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = budgets\n")
    require_green(pytest_in(folder, "--flops-report=base"))
    return folder


def try_mutant(project: Path, mutant: Mutant) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(project, Path(folder) / "copy"))
        edit(copy, [(mutant.file, mutant.old, mutant.new)], mutant.name)
        run = pytest_in(copy, "--flops-report=")
    return mutant.name, f"`{mutant.file}`", items_caught(run) or MISSED


def planted_steps() -> list[Step]:
    return [
        (name, file, repr(step), metrics)
        for file in PLANTED
        for name, (step, metrics) in runpy.run_path(str(ROOT / file))["PLANTED"].items()
    ]


def try_step(planted: Step) -> Row:
    """A regression that must move some metrics upward, against the records of the good step."""
    name, file, step, metrics = planted
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        for path, text in STEP_PROJECT.items():
            (project / path).write_text(text)
        shutil.copy(ROOT / file, project / "planted.py")
        require_green(pytest_in(project, "--flops-update", "--flops-metrics=all"))
        edit(project, [("test_step.py", GOOD, step)], name)
        run = pytest_in(project)
        (entry,) = json.loads((project / "reports/flops.json").read_text())["entries"]
    red = [each["quantity"].split() for each in entry["verdicts"] if not each["passed"]]
    caught = dict.fromkeys(metric for metric, *phase in red if phase)
    missed = run.code == 0 or not {*metrics} <= caught.keys()
    return name, MISSED if missed else ", ".join(caught)


def try_trick(project: Path, trick: Trick) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(shutil.copytree(project, Path(folder) / "copy"))
        if trick.before:
            edit(copy, trick.before, trick.name)
            require_green(pytest_in(copy, "--flops-report=base"))
        edit(copy, trick.edits, trick.name)
        run = pytest_in(copy, "--flops-report=", f"--flops-compare={BASE}")
    return trick.name, outcome(run)


def try_mistake(mistake: Mistake) -> Row:
    """Against a base, with a limit too high to help; without a base, with one that is passed."""
    against = alone = "-"
    if mistake.with_base is not False:
        against = outcome(made(mistake, HIGH_LIMIT, f"--flops-compare={BASE}"))
    if mistake.with_base is not True:
        alone = outcome(made(mistake, LOW_LIMIT))
    return mistake.name, against, alone


def made(mistake: Mistake, limit: str, *arguments: str) -> Run:
    """The run of a small project in which the mistake is made while the model gets dearer."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        write_files(project, mistake.project, limit)
        if arguments:
            (project / BASE).parent.mkdir()
            (project / BASE).write_text(base_of(mistake.project), encoding="utf-8")
        edit(project, [(COST, "1000", "4000"), *mistake.edits], mistake.name)
        for old, new in mistake.moves:
            (project / new).parent.mkdir(parents=True, exist_ok=True)
            (project / old).rename(project / new)
        run = pytest_in(project, *arguments, *mistake.arguments, **mistake.environment)
        if mistake.then:
            run = forked(partial(run_command, [*mistake.then]), project, {})
    return run


@cache
def base_of(name: str) -> str:
    """The report of a small project before any mistake is made in it."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), name, HIGH_LIMIT)
        require_green(pytest_in(Path(folder), "--flops-report=base"))
        return (Path(folder) / BASE).read_text(encoding="utf-8")


def write_files(folder: Path, name: str, limit: str) -> None:
    for file, text in PROJECTS[name].items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("LIMIT", limit), encoding="utf-8")


def edit(folder: Path, edits: Iterable[Edit], name: str) -> None:
    """Make edits; one without a new text deletes its file, without an old one writes it anew."""
    for file, old, new in edits:
        path = folder / file
        if new is None:
            path.unlink()
            continue
        text = path.read_text(encoding="utf-8")
        if old is not None and old not in text:
            raise ValueError(f"out of date: {name}: {file} has no {old!r}")
        text = new if old is None else text.replace(old, new)
        path.write_bytes(text.encode("latin-1" if "\xfb" in text else "utf-8"))


def pytest_in(folder: Path, *arguments: str, **variables: str) -> Run:
    """Run pytest in a child of this process, which has imported the libraries already."""
    return forked(partial(run_pytest, ["-p", "no:cacheprovider", *arguments]), folder, variables)


def forked(work: Callable[[], int], folder: Path, variables: Mapping[str, str]) -> Run:
    """Do something in a child of this process; its exit code, and what it wrote."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                os.chdir(folder)
                os.environ.update({"COLUMNS": "200", **variables})
                sys.path[:1] = [str(folder)]
                code = work()
                sys.stdout.flush()
            finally:
                os._exit(code)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return Run(status, output.read().decode().replace(f"{folder}/", ""))


def run_pytest(arguments: list[str]) -> int:
    return pytest.main(arguments)


def run_command(arguments: list[str]) -> int:
    from pytest_flops.cli import main

    return main(arguments)


def require_green(run: Run) -> None:
    if run.code != 0:
        raise ValueError(f"red before anything is planted:\n{run.output}")


def items_caught(run: Run) -> str | None:
    """Which items went red, or that the run was refused; a traceback of ours is no catch."""
    if run.code == 0 or "INTERNALERROR" in run.output:
        return None
    if failed := re.findall(r"^FAILED \S+::(\S+)", run.output, re.MULTILINE):
        return ", ".join(dict.fromkeys(failed))
    if re.search(r"^ERROR: ", run.output, re.MULTILINE):
        return "usage error"
    return "stale budget" if "measured by no test" in run.output else None


def outcome(run: Run) -> str:
    """The exit code and what was said."""
    output = run.output
    if "INTERNALERROR" in output or "Traceback (most recent call last)" in output:
        return f"{MISSED}: a traceback"
    said = next((found[1] for pattern in SAID if (found := pattern.search(output))), "")
    if run.code == 0 and not said:
        return MISSED
    said = " ".join(said.split())
    short = said if len(said) <= WIDTH else f"{said[:WIDTH]}..."
    return f"{run.code}: {short}".replace("|", "\\|")


def as_markdown(*tables: Sequence[Row]) -> str:
    return PAGE.format(*map(table, tables))


def table(rows: Iterable[Row]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
