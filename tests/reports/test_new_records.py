"""Increases that a new record accepts when a report is held against its base."""

from __future__ import annotations

from fractions import Fraction

import pytest

from pytest_flops.budgets.budget import Budget, Recorded
from pytest_flops.budgets.judging.hold import hold
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.reports.comparison.compare import compare

ATTENTION, MLP, HEAD = FLOPsCount(100, 200, 10), FLOPsCount(50, 100, 5), FLOPsCount(7, 14, 1)


@pytest.fixture
def reported(make):
    """A report of a block with two parts and a head, held against a record of block and head."""

    def of(attention=ATTENTION, mlp=MLP, head=HEAD, *, recorded=None, tolerance=Fraction(0)):
        block = attention + mlp
        components = {"block": block, "block.attention": attention, "block.mlp": mlp, "head": head}
        measured = make.measurement(block + head, components)
        record = None
        if recorded is not None:
            old_block, old_head = recorded
            record = Recorded(old_block + old_head, {"block": old_block, "head": old_head})
        budget = Budget("baseline", recorded=record, tolerance=tolerance)
        verdicts = hold(budget, measured, kinds=("recorded",))
        return make.report(make.entry(measurement=measured, verdicts=verdicts, tolerance=tolerance))

    return of


OLD = (ATTENTION + MLP, HEAD)
DEARER = ATTENTION + FLOPsCount(20, 40, 2)
NEW = (DEARER + MLP, HEAD)


def accepted(comparison):
    (budget,) = comparison.budgets
    return {change.component for change in budget.changes if change.accepted}


def test_a_new_record_accepts_the_whole_its_component_and_what_is_deeper(reported):
    comparison = compare(reported(recorded=OLD), reported(DEARER, recorded=NEW))
    assert not comparison.regressed
    assert accepted(comparison) == {None, "block", "block.attention"}
    assert comparison.budgets[0].status == "grew"


def test_a_first_record_accepts_too(reported):
    assert not compare(reported(), reported(DEARER, recorded=NEW)).regressed


@pytest.mark.parametrize(
    ("base", "head"),
    [(OLD, OLD), (NEW, NEW), (None, None), (OLD, None)],
    ids=["an-old-record", "a-record-too-high-from-before", "no-record", "a-record-taken-away"],
)
def test_what_no_new_record_allows_is_a_regression(reported, base, head):
    comparison = compare(reported(recorded=base), reported(DEARER, recorded=head))
    assert comparison.regressed
    assert accepted(comparison) == set()


def test_a_new_record_below_the_count_accepts_nothing(reported):
    short = (NEW[0] + FLOPsCount(-1, 0, 0), HEAD)
    comparison = compare(reported(recorded=OLD), reported(DEARER, recorded=short))
    assert comparison.regressed
    # What the new record does cover is accepted: backward and optimizer of the block, for one.
    grown = {
        (change.component, change.quantity)
        for change in comparison.budgets[0].changes
        if change.regressed
    }
    assert grown == {
        (component, quantity)
        for component in (None, "block", "block.attention")
        for quantity in ("forward", "total")
    }


def test_a_new_record_of_one_component_accepts_no_other(reported):
    grown_head = HEAD + FLOPsCount(1, 0, 0)
    cheaper = ATTENTION + FLOPsCount(-1, 0, 0)
    record = (cheaper + MLP, HEAD)
    comparison = compare(
        reported(recorded=OLD), reported(cheaper, head=grown_head, recorded=record)
    )
    assert comparison.regressed
    assert {c.component for c in comparison.budgets[0].changes if c.regressed} == {"head"}


def test_a_part_that_grows_behind_an_unchanged_record_is_a_regression(reported):
    more, less = ATTENTION + FLOPsCount(5, 0, 0), MLP + FLOPsCount(-5, 0, 0)
    comparison = compare(reported(recorded=OLD), reported(more, less, recorded=OLD))
    assert comparison.regressed
    assert {c.component for c in comparison.budgets[0].changes if c.regressed} == {
        "block.attention"
    }


def test_the_tolerance_counts_from_the_new_record(reported):
    tolerance = Fraction(1, 100)
    above = DEARER + FLOPsCount(1, 0, 0)  # 1 of 170 in the block, 1 of 177 in all
    head = reported(above, recorded=NEW, tolerance=tolerance)
    assert not compare(reported(recorded=OLD, tolerance=tolerance), head).regressed
    assert compare(reported(recorded=OLD), head, tolerance=Fraction(0)).regressed


def test_the_json_tells_what_was_accepted(reported):
    record = compare(reported(recorded=OLD), reported(DEARER, recorded=NEW)).to_dict()
    forward = record["budgets"][0]["changes"][0]
    assert (forward["accepted"], forward["regressed"], forward["status"]) == (True, False, "grew")


def test_a_record_that_fell_in_one_phase_accepts_nothing_in_another(reported):
    # The record of attention and MLP is 150 forward; the base counted 30 fewer, so that the head's
    # return to 150 is a regression, however its record of backward has fallen meanwhile.
    cheaper = ATTENTION + FLOPsCount(-30, 0, 0)
    fallen = (FLOPsCount(150, 290, 15), HEAD)
    comparison = compare(
        reported(cheaper, recorded=OLD),
        reported(ATTENTION + FLOPsCount(0, -10, 0), recorded=fallen),
    )
    assert comparison.regressed
