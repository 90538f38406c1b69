"""What is wrong with the run itself, as failures in the JUnit file, which is all some CIs read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from _pytest.junitxml import xml_key  # pytest has no public name for it
from pytest import TestReport

from pytest_flops.reports.pages.sentence import headline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest import Config

    from pytest_flops.reports.report import Report

_CLASS = "flops budgets"


def tell_junit(config: Config, report: Report, *, tests_failed: int) -> None:
    """Put the verdict, and what is wrong with the run itself, into the JUnit file, if there is one.

    A report can be red though no test failed, for instance since a test swallowed its verdict:
    then its headline is the failure.
    """
    xml = config.stash.get(xml_key, None)
    if xml is None:
        return
    xml.add_global_property("flops.passed", str(report.passed).lower())
    found = [*_failures(report)]
    if not (report.passed or found or tests_failed):
        found = [("verdict", headline(report))]
    for number, (name, message) in enumerate(found, start=1):
        node = f"{_CLASS}::{name} {number}"
        place = (_CLASS, None, name)
        xml.pytest_runtest_logreport(TestReport(node, place, {}, "failed", message, "call"))
        xml.pytest_runtest_logreport(TestReport(node, place, {}, "passed", None, "teardown"))


def _failures(report: Report) -> Iterator[tuple[str, str]]:
    for error in report.errors:
        yield error.kind, str(error)
    for test in report.missing:
        yield "missing", f"{test} delivered nothing"
