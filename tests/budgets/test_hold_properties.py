"""Of any model and any budget: what is over is red, what is within is green, nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.budgets.budget import Budget, Limit, Recorded, ScalingLimit
from pytest_flops.budgets.judging.hold import hold
from pytest_flops.budgets.judging.scaling import hold_scaling
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import PHASES, FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import QUANTITIES
from pytest_flops.scaling.sweep import sweep

flops = st.one_of(st.integers(0, 3), st.integers(0, 10**21))
counts = st.builds(FLOPsCount, flops, flops, flops)
names = st.sampled_from(["layer_0", "layer_1", "head"])
inner_names = st.sampled_from(["moe", "norm"])
tolerances = st.fractions(0, 1)


@st.composite
def measurements(draw):
    """A model of two levels; every component contains its parts and something of its own."""
    components = {}
    for path in draw(st.lists(names, min_size=1, unique=True)):
        parts = draw(st.dictionaries(inner_names, counts))
        components[path] = sum(parts.values(), draw(counts))
        components |= {f"{path}.{part}": cost for part, cost in parts.items()}
    return measured(components, outside=draw(counts))


def measured(components, outside=FLOPsCount()):  # noqa: B008 - it is frozen
    whole = (cost for path, cost in components.items() if "." not in path)
    return Measurement(sum(whole, outside), components, "meter", "executed")


patterns = st.sampled_from([None, "layer_*", "layer_0", "*", "**", "**.moe", "*.norm", "tail*"])
limits = st.builds(
    Limit, st.sampled_from(QUANTITIES), flops, written=st.just("as written"), pattern=patterns
)


def costs_of(measurement, verdict):
    cost = measurement.components[verdict.component] if verdict.component else measurement.count
    return cost.of(verdict.quantity)


@given(measurements(), st.lists(limits, min_size=1))
def test_a_limit_is_red_exactly_where_the_count_is_above_it(measurement, written):
    verdicts = hold(Budget("b", limits=tuple(written)), measurement, kinds=("limit",))
    for verdict in verdicts:
        if verdict.kind == "limit":
            assert verdict.actual == costs_of(measurement, verdict)
            assert verdict.passed == (verdict.actual <= verdict.allowed)
        else:
            assert (verdict.kind, verdict.passed) == ("error", False)


def components_of(pattern, paths):
    """What the patterns above match, decided by hand."""
    return {
        "layer_*": [path for path in paths if path in ("layer_0", "layer_1")],
        "layer_0": [path for path in paths if path == "layer_0"],
        "*": [path for path in paths if "." not in path],
        "**": list(paths),
        "**.moe": [path for path in paths if path.endswith(".moe")],
        "*.norm": [path for path in paths if path.endswith(".norm")],
        "tail*": [],
    }[pattern]


@given(measurements(), limits)
def test_every_limit_is_held_and_one_that_nothing_matches_is_red(measurement, limit):
    verdicts = hold(Budget("b", limits=(limit,)), measurement, kinds=("limit",))
    paths = measurement.components
    expected = [None] if limit.pattern is None else components_of(limit.pattern, paths)
    held = [verdict.component for verdict in verdicts if verdict.kind == "limit"]
    assert held == expected
    if not expected:
        # A count of nothing is an error of its own.
        assert [verdict.passed for verdict in verdicts if verdict.pattern] == [False]


@given(measurements(), st.lists(limits), st.randoms())
def test_the_order_of_limits_changes_no_verdict(measurement, written, chance):
    def outcomes(limits):
        verdicts = hold(Budget("b", limits=tuple(limits)), measurement, kinds=("limit",))
        return {(v.kind, v.component, v.quantity, v.pattern, v.allowed, v.passed) for v in verdicts}

    shuffled = chance.sample(written, len(written))
    assert outcomes(shuffled) == outcomes(written)


def limit_verdicts(budget, measurement):
    return [v for v in hold(budget, measurement, kinds=("limit",)) if v.kind == "limit"]


@given(measurements(), st.lists(limits, min_size=1), st.data())
def test_a_dearer_model_turns_no_red_limit_green(measurement, written, data):
    budget = Budget("b", limits=tuple(written))
    dearer = measured(
        {path: cost + data.draw(counts) for path, cost in measurement.components.items()},
        outside=measurement.count,
    )
    before, after = (limit_verdicts(budget, each) for each in (measurement, dearer))
    assert len(before) == len(after)
    assert all(was.passed or not now.passed for was, now in zip(before, after, strict=True))


@given(measurements(), tolerances)
def test_a_model_that_did_not_change_holds_its_record(measurement, tolerance):
    budget = Budget("b", tolerance=tolerance, recorded=record_of(measurement))
    verdicts = against_the_record(budget, measurement)
    assert [verdict.quantity for verdict in verdicts if verdict.component is None] == [*QUANTITIES]
    assert all(verdict.passed for verdict in verdicts)


def against_the_record(budget, measurement):
    """Without the error of a count of nothing, which the recorded counts cannot mend."""
    return [v for v in hold(budget, measurement, kinds=("recorded",)) if v.kind == "recorded"]


def record_of(measurement):
    return Recorded(measurement.count, measurement.components)


@given(measurements(), st.sampled_from(PHASES), st.data())
def test_one_flop_more_in_one_phase_of_one_component_is_red(measurement, phase, data):
    budget = Budget("b", recorded=record_of(measurement))
    path = data.draw(st.sampled_from([*measurement.components, None]))
    more = FLOPsCount(**{phase: 1})
    grown = {path, path.partition(".")[0]} if path else set()  # what contains it grows with it
    components = {
        name: cost + more if name in grown else cost
        for name, cost in measurement.components.items()
    }
    now = replace(measurement, count=measurement.count + more, components=components)
    verdicts = hold(budget, now, kinds=("recorded",))
    red = {(v.component, v.quantity) for v in verdicts if not v.passed}
    assert red == {(None, "total"), *((name, phase) for name in (None, *grown))}


@given(counts, counts, tolerances)
def test_a_count_may_exceed_its_record_by_the_tolerance_and_no_more(base, now, tolerance):
    budget = Budget("b", tolerance=tolerance, recorded=Recorded(base))
    verdicts = against_the_record(budget, Measurement(now, {}, "meter", "executed"))
    assert {verdict.quantity: verdict.passed for verdict in verdicts} == {
        quantity: now.of(quantity) <= base.of(quantity) * (1 + Fraction(tolerance))
        for quantity in QUANTITIES
    }


@given(measurements(), st.dictionaries(st.text(min_size=1), st.integers(1, 9), max_size=3))
def test_a_count_is_sound_exactly_if_it_is_of_something_and_of_all_of_it(measurement, uncounted):
    errors = hold(Budget("b"), replace(measurement, uncounted=uncounted), kinds=())
    sound = measurement.count.total > 0 and not uncounted
    assert (not errors) == sound
    assert not any(verdict.passed for verdict in errors)


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4).filter(lambda each: any(each[1:])),
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_growth_is_red_exactly_if_the_degree_is_above_exponent_and_tolerance(
    factors, allowed, tolerance
):
    def count_at(n):
        cost = FLOPsCount(sum(factor * n**power for power, factor in enumerate(factors)))
        return Measurement(cost, {"layer": cost}, "meter", "executed")

    degree = max(power for power, factor in enumerate(factors) if factor)
    sizes = (64, 128, 256)
    limit = ScalingLimit("n", sizes, allowed, {"layer": allowed}, tolerance=tolerance)
    forward, backward, optimizer, total, layer = hold_scaling(limit, sweep(count_at, "n", sizes))
    for verdict in (forward, total, layer):
        assert verdict.passed == (degree <= allowed + tolerance)
    assert backward.passed
    assert optimizer.passed


@given(measurements(), measurements(), st.lists(limits))
def test_verdicts_survive_json(measurement, base, written):
    budget = Budget("b", limits=tuple(written), recorded=record_of(base))
    for verdict in (
        *hold(budget, measurement, kinds=("limit",)),
        *hold(budget, measurement, kinds=("recorded",)),
    ):
        assert Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
