"""Kill what writes files, at random moments; afterwards each must be whole, the old or the new.

    python mutants/kill.py [--times 200] [--seed N]

Three things write: `pytest --flops-update`, `pytest-flops merge` and a report. Each is done by a
child of this process, which has imported everything, and the child is killed (`kill -9`) at a
random moment: of the time before its first file is made, or of the time that its writing takes.
What the killed ones leave lying about stays where it is: in the end, an unharmed run must do its
work among it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from pytest_flops import FLOPsCount, cli
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.measurement import Measurement
from pytest_flops.reports import environment
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.fates import BudgetTest
from pytest_flops.reports.report import Report, build_report, to_json
from pytest_flops.reports.write import write_reports

REPORT = ("flops.json", "flops.html", "flops.md")
TESTS = 20
BUDGETS = "version: 1\nbudgets:\n  step: {limits: {total: 1 MFLOP}}\n"
MARKED = f"""\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(COUNT))
@pytest.mark.parametrize('n', range({TESTS}))
@pytest.mark.flops_budget(total='1 MFLOP')
def test_each(flops, n): flops.check(FLOPsCount(COUNT + n))
"""

Begin = Callable[[], object]
"""Called when the writing is about to begin."""


@dataclass(frozen=True)
class Victim:
    """Something that writes `files` below its folder.

    `prepare` writes what it reads, for the old or for the new content.
    """

    name: str
    files: tuple[str, ...]
    prepare: Callable[[int], None]
    work: Callable[[Begin], int]


class Beginning:
    """A plugin of pytest that says when the tests have run, and so the writing begins."""

    def __init__(self, begin: Begin) -> None:
        self.begin = begin

    def pytest_runtest_teardown(self, nextitem: pytest.Item | None) -> None:
        """After the last test."""
        if nextitem is None:
            self.begin()


def prepare_tests(count: int) -> None:
    Path("budgets").mkdir(exist_ok=True)
    Path("budgets/net.yaml").write_text(BUDGETS)
    Path("test_step.py").write_text(MARKED.replace("COUNT", str(count)))


def update(begin: Begin) -> int:
    return pytest.main(["-q", "-p", "no:cacheprovider", "--flops-update"], [Beginning(begin)])


def a_report(count: int, shard: str) -> Report:
    """A report of a hundred budgets."""
    names = [f"test_{shard}.py::test_{number}" for number in range(100)]
    verdict = Verdict("limit", passed=True, quantity="total", actual=count, allowed=10**6)
    measurement = Measurement(FLOPsCount(count), {}, "meter", "executed")
    return build_report(
        [Entry(name, name, (name,), (verdict,), measurement) for name in names],
        tests=[BudgetTest(name, name, None, "measured") for name in names],
    )


def prepare_shards(count: int) -> None:
    for shard in ("a", "b"):
        Path(f"{shard}.json").write_text(to_json(a_report(count, shard)))


def merge(begin: Begin) -> int:
    begin()
    return cli.main(["merge", "a.json", "b.json", "--output", "merged"])


def prepare_report(count: int) -> None:
    Path("count").write_text(str(count))


def write(begin: Begin) -> int:
    report = a_report(int(Path("count").read_text()), "a")
    begin()
    write_reports(report, "reports")
    return 0


VICTIMS = (
    Victim(
        "pytest --flops-update",
        ("budgets/net.lock.json", "test_step.lock.json", *(f"reports/{name}" for name in REPORT)),
        prepare_tests,
        update,
    ),
    Victim("pytest-flops merge", tuple(f"merged/{name}" for name in REPORT), prepare_shards, merge),
    Victim("a report", tuple(f"reports/{name}" for name in REPORT), prepare_report, write),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=200, help="how often each is killed")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    freeze_time()
    print(f"seed {given.seed}")
    print(f"{'killed':<22} {'before':>7} {'in':>7} {'after':>7}  writing, and left lying about")
    spoilt = []
    for victim in VICTIMS:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            died, wrong, left = kill_often(victim, given.times, random.Random(given.seed))
            os.chdir("/")
        spoilt += wrong
        row = f"{died['before']:>7} {died['in']:>7} {died['after']:>7}"
        print(f"{victim.name:<22} {row}  {left:,} files", flush=True)
    print(*spoilt, sep="\n")
    return 1 if spoilt else 0


def freeze_time() -> None:
    """Let two reports of one count be the same, byte for byte."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: object = None) -> Frozen:  # noqa: ARG003 - as its base
            return cls(2026, 1, 1, tzinfo=timezone.utc)

    setattr(environment, "datetime", Frozen)  # noqa: B010 - not one of its public names


def kill_often(
    victim: Victim, times: int, chance: random.Random
) -> tuple[Counter[str], list[str], int]:
    """Where each of them died, what was wrong afterwards, and how many files are left over."""
    victim.prepare(1)
    old = unharmed(victim)
    victim.prepare(2)
    new = unharmed(victim)
    assert all(old[name] != new[name] for name in victim.files)
    lives = []
    for _ in range(5):
        restore(old)
        lives.append(run(victim))
    died: Counter[str] = Counter()
    wrong = []
    for number in range(times):
        restore(old)
        before = leftovers(victim)
        moment = chance.choice([0, 1, 1])  # the beginning, or the first file
        span = median(life[moment + 1] - life[moment] for life in lives)
        run(victim, moment, chance.uniform(0, 1.1 * span))
        found = contents(victim.files)
        changed = [name for name in victim.files if found[name] != old[name]]
        wrong += [
            f"{victim.name}: kill {number} left {name} neither old nor new"
            for name in changed
            if found[name] != new[name]
        ]
        untouched = not changed and leftovers(victim) == before
        whole = len(changed) == len(victim.files)
        died["before" if untouched else "after" if whole else "in"] += 1
    left = leftovers(victim)
    restore(old)
    if unharmed(victim) != new:
        wrong.append(f"{victim.name}: an unharmed run among what was left did something else")
    return died, wrong, len(left)


def unharmed(victim: Victim) -> dict[str, bytes | None]:
    run(victim)
    return contents(victim.files)


def contents(files: Iterable[str]) -> dict[str, bytes | None]:
    paths = {name: Path(name) for name in files}
    return {name: path.read_bytes() if path.exists() else None for name, path in paths.items()}


def restore(files: dict[str, bytes | None]) -> None:
    for name, content in files.items():
        assert content is not None
        Path(name).write_bytes(content)


def leftovers(victim: Victim) -> set[str]:
    """Temporary files beside those that are written."""
    folders = {Path(name).parent for name in victim.files}
    return {path.name for folder in folders for path in folder.glob(".*.*")}


def run(victim: Victim, moment: int | None = None, delay: float = 0) -> list[float]:
    """Do the work in a child, which is killed `delay` seconds after a moment of its life.

    The moments are the beginning, its first file, and its last file in place. Returns when those
    were that it lived to.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            code = victim.work(partial(announce, writer, len(victim.files)))
        finally:
            os._exit(code)
    os.close(writer)
    moments = []
    while os.read(reader, 1):
        moments.append(time.perf_counter())
        if len(moments) - 1 == moment:
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            break
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != 0 and (moment is None or status != -signal.SIGKILL):
        raise SystemExit(f"{victim.name} ended with {status}")
    return moments


def announce(pipe: int, files: int) -> None:
    """Tell that the writing begins; and then of its first file, and of its last one in place."""
    os.write(pipe, b".")
    made: list[Any] = []
    placed: list[Any] = []
    create, replace = os.open, os.replace

    def creating(path: Any, flags: int, *arguments: Any, **keywords: Any) -> int:
        if flags & os.O_EXCL and not made:
            made.append(path)
            os.write(pipe, b".")
        return create(path, flags, *arguments, **keywords)

    def replacing(*arguments: Any, **keywords: Any) -> None:
        replace(*arguments, **keywords)
        placed.append(arguments)
        if len(placed) == files:
            os.write(pipe, b".")

    os.open, os.replace = creating, replacing


if __name__ == "__main__":
    sys.exit(main())
