"""The picture of memory over a step: its areas by hand, its marks, and what it leaves out."""

from __future__ import annotations

import pytest

from pytest_flops.reports.pages.memory import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, memory_curve


def details(calls, phases, **kinds):
    return {"curve": {"calls": calls, "phases": phases, "kinds": kinds}}


def places(points):
    return [tuple(map(float, point.split(","))) for point in points.split()]


def test_two_calls_make_areas_that_are_stacked():
    told = details([1, 2], ["forward"] * 2, inputs=[512, 512], temporaries=[512, 1536])
    curve = memory_curve(told)
    # The second call's 2,048 bytes reach the top. So 1,024 are half of the height, 512 a quarter.
    left, right, bottom, height = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP
    temporaries, inputs = curve.bands
    assert (temporaries.kind, temporaries.letter, temporaries.at_peak) == ("temporaries", "A", 1536)
    assert (inputs.kind, inputs.letter, inputs.at_peak) == ("inputs", "B", 512)
    # Both are thick enough for their letters.
    assert temporaries.letter_at == (left, bottom - height * 3 / 8)
    assert inputs.letter_at == (left, bottom - height / 8)
    ends = [(left, bottom), (right, bottom)]
    above = [(left, bottom - height / 2), (right, TOP)]
    assert places(temporaries.area) == [ends[0], *above, ends[1]]
    below = [(left, bottom - height / 4), (right, bottom - height / 4)]
    assert places(inputs.area) == [ends[0], *below, ends[1]]
    assert curve.peak_at == (right, TOP)
    assert [(tick.label, tick.at) for tick in curve.y_ticks][1] == (
        "500 B",
        pytest.approx(bottom - height * 500 / 2048),
    )


def test_the_peak_the_borders_of_phases_and_the_end_are_marked():
    phases = ["forward", "backward", "backward", "optimizer", "optimizer"]
    told = details([1, 50, 60, 70, 100], phases, inputs=[1, 2, 5, 3, 1], gradients=[0, 0, 2, 2, 2])
    curve = memory_curve(told)
    assert [(m.what, m.phase, m.call, m.sizes, m.level) for m in curve.marks] == [
        ("begin", "forward", 1, (0, 1), 1),
        ("begin", "backward", 50, (0, 2), 2),
        ("peak", "backward", 60, (2, 5), 7),
        ("begin", "optimizer", 70, (2, 3), 5),
        ("end", "optimizer", 100, (2, 1), 3),
    ]
    # Of 326 units for 99 steps: 20 calls have 66, enough for a name.
    assert [phase.label for phase in curve.phases] == ["forward", "backward", "optimizer"]
    assert len(curve.borders) == 2


def test_what_is_always_there_lies_at_the_bottom_and_what_never_is_is_left_out():
    told = details([1, 2], ["forward"] * 2, gradients=[0, 0], parameters=[9, 9], inputs=[0, 9])
    assert [band.kind for band in memory_curve(told).bands] == ["inputs", "parameters"]


def test_a_level_stretch_is_drawn_with_its_ends():
    told = details([1, 2, 3, 4], ["forward"] * 4, parameters=[7] * 4)
    assert len(places(memory_curve(told).bands[0].area)) == 4


def test_a_letter_stands_where_a_band_is_thick_for_some_calls():
    calls, phases = [*range(1, 10)], ["forward"] * 9
    spike = [0, 0, 0, 0, 90, 0, 0, 0, 0]
    told = details(calls, phases, parameters=[90] * 9, temporaries=spike, inputs=[1] * 9)
    temporaries, inputs, parameters = memory_curve(told).bands
    assert temporaries.letter_at is None
    assert inputs.letter_at is None
    assert parameters.letter_at is not None


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"kinds": {"inputs": 5}},  # of an older release
        details([], []),
        details([1], ["forward"], inputs=[0]),
        details([1, 2], ["forward"], inputs=[1, 2]),
    ],
)
def test_no_curve_no_picture(told):
    assert memory_curve(told) is None


def test_one_call_and_numbers_of_another_tool_are_a_picture():
    assert memory_curve(details([1], ["forward"], inputs=[512.0])).peak.level == 512
    assert memory_curve(details([1], ["forward"], inputs=[1e308])).peak.level == int(1e308)
