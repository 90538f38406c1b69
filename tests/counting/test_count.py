"""`FLOPsCount`: counts add and multiply like vectors of whole numbers, exactly at any size."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.counting.count import PHASES, FLOPsCount
from pytest_flops.counting.metric import QUANTITIES

flops = st.integers(0, 10**30)
counts = st.builds(FLOPsCount, flops, flops, flops)
factors = st.integers(0, 10**12)


@given(counts, counts, counts)
def test_counts_add_in_any_order_and_grouping(a, b, c):
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)


@given(counts)
def test_nothing_added_changes_nothing(count):
    assert count + FLOPsCount() == count
    assert count * 1 == count
    assert count * 0 == FLOPsCount()


@given(counts, st.integers(0, 20))
def test_multiplying_is_adding_repeatedly(count, times):
    assert count * times == sum([count] * times, FLOPsCount())


@given(counts, counts, factors, factors)
def test_multiplying_distributes_over_adding(a, b, m, n):
    assert (a + b) * m == a * m + b * m
    assert a * (m + n) == a * m + a * n
    assert (a * m) * n == a * (m * n)
    assert m * a == a * m


@given(counts, counts, factors)
def test_every_quantity_of_a_sum_is_the_sum_of_the_quantities(a, b, factor):
    for quantity in QUANTITIES:
        assert (a + b).of(quantity) == a.of(quantity) + b.of(quantity)
        assert (a * factor).of(quantity) == a.of(quantity) * factor


@given(flops, flops, flops)
def test_the_total_is_the_three_phases_together(forward, backward, optimizer):
    count = FLOPsCount(forward, backward, optimizer)
    assert count.total == forward + backward + optimizer
    assert [count.of(phase) for phase in PHASES] == [forward, backward, optimizer]


@given(counts)
def test_a_count_survives_json(count):
    assert FLOPsCount.from_dict(json.loads(json.dumps(count.to_dict()))) == count


@given(counts, st.sampled_from(PHASES))
def test_a_missing_phase_is_0_and_a_written_total_is_not_believed(count, phase):
    record = {**count.to_dict(), "total": 1}
    del record[phase]
    assert FLOPsCount.from_dict(record).total == count.total - count.of(phase)


def test_whole_numbers_that_another_tool_wrote_as_floats_are_read():
    record = json.loads('{"forward": 5.0, "backward": 1e+17, "optimizer": 3}')
    assert FLOPsCount.from_dict(record) == FLOPsCount(5, 10**17, 3)


@given(counts, counts)
def test_equal_counts_are_one_key(a, b):
    assert (a == b) == (a.to_dict() == b.to_dict())
    assert hash(a) == hash(FLOPsCount(**{phase: a.of(phase) for phase in PHASES}))


@pytest.mark.parametrize("other", [1, 1.0, None, (1, 2, 3), {"forward": 1}])
def test_only_counts_can_be_added(other):
    with pytest.raises(TypeError):
        FLOPsCount(1) + other
    with pytest.raises(TypeError):
        other + FLOPsCount(1)


@pytest.mark.parametrize("factor", [1.0, 0.5, "2", None, FLOPsCount(1)])
def test_only_whole_numbers_multiply(factor):
    with pytest.raises(TypeError):
        FLOPsCount(1) * factor


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("flops", [10.0, 10.9, float("nan"), float("inf"), "10", None])
def test_what_is_no_whole_number_is_refused_by_the_name_of_its_phase(phase, flops):
    with pytest.raises(TypeError, match=f"^{phase} is a whole number of FLOPs, an int, not "):
        FLOPsCount(**{phase: flops})


def test_a_count_never_changes():
    count = FLOPsCount(1, 2, 3)
    with pytest.raises(FrozenInstanceError):
        count.forward = 0
