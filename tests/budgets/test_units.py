from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.units import (
    format_amount,
    format_change,
    format_exact,
    format_flops,
    format_percent,
    parse_amount,
    parse_flops,
    parse_percent,
    parse_share,
)
from pytest_flops.counting.metric import FLOP, Unit


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        ("16.3 GFLOP", 16_300_000_000),
        ("49 GFLOP", 49 * 10**9),
        ("1_000 MFLOP", 10**9),
        ("7 FLOP", 7),
        ("1.5 kFLOP", 1500),
        ("0.1 TFLOP", 10**11),
        ("2 PFLOP", 2 * 10**15),
        ("3 GFLOPs", 3 * 10**9),
        ("3GFLOP", 3 * 10**9),
        ("  3   GFLOP ", 3 * 10**9),
        ("16287760384", 16_287_760_384),
        ("16_287_760_384", 16_287_760_384),
        (16_287_760_384, 16_287_760_384),
        (0, 0),
        ("0 FLOP", 0),
        ("+5 FLOP", 5),
    ],
)
def test_people_write_flops_in_these_ways(text, flops):
    assert parse_flops(text) == flops


def test_decimals_are_exact_where_floats_are_not():
    assert parse_flops("0.3 kFLOP") == 300
    assert parse_flops("4.35 kFLOP") == 4350  # 4.35 * 1000 is 4350.000000000001 - 1 ulp in floats
    assert parse_flops("9007199254740993 PFLOP") == 9_007_199_254_740_993 * 10**15  # 2**53 + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("16.3 gflop", ["'16.3 gflop'", 'did you mean "16.3 GFLOP"?']),
        ("5 KFLOP", ["unknown unit", 'did you mean "5 kFLOP"?']),
        ("5 mFLOP", ["unknown unit", 'did you mean "5 MFLOP"?']),
        ("16.3 G", ["unknown unit", 'did you mean "16.3 GFLOP"?']),
        ("16.3 GFLOPS", ["speed", 'did you mean "16.3 GFLOP"?']),
        ("16.3 TFLOP/s", ["speed", 'did you mean "16.3 TFLOP"?']),
        ("3 GMACs", ["multiply-adds", "2 FLOP"]),
        ("5 bananas", ["unknown unit 'bananas'"]),
        ("16.3", ["no unit", 'did you mean "16.3 GFLOP"?']),
        ("-4 GFLOP", ["'-4 GFLOP' is negative"]),
        (-5, ["-5 is negative"]),
        ("1.5 FLOP", ["is no whole number of FLOPs"]),
        ("0.0005 kFLOP", ["is no whole number of FLOPs"]),
        ("nan", ["not finite"]),
        (".inf", ["not finite"]),
        ("-Infinity GFLOP", ["not finite"]),
        (float("nan"), ["not finite"]),
        (float("inf"), ["not finite"]),
        ("1e9", ["scientific notation"]),
        ("1e9 FLOP", ["scientific notation"]),
        (1e9, ["did you mean 1000000000?"]),
        (16.3, ['did you mean "16.3 GFLOP"?']),
        (-1.5, ["negative"]),
        ("010", ["leading zero", "octal"]),
        ("12:30:00", ["colon", "base 60"]),
        ("16,287,760,384", ["did you mean 16_287_760_384?"]),
        ("16,3 GFLOP", ['did you mean "16.3 GFLOP"?']),
        ("", ["holds no number"]),
        ("lots", ["does not begin with a number"]),
        ("1.2.3 GFLOP", ["no number of FLOPs"]),
        (True, ["true is a boolean", "yes"]),
        (None, ["None is no number"]),
        ([1], ["no number of FLOPs"]),
    ],
)
def test_each_mistake_has_its_own_message_with_the_input(text, words):
    with pytest.raises(BudgetError) as caught:
        parse_flops(text)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("number", ["9" * 5000, int("9" * 4000), -(10**4200), "1" + "0" * 80])
def test_absurdly_long_numbers_are_refused_briefly(number):
    with pytest.raises(BudgetError) as caught:
        parse_flops(number)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("unit", FLOP.sizes)
@given(number=st.integers(0, 10**12))
def test_an_integer_times_a_unit_is_read_exactly(unit, number):
    assert parse_flops(f"{number} {unit}") == number * FLOP.sizes[unit]


@given(thousandths=st.integers(0, 999_999), unit=st.sampled_from(["kFLOP", "GFLOP", "PFLOP"]))
def test_three_decimals_of_a_unit_survive_format_and_parse(thousandths, unit):
    flops = thousandths * FLOP.sizes[unit] // 1000
    assert parse_flops(format_flops(flops)) == flops


@given(st.integers(0, 10**24))
def test_what_is_printed_is_within_half_a_thousandth_of_its_unit(flops):
    shown = format_flops(flops)
    unit = shown.partition(" ")[2]
    assert abs(parse_flops(shown) - flops) * 2000 <= FLOP.sizes[unit]


@pytest.mark.parametrize(
    ("flops", "shown"),
    [
        (0, "0 FLOP"),
        (999, "999 FLOP"),
        (1000, "1 kFLOP"),
        (62_191_800, "62.192 MFLOP"),
        (16_287_760_384, "16.288 GFLOP"),
        (999_999_499, "999.999 MFLOP"),
        (999_999_500, "1 GFLOP"),
        (1_500_000_000, "1.5 GFLOP"),
        (10**21, "1000000 PFLOP"),
        (-1500, "-1.5 kFLOP"),
    ],
)
def test_flops_are_printed_with_at_most_three_decimals(flops, shown):
    assert format_flops(flops) == shown


def test_exact_digits_come_with_thousands_separators():
    assert format_exact(16_287_760_384) == "16,287,760,384"


@pytest.mark.parametrize(
    ("text", "fraction"),
    [("0%", 0), ("1%", Fraction(1, 100)), ("1.5 %", Fraction(3, 200)), ("150%", Fraction(3, 2))],
)
def test_percentages_become_exact_fractions(text, fraction):
    assert parse_percent(text) == fraction


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (5, 'did you mean "5%"?'),
        (0.5, 'did you mean "0.5%"?'),
        ("5", "no percentage"),
        ("-1%", "negative"),
        ("nan%", "no percentage"),
        ("%", "no percentage"),
        ("9" * 100 + "%", "no percentage"),
        (True, "a boolean"),
        (None, "no percentage"),
    ],
)
def test_a_wrong_percentage_is_told_with_what_is_accepted(text, words):
    with pytest.raises(BudgetError) as caught:
        parse_percent(text)
    assert words in str(caught.value)
    assert '"1.5%"' in str(caught.value)


def test_a_share_is_a_percentage_of_less_than_all():
    assert parse_share("90%") == Fraction(9, 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("200%", "'200%' is no part of a limit"),
        ("100%", "no part of a limit"),
        ("0%", "no part of a limit"),
        (0.9, 'has no percent sign; did you mean "90%"?'),
        (0.125, 'did you mean "12.5%"?'),
        (90, 'did you mean "90%"?'),
        (True, "true is a boolean"),
        ("-5%", "negative"),
        ("ninety", "no percentage"),
        (float("nan"), "no percent sign"),
        (None, "no percentage"),
    ],
)
def test_a_wrong_share_is_told_with_what_is_accepted(text, words):
    with pytest.raises(BudgetError) as caught:
        parse_share(text)
    assert words in str(caught.value)
    assert 'above 0% and below 100%, e.g. "90%"' in str(caught.value)


@given(st.integers(0, 10**6), st.integers(0, 4))
def test_percentages_survive_format_and_parse(digits, decimals):
    fraction = Fraction(digits, 10 ** (decimals + 2))
    assert parse_percent(format_percent(fraction)) == fraction


BYTE = Unit(
    symbol="B",
    noun="number of bytes",
    sizes={"B": 1, "kB": 1000, "MB": 10**6, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    printed=("B", "KiB", "MiB", "GiB"),
    usual="MiB",
)


def test_a_metric_of_another_unit_is_written_and_printed_in_it():
    assert parse_amount("1.5 GiB", BYTE) == 1_610_612_736
    assert parse_amount("2 MB", BYTE) == 2_000_000
    assert format_amount(1_610_612_736, BYTE) == "1.5 GiB"
    assert format_amount(999, BYTE) == "999 B"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.5 GFLOP", ["is a number of FLOPs, not", "B, kB, MB, KiB, MiB, GiB"]),
        ("1.5 mib", ["unknown unit", 'did you mean "1.5 MiB"?']),
        ("1.5", ["has no unit", 'did you mean "1.5 MiB"?']),
        ("0.3 B", ["'0.3 B' is no whole number of bytes"]),
        ("much", ["does not begin with a number"]),
    ],
)
def test_a_wrong_unit_is_refused_in_the_words_of_the_metric(text, words):
    with pytest.raises(BudgetError) as caught:
        parse_amount(text, BYTE)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    ("difference", "base", "words"),
    [
        (45, 92, "+48.9 %"),  # 0.48913
        (1, 1_999, "+0.1 %"),  # 0.05003 %
        (1, 2_001, "+<0.1 %"),  # 0.04998 %
        (-1, 10**12, "-<0.1 %"),
        (-999_999, 1_000_000, "-99.9 %"),  # something is left
        (-7, 7, "-100.0 %"),
        (999_999, 1_000_000, "+100.0 %"),  # as good as doubled
        (12_345, 10, "+123,450.0 %"),
        (0, 5, "same"),
        (0, 0, "same"),
        (5, 0, "from 0"),
    ],
)
def test_a_change_is_rounded_but_never_to_nothing_and_never_to_all(difference, base, words):
    assert format_change(difference, base) == words
