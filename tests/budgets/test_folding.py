"""Alike components on one line, and exactly the same components back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flops.budgets.files.folding import folded, unfolded


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["layer_0.moe", "layer_1.moe", "layer_2.moe"], ["layer_{0..2}.moe"]),
        (["h.0", "h.2", "h.3", "h.7"], ["h.{0,2..3,7}"]),
        (["conv1", "conv2"], ["conv{1..2}"]),
        ([f"h.{i}.e.{j}" for i in range(2) for j in range(3)], ["h.{0..1}.e.{0..2}"]),
        (["h.0.e.0", "h.0.e.1", "h.1.e.0"], ["h.0.e.{0..1}", "h.1.e.0"]),
        (["h.9", "h.10", "h.11"], ["h.{9..11}"]),
        (["b.10", "b.9", "a", "a.b", "B.1.c"], ["B.1.c", "a", "a.b", "b.{9..10}"]),
        (["a{0}", "a{1}"], ["a{{{0..1}}}"]),
        (["x.007", "x.008"], ["x.007", "x.008"]),
        (["x.12345678901", "x.12345678902"], ["x.12345678901", "x.12345678902"]),
        ([], []),
    ],
)
def test_paths_of_one_cost_that_differ_in_numbers_alone_are_one_name(paths, names):
    assert list(folded(dict.fromkeys(paths, 1))) == names


def test_another_cost_is_another_line_in_natural_order():
    costs = {f"layer_{number}": 5 for number in range(12)} | {"layer_3": 6, "head": 1}
    assert folded(costs) == {"head": 1, "layer_{0..2,4..11}": 5, "layer_3": 6}


PATHS = st.lists(
    st.sampled_from(["a", "b_", ".", "0", "1", "2", "10", "{", "}", "{0..1}", "é", "-", ",", " "]),
    max_size=6,
).map("".join)


@settings(deadline=None)
@given(st.dictionaries(PATHS, st.integers(0, 2)))
def test_folding_loses_nothing(costs):
    back = [(path, cost) for name, cost in folded(costs).items() for path in unfolded(name)]
    assert len(back) == len(costs)
    assert dict(back) == costs


@settings(deadline=None)
@given(st.dictionaries(PATHS, st.integers(0, 1)), st.randoms())
def test_the_order_of_the_paths_changes_nothing(costs, random):
    shuffled = list(costs.items())
    random.shuffle(shuffled)
    assert list(folded(dict(shuffled)).items()) == list(folded(costs).items())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a{0..3", "a single brace"),
        ("a}", "a single brace"),
        ("a{x}", "a single brace"),
        ("a{3..1}", "the range 3..1 falls"),
        ("a{0..999999999}", "more than 100,000 numbers"),
        ("a{0..999}.b{0..999}", "more than 100,000 components"),
    ],
)
def test_a_name_that_no_folding_wrote_is_refused_in_words(name, words):
    with pytest.raises(ValueError, match=words):
        unfolded(name)
