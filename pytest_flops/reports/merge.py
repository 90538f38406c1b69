"""Join the reports of CI shards into the one that a single run would have written."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from pytest_flops.counting.text import some
from pytest_flops.reports.entry import Entry, different_results, of_one_subject
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.report import Report, build_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def merge(reports: Iterable[Report]) -> Report:
    """Join reports; neither their order nor merging in steps changes the result.

    Budgets that no shard measured are judged stale now; what single shards said of them counts
    no more. A test that some shard missed is no longer missing if another delivered it.

    Raises:
        ReportError: No reports, reports of different commits, one test in two shards, or one
            subject measured with different results.
    """
    shards = list(reports)
    if not shards:
        raise ReportError("nothing to merge: name at least one report.")
    entries = [entry for shard in shards for entry in shard.entries]
    _refuse_different_commits(shards)
    _refuse_repeated_tests(shards)
    _refuse_conflicts(entries)
    delivered = {test for entry in entries for test in entry.tests}
    missing = {test for shard in shards for test in shard.missing}
    return build_report(
        entries,
        errors=[error for shard in shards for error in shard.errors],
        environment=_merged([shard.environment for shard in shards]),
        complete=all(shard.complete for shard in shards),
        missing=missing - delivered,
        budgets_known=[known for shard in shards for known in shard.budgets_known],
        tests=[test for shard in shards for test in shard.tests],
        whole_suite=True,
    )


def _refuse_different_commits(shards: Sequence[Report]) -> None:
    commits = {shard.environment.get("commit") for shard in shards} - {None}
    if len(commits) > 1:
        found = ", ".join(sorted(str(commit) for commit in commits))
        raise ReportError(
            f"these reports are of different commits, not shards of one run: {found}."
        )


def _refuse_repeated_tests(shards: Sequence[Report]) -> None:
    of_shards = ({test for entry in shard.entries for test in entry.tests} for shard in shards)
    tests = Counter(test for tests in of_shards for test in tests)
    repeated = sorted(test for test, number in tests.items() if number > 1)
    if repeated:
        raise ReportError(
            f"the same test is in more than one report: {some(repeated, 3)}. "
            "Was one report given twice, or do the shards overlap?"
        )


def _refuse_conflicts(entries: Iterable[Entry]) -> None:
    for group in of_one_subject(entries):
        different = different_results(group)
        if different:
            raise ReportError(
                f"{group[0].subject} was measured with different results: {different}. "
                "Shards of one run must test the same code."
            )


def _merged(environments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Every key; where values differ, all of them as a sorted list, and the latest time."""
    found: dict[str, set[str]] = defaultdict(set)
    for environment in environments:
        for key, value in environment.items():
            found[key].update([value] if isinstance(value, str) else value or ())
    if found.get("time"):
        found["time"] = {max(found["time"])}
    values = {key: sorted(found[key]) for key in sorted(found)}
    return {key: each[0] if len(each) == 1 else each or None for key, each in values.items()}
