"""Geometry of the line pictures."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pytest_flops.reports.pages.plots import (
    LINE_HEIGHT,
    LINE_WIDTH,
    PLOT_HEIGHT,
    PLOT_WIDTH,
    line_of,
    scaling_plot,
)
from pytest_flops.scaling.sweep import Growth, Sweep

SIZES = [64, 128, 256, 512]


def sweep(**lines):
    growth = [Growth(None, name, line, 0.0, 0.0, (), None, None) for name, line in lines.items()]
    return Sweep("seq_len", SIZES, growth)


def slopes(points):
    return [(b.y - a.y) / (b.x - a.x) for a, b in pairwise(points)]


def test_a_power_of_the_size_is_a_straight_line():
    plot = scaling_plot(sweep(total=[7 * size**2 for size in SIZES]), None)
    first, *others = slopes(plot.series[0].points)
    assert others == pytest.approx([first] * 2)


def test_twice_the_exponent_is_twice_as_steep():
    plot = scaling_plot(sweep(total=[size**2 for size in SIZES], forward=SIZES), None)
    quadratic, linear = (slopes(series.points)[0] for series in plot.series)
    assert quadratic == pytest.approx(2 * linear)


def test_the_limit_begins_at_the_first_point_with_the_allowed_slope():
    plot = scaling_plot(sweep(total=[size**2 for size in SIZES]), 1.0)
    (x, y), (end, top) = (map(float, point.split(",")) for point in plot.limit.split())
    points = plot.series[0].points
    assert (x, y) == pytest.approx((points[0].x, points[0].y), abs=0.06)
    assert end == pytest.approx(points[-1].x, abs=0.06)
    assert (top - y) / (end - x) == pytest.approx(slopes(points)[0] / 2, rel=0.01)


def test_a_limit_above_all_points_stays_inside_the_picture():
    plot = scaling_plot(sweep(total=SIZES), 3.0)
    places = [tuple(map(float, point.split(","))) for point in plot.limit.split()]
    assert all(0 <= x <= PLOT_WIDTH and 0 <= y <= PLOT_HEIGHT for x, y in places)


def test_a_limit_that_no_axis_can_show_is_not_drawn():
    plot = scaling_plot(sweep(total=SIZES), 10_000.0)
    assert plot.limit is None
    assert plot.series == scaling_plot(sweep(total=SIZES), None).series


def test_points_carry_the_numbers_they_stand_for():
    plot = scaling_plot(sweep(total=[size**2 for size in SIZES]), None)
    assert [(p.size, p.flops) for p in plot.series[0].points] == [(n, n * n) for n in SIZES]


def test_axes_are_labelled_with_sizes_and_units():
    plot = scaling_plot(sweep(total=[size**2 * 10**9 for size in SIZES]), None)
    assert [tick.label for tick in plot.x_ticks] == ["64", "128", "256", "512"]
    assert [tick.label for tick in plot.y_ticks] == ["10 TFLOP", "100 TFLOP"]


def test_a_constant_cost_is_a_level_line():
    plot = scaling_plot(sweep(total=[5, 5, 5, 5]), None)
    assert slopes(plot.series[0].points) == [0, 0, 0]
    assert [tick.label for tick in plot.y_ticks] == ["5 FLOP"]


def test_a_phase_that_costs_nothing_is_left_out():
    assert [
        s.quantity for s in scaling_plot(sweep(total=SIZES, optimizer=[0] * 4), None).series
    ] == ["total"]
    assert scaling_plot(sweep(total=[0] * 4), None) is None


def past(*totals):
    return [(f"run {number}", total) for number, total in enumerate(totals)]


def test_history_runs_from_left_to_right_and_more_is_higher():
    line = line_of(past(10, 30, 20), limit=40)
    points = [tuple(map(float, point.split(","))) for point in line.path.split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert points[1][1] < points[2][1] < points[0][1]
    assert line.limit < points[1][1]
    assert all(0 <= x <= LINE_WIDTH and 0 <= y <= LINE_HEIGHT for x, y in points)


def test_history_knows_its_ends_its_extremes_and_where_it_changed():
    line = line_of(past(20, 20, 10, 10, 40, 30, 30), limit=None)
    marked = {name: (dot.when, dot.value) for name, dot in line.marked.items()}
    assert marked == {
        "first": ("run 0", 20),
        "last": ("run 6", 30),
        "least": ("run 2", 10),
        "most": ("run 4", 40),
    }
    steps = [(dot.when, step) for dot, step in line.changed]
    assert steps == [("run 0", 0), ("run 2", -10), ("run 4", 30), ("run 5", -10), ("run 6", 0)]


def test_ends_that_are_extremes_are_marked_once():
    assert [*line_of(past(10, 20, 30), limit=None).marked] == ["first", "last"]


def test_one_report_is_no_history():
    assert line_of(past(10), limit=None) is None
