from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from pytest_flops.budgets.budget import Limit, ScalingLimit
from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.inline import inline_budget


def mistakes(**arguments):
    with pytest.raises(BudgetError) as caught:
        inline_budget("test_a", arguments)
    return str(caught.value).splitlines()


def test_keywords_make_a_budget():
    budget = inline_budget(
        "test_a",
        {
            "forward": "2.1 GFLOP",
            "total": 6_400_000_000,
            "components": {"layer_*": {"forward": "1 MFLOP"}},
            "tolerance": "1%",
            "scaling": {"seq_len": {"sizes": (128, 256, 512), "max_exponent": 1}},
        },
    )
    assert budget.name == "test_a"
    assert budget.location is None
    assert set(budget.limits) == {
        Limit("forward", 2_100_000_000, "2.1 GFLOP"),
        Limit("total", 6_400_000_000, "6400000000"),
        Limit("forward", 1_000_000, "1 MFLOP", "layer_*"),
    }
    assert budget.tolerance == Fraction(1, 100)
    assert budget.scaling == (ScalingLimit("seq_len", (128, 256, 512), 1, {}),)


def test_sizes_may_be_a_range():
    scaling = {"n": {"sizes": range(100, 400, 100), "max_exponent": 1}}
    assert inline_budget("t", {"scaling": scaling}).scaling[0].sizes == (100, 200, 300)


def test_a_tolerance_alone_is_for_a_named_budget_beside_it():
    assert inline_budget("t", {"tolerance": "2%"}).limits == ()


def test_every_mistake_is_told_at_once():
    told = mistakes(
        foward="1 GFLOP",
        total="3 gflop",
        components={"a..b": {"forward": True}},
        scaling={"seq_len": {"sizes": [1, 2], "max_exponent": 1}},
        tolerance=1,
        workload={"model": "m"},
    )
    assert len(told) == 7
    text = "\n".join(told)
    for words in (
        "unknown keyword 'foward'; did you mean 'forward'?",
        "unknown keyword 'workload'",
        "total: '3 gflop' has the unknown unit",
        "components.'a..b': the component pattern",
        "components.'a..b'.forward: true is a boolean",
        "scaling.seq_len.sizes: expected a list of at least three",
        'tolerance: 1 has no percent sign; did you mean "1%"?',
    ):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"components": {1: {"forward": 1}}}, "the key 1 must be a string"),
        ({"components": "layer_0"}, "components: expected a mapping"),
        ({"components": {}}, "found an empty mapping"),
        ({"scaling": {"n": {"sizes": [1, 2, 3]}}}, "it holds nothing to check"),
        ({"scaling": {"n": {"sizes": [1, 2.5, 3], "max_exponent": 1}}}, "sizes[1]"),
        ({"total": float("nan")}, "nan is not finite"),
        ({"total": -1}, "-1 is negative"),
        ({"total": None}, "None is no number"),
        ({"total": {"forward": 1}}, "no number of FLOPs"),
    ],
)
def test_a_mistake_is_told_with_its_keyword(arguments, words):
    assert words in "\n".join(mistakes(**arguments))


def test_an_integer_of_numpy_is_an_integer():
    (limit,) = inline_budget("t", {"total": 2 * np.prod((4, 8))}).limits
    assert limit.allowed == 64
