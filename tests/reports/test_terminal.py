"""The terminal section."""

from __future__ import annotations

import pytest

from pytest_flops.budgets.budget import Location
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.text import shorten_name
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.pages.terminal import terminal_lines
from pytest_flops.reports.report import SessionError


def texts(*arguments, **options):
    return [text for text, _ in terminal_lines(*arguments, **options)]


@pytest.fixture
def red(make):
    return make.report(make.red_entry("wide"), make.entry("baseline"))


def test_the_table_holds_verdict_limit_and_every_quantity(make):
    header, row, last = texts(make.report(), width=120)
    assert header.split()[0] == "budget"
    assert row.split("  ")[:2] == ["baseline", "within budget"]
    for cell in ("99.9 % of forward", "16.288 GFLOP", "32.568 GFLOP", "62.192 MFLOP"):
        assert cell in row
    assert last == "Green: the one budget holds."


def test_red_comes_first_with_its_reason(red):
    lines = texts(red, width=120)
    assert lines[1].startswith("wide")
    assert lines[2] == "  layer_4.moe and layer_4.layernorm grew by 138.199 MFLOP in forward"
    assert lines[3].endswith("over by 127.147 MFLOP (+0.8 %)")
    assert lines[4].startswith("baseline")
    assert lines[-1].startswith("Red: 1 of 2 budgets is over its limit")


def test_red_and_green_are_marked_and_also_said_in_words(red):
    markup = {text.split("  ")[0]: mark for text, mark in terminal_lines(red, width=120)}
    assert markup["wide"] == {"red": True}
    assert markup["baseline"] == {"green": True}
    assert "over its limit" in texts(red)[1]


def test_quiet_is_one_line(red):
    (line,) = texts(red, verbosity=-1)
    assert line.startswith("Red: 1 of 2")


def test_verbose_adds_every_component_under_a_head_and_above_a_total(make):
    lines = texts(make.report(), verbosity=1, width=120)
    (head,) = [line for line in lines if line.strip().startswith("lm_head")]
    # 15,728,640,000 + 31,457,280,000 + 29,250,000
    assert head.split()[1::2] == ["15.729", "31.457", "29.25", "47.215"]
    names = [line.split()[0] for line in lines]
    assert names.index("layer_0.moe") == names.index("layer_0") + 2
    assert names.index("component") < names.index("embedding") < names.index("total")
    assert lines[names.index("total")].split()[1] == "16.288"


def test_the_decimal_points_of_a_column_stand_below_each_other(make):
    small = make.entry("small", measurement=make.measurement(FLOPsCount(80, 12_500, 0)))
    _, *rows, _ = texts(make.report(make.entry(), small), width=120)
    cells = [("16.288 GFLOP", "80     FLOP"), ("32.568 GFLOP", "12.5   kFLOP")]
    for one, other in cells:
        assert rows[0].index(one) == rows[1].index(other)


def test_what_follows_is_a_number_and_verbose_lists_it(make):
    red = tuple(make.limit(1, component=path) for path in (None, "a", "b"))
    report = make.report(make.entry(verdicts=red))
    assert "  2 comparisons follow from it; -v shows all" in texts(report)
    verbose = texts(report, verbosity=1)
    assert [line[:14] for line in verbose if "limit 1 FLOP" in line] == [
        "  forward: 16.",
        "    a forward:",
        "    b forward:",
    ]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_what_made_it_red_is_wrapped_and_names_stay_whole(make, width):
    cause = f"{'n' * 50} grew by 1 MFLOP: {', '.join(['aten.convolution_backward (new)'] * 9)}"
    entry = make.entry(verdicts=(make.limit(1, cause=cause),))
    *lines, _ = texts(make.report(entry), width=width)
    assert max(map(len, lines)) <= width
    assert cause in " ".join(line.strip() for line in lines)


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (26, "tests/a.py::test_the_model"),
        (25, "a.py::test_the_model"),
        (19, "test_the_model"),
        (13, "test_...model"),
    ],
)
def test_a_tests_name_loses_its_folder_then_its_file_then_its_middle(width, shown):
    assert shorten_name("tests/a.py::test_the_model", width) == shown


REMARK = "  2 child processes started meanwhile; what they computed is counted by nobody"


@pytest.mark.parametrize("verbosity", [0, 1])
def test_child_processes_that_nobody_counted_are_a_remark(make, verbosity):
    found = make.report(make.entry(measurement=make.measurement(child_processes=2)))
    assert REMARK in texts(found, verbosity=verbosity)


def test_an_entry_with_a_remark_is_shown_however_many_there_are(make):
    quiet = [make.entry(f"b{number}") for number in range(30)]
    far = make.entry("far", verdicts=(make.limit(10**15),))  # the emptiest limit: the last
    lines = texts(make.report(*quiet, far))
    (place,) = [place for place, line in enumerate(lines) if line.startswith("far ")]
    assert lines[place + 1].startswith("  the limit of ")
    assert "and 10 more within budget; -v shows them" in lines


@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 100, 200])
def test_no_row_of_the_table_is_wider_than_the_terminal(make, width):
    report = make.report(make.entry("n" * 300), make.entry("short"))
    assert max(map(len, texts(report, width=width))) <= width


@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 100, 200])
def test_no_row_of_the_components_is_wider_than_the_terminal(make, width):
    components = {"n" * 300: make.LAYER, "n" * 300 + ".inner": make.LAYER}
    entry = make.entry(measurement=make.measurement(components=components))
    lines = texts(make.report(entry), width=width, verbosity=1)
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [40, 80])
def test_the_total_is_kept_longest_when_room_is_scarce(make, width):
    assert "48.918 GFLOP" in texts(make.report(), width=width)[1]


def test_of_many_green_budgets_twenty_are_shown_and_the_rest_counted(make):
    report = make.report(*(make.entry(f"budget-{number}") for number in range(50)))
    lines = texts(report)
    assert sum(line.startswith("budget-") for line in lines) == 20
    assert "and 30 more within budget; -v shows them" in lines
    assert sum(line.startswith("budget-") for line in texts(report, verbosity=1)) == 50


def test_every_red_budget_is_shown(make):
    red = [make.red_entry(f"red-{number}") for number in range(30)]
    lines = texts(make.report(*red, make.entry("green")))
    assert sum(line.startswith("red-") for line in lines) == 30
    assert "and 1 more within budget; -v shows them" in lines


def test_errors_and_missing_tests_are_told(make):
    report = make.report(
        errors=[SessionError("stale", Location("budgets/a.yaml", 3, 1))], missing=["t.py::test_x"]
    )
    lines = texts(report)
    assert "error: budgets/a.yaml:3:1: stale" in lines
    assert "error: t.py::test_x delivered nothing" in lines


def test_changes_against_a_base_are_told(make):
    head = make.report(make.red_entry())
    lines = texts(head, width=120, comparison=compare(make.report(), head))
    assert "against the base:" in lines
    assert "    layer_4 total new: 417,682,138 FLOP" in lines


def test_control_characters_of_names_do_not_reach_the_terminal(make):
    report = make.report(make.entry("\x1b[31mred\x07\n"), missing=["\x1b[2J"])
    for verbosity in (-1, 0, 1):
        assert all(text.isprintable() for text in texts(report, verbosity=verbosity))


def test_a_marked_test_of_a_files_budget_is_told_from_the_budgets_own_items():
    place = Location("b.yaml", 3, 3)
    entries = [
        Entry(subject=subject, budget="step", tests=(subject,), verdicts=(), location=place)
        for subject in ("b.yaml::step", "test_model.py::test_one")
    ]
    assert [entry.title for entry in entries] == ["step", "step in test_one"]
