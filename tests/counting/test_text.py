"""Long strings and shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.counting.text import percent, shorten


@given(st.text(), st.integers(0, 40))
def test_a_shortened_text_is_never_wider_than_asked(text, width):
    assert len(shorten(text, width)) <= width
    if len(text) <= width:
        assert shorten(text, width) == text


def test_both_ends_of_a_long_name_are_kept():
    assert shorten("tests/test_model.py::test_step", 13) == "tests..._step"


@pytest.mark.parametrize(
    ("part", "whole", "words"),
    [
        (15_728_640_000, 16_287_760_384, "96.6 %"),
        (139_264, 139_386_880, "0.10 %"),
        (1, 3, "33.3 %"),
        (1, 1, "100 %"),
        (0, 7, "0 %"),
        (999_999, 1_000_000, "99.9999 %"),
        (1_000_001, 1_000_000, "100.0001 %"),
        (10**30 - 1, 10**30, "under 100 %"),
        (10**30 + 1, 10**30, "over 100 %"),
        (1, 10**30, "over 0 %"),
        (5, 2, "250.0 %"),
        (10**309, 10, f"{10**310:,} %"),
        (5, 0, "-"),
    ],
)
def test_a_share_is_rounded_but_never_to_all_or_nothing(part, whole, words):
    assert percent(part, whole) == words
