"""The component pictures: every component can be found, however small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import FLOPS, METRICS, Costs
from pytest_flops.reports.pages.strips import OWN, branches, pictures, tree_of


def tree(components, whole):
    return tree_of(Measurement(whole, components, "meter", "executed"), FLOPS)


def forward(make, parent=None):
    whole = tree(make.COMPONENTS, make.BASELINE)
    return next(p for p in pictures(whole, parent) if p.phase == "forward")


def labelled(picture):
    return {s.slice.name for strip in picture.strips for s in strip.segments if s.labelled}


def test_the_first_strip_shows_the_parts_in_proportion(make):
    first = forward(make).strips[0]
    assert first.segments[0].slice.name == "lm_head"
    assert first.segments[0].width == pytest.approx(100 * 15_728_640_000 / 16_287_760_384)
    assert first.segments[0].share == "96.6 %"


def test_every_part_beside_an_lm_head_of_96_percent_gets_a_label(make):
    layers = {f"layer_{i}" for i in range(4)}
    assert labelled(forward(make)) == {"lm_head", *layers, "final_layernorm", "embedding"}


def test_bk_core_of_a_tenth_of_a_percent_gets_a_label_inside_its_layer(make):
    picture = forward(make, "layer_0")
    assert "bk_core" in labelled(picture)
    assert picture.strips[0].segments[0].slice.name == "moe"


def test_a_magnified_strip_says_how_much_and_begins_where_it_stood(make):
    _, second, *_ = forward(make).strips
    rest = 16_287_760_384 - 15_728_640_000
    assert second.share == "3.43 %"
    assert second.magnified == pytest.approx(16_287_760_384 / rest)
    assert second.begins == pytest.approx(100 * 15_728_640_000 / 16_287_760_384)


def test_many_equal_parts_are_not_magnified():
    cost = FLOPsCount(10, 0, 0)
    (picture,) = pictures(tree({f"part_{i}": cost for i in range(50)}, cost * 50), None)
    assert len(picture.strips) == 1
    assert len(picture.strips[0].segments) == 50


def test_what_a_component_does_by_itself_is_a_part_of_its_own():
    layer = {"layer": FLOPsCount(10), "layer.inner": FLOPsCount(7)}
    (picture,) = pictures(tree(layer, FLOPsCount(10)), "layer")
    assert {s.slice.name: s.value for s in picture.strips[0].segments} == {"inner": 7, OWN: 3}


def test_layers_that_cost_the_same_are_stepped_into_once(make):
    (layer,) = branches(tree(make.COMPONENTS, make.BASELINE), None, 20)
    assert layer.path == "layer_0"
    assert layer.alike == ("layer_1", "layer_2", "layer_3")


def test_a_layer_that_differs_is_stepped_into_by_itself(make):
    components = {**make.COMPONENTS, "layer_2.bk_core": FLOPsCount(139_265, 106_496, 0)}
    first, other = branches(tree(components, make.BASELINE), None, 20)
    assert (first.path, first.alike) == ("layer_0", ("layer_1", "layer_3"))
    assert (other.path, other.alike) == ("layer_2", ())


def test_no_more_is_stepped_into_than_there_is_room_for():
    inside = ("", ".a", ".a.b", ".c", ".c.d")
    costs = {f"part_{'x' * i}{path}": FLOPsCount(9) for i in range(8) for path in inside}
    found = branches(tree(costs, FLOPsCount(72)), None, 5)
    assert [branch.branches for branch in found] == [()] * 5


def test_pictures_begin_where_the_model_divides():
    whole = FLOPsCount(10)
    components = {"model": whole, "model.body": whole, "model.body.a": FLOPsCount(4)}
    assert tree(components, whole).start == "model.body"


def test_the_picture_is_told_in_words(make):
    assert forward(make).words.startswith("forward: lm_head 96.6 %, layer_0 0.86 %")


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=30))
def test_no_strip_is_wider_than_itself_and_tails_only_get_wider(costs):
    components = {f"p{i}": FLOPsCount(cost) for i, cost in enumerate(costs)}
    for picture in pictures(tree(components, FLOPsCount(sum(costs))), None):
        for strip in picture.strips:
            assert sum(segment.width for segment in strip.segments) <= 100.001
        factors = [strip.magnified for strip in picture.strips]
        assert factors == sorted(factors)


def test_walking_the_tree_keeps_children_with_their_parents():
    costs = dict.fromkeys(["b", "a", "b.x", "a.y", "b.x.z"], FLOPsCount(1))
    assert list(tree(costs, FLOPsCount(2)).walk()) == ["b", "b.x", "b.x.z", "a", "a.y"]


def test_every_metric_is_drawn_in_its_own_phases(make):
    by_phase = Costs({"forward": 5, "backward": 3}, {"a": {"forward": 4}, "b": {"backward": 3}})
    metrics = {"syncs": by_phase, "parameters": Costs({"total": 9}, {"a": {"total": 9}})}
    found = make.measurement(metrics=metrics)
    forward, backward = pictures(tree_of(found, METRICS["syncs"]), None)
    assert (forward.phase, forward.words) == ("forward", f"forward: a 80.0 %, {OWN} 20.0 %")
    assert (backward.value, backward.words) == (3, "backward: b 100 %")
    (total,) = pictures(tree_of(found, METRICS["parameters"]), None)
    assert total.words == "total: a 100 %"


def test_of_a_peak_it_is_drawn_what_was_alive_then(make):
    # Peaks do not add up: 10 and 9 are no parts of 12. What was alive at the peak is.
    peaks = {"a": {"forward": 10}, "b": {"forward": 9}}
    alive = {"kinds": {"inputs": 4, "temporaries": 8}, "modules": {"a": 6, "b": 3}}
    found = make.measurement(metrics={"peak_memory": Costs({"forward": 12}, peaks, alive)})
    (picture,) = pictures(tree_of(found, METRICS["peak_memory"]), None)
    assert picture.value == 12
    assert picture.words == f"at the peak: a 50.0 %, b 25.0 %, {OWN} 25.0 %"
