"""What changed since the base: a row a budget, and the way from base to now."""

from __future__ import annotations

import pytest

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.metric import Costs
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.pages.card import Card
from pytest_flops.reports.pages.changes import changes_of
from pytest_flops.reports.pages.waterfall import waterfall


@pytest.fixture
def change(make):
    """How a budget with these components, and this much outside them, changed."""

    def run(before, after, outside=(0, 0)):
        counted = []
        for parts, more in ((before, outside[0]), (after, outside[1])):
            whole = sum(parts.values()) + more
            components = {path: FLOPsCount(cost) for path, cost in parts.items()}
            counted.append(make.measurement(FLOPsCount(whole), components))
        base, head = (make.report(make.entry(measurement=each)) for each in counted)
        (budget,) = compare(base, head).budgets
        return budget

    return run


@pytest.fixture
def changes(make):
    """The changes of budgets by the totals, and bytes, that each had before and after."""

    def run(**budgets):
        def report(side):
            entries = []
            for name, (flops, *of_bytes) in budgets.items():
                metrics = {"bytes": Costs({"forward": of_bytes[0][side]}, {})} if of_bytes else {}
                counted = make.measurement(FLOPsCount(flops[side]), {}, metrics=metrics)
                entries.append(make.entry(name, measurement=counted))
            return make.report(*entries)

        comparison = compare(report(0), report(1))
        entries = {entry.key: entry for entry in report(1).entries}
        cards = [
            Card(entries[budget.subject, budget.budget], budget, [], place)
            for place, budget in enumerate(comparison.budgets)
        ]
        return changes_of(cards, comparison)

    return run


def steps(fall):
    return [(bar.name, bar.value) for bar in fall.steps]


def test_rows_stand_by_the_size_of_the_difference_whichever_way_it_goes(changes):
    found = changes(a=((100, 110),), b=((100, 60),), c=((100, 100),), d=((50, 70),))
    rows = [(row.card.entry.budget, row.change.difference, row.length) for row in found.rows]
    assert rows == [("b", -40, 100), ("d", 20, 50), ("a", 10, 25)]
    assert found.others == [("1 budget costs the same, to the last FLOP", [])]


def test_the_way_from_base_to_now_is_of_what_costs_more_than_allowed_if_anything_does(changes):
    fell = {"a": ((100, 90),), "b": ((100, 60),)}
    assert changes(**fell).most.entry.budget == "b"
    assert changes(**fell, c=((50, 51),)).most.entry.budget == "c"
    assert changes(a=((100, 100),)).most is None


def test_other_metrics_stand_below_with_bars_of_their_own(changes):
    found = changes(a=((100, 110), (1000, 9000)), b=((100, 100), (1000, 5000)))
    rows = [(row.card.entry.budget, row.about, row.length) for row in found.rows]
    assert rows == [("a", "", 100), ("a", "bytes", 100), ("b", "bytes", 50)]


def test_amounts_that_would_look_alike_are_shown_in_every_digit(changes):
    (large, small) = changes(a=((10**9, 10**9 + 10**6),), b=((10**9, 10**9 + 1),)).rows
    assert large.amounts == ("1 GFLOP", "1.001 GFLOP")
    assert small.amounts == ("1,000,000,000 FLOP", "1,000,000,001 FLOP")


def test_what_comes_and_goes_is_told_by_name(make):
    base, head = make.report(make.entry("old"), make.entry("kept")), make.report(make.entry("kept"))
    assert changes_of([], compare(base, head)).others == [
        ("1 budget is no longer held", ["old"]),
        ("1 budget costs the same, to the last FLOP", []),
    ]


def test_a_waterfall_goes_from_base_to_now_by_the_deepest_components(change):
    before = {"a": 60, "b": 40}
    fall = waterfall(change(before, {"a": 90, "b": 30}, outside=(0, 5)))
    assert steps(fall) == [("a", 30), ("b", -10), ("(outside modules)", 5)]
    assert (fall.base.value, fall.now.value) == (100, 125)
    # The levels are 100, 130, 120, 125: the axis goes as far below the least as it is to the most.
    assert fall.start == 70
    ends = [(bar.left, bar.left + bar.width) for bar in (fall.base, *fall.steps, fall.now)]
    sixtieths = [(0, 30), (30, 60), (50, 60), (50, 55), (0, 55)]
    assert ends == [pytest.approx([100 * end / 60 for end in pair]) for pair in sixtieths]


def test_layers_that_are_alike_are_one_step_and_small_ones_are_joined(change):
    before = {f"layer_{i}": 10 for i in range(3)} | {f"p{chr(97 + i)}": 100 for i in range(8)}
    after = {f"layer_{i}": 40 for i in range(3)} | {f"p{chr(97 + i)}": 101 + i for i in range(8)}
    fall = waterfall(change(before, after))
    assert steps(fall)[:2] == [("layer_0..2 x 3", 90), ("ph", 8)]
    assert steps(fall)[-1] == ("3 smaller", 1 + 2 + 3)
    assert sum(value for _, value in steps(fall)) == fall.now.value - fall.base.value


def test_a_large_change_begins_at_nothing(change):
    assert waterfall(change({"a": 10}, {"a": 100})).start == 0


def test_a_waterfall_knows_the_phases_that_changed(make):
    base, head = (
        make.report(make.entry(measurement=make.measurement(FLOPsCount(5, 7, step), {})))
        for step in (2, 4)
    )
    (budget,) = compare(base, head).budgets
    assert waterfall(budget).phases == ("optimizer",)


def test_without_a_change_there_is_no_waterfall(change):
    assert waterfall(change({"a": 1}, {"a": 1})) is None
