"""The report for a job's summary and a pull request's comment."""

from __future__ import annotations

import pytest

from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.pages.markdown import render_markdown
from pytest_flops.reports.report import SessionError


def test_a_green_report_is_a_heading_and_a_table(make):
    lines = render_markdown(make.report()).splitlines()
    assert lines[0] == "## ✅ Green: the one budget holds."
    assert lines[-1] == (
        "| ✅ | `baseline` | 99.9 % of forward | 16.288 GFLOP | 32.568 GFLOP | 62.192 MFLOP "
        "| 48.918 GFLOP |"
    )


def test_a_red_report_says_what_grew_and_how_to_accept_it(make):
    text = render_markdown(make.report(make.red_entry("wide"), make.entry("a")))
    assert "- ❌ `wide` over its limit at `budgets/resnet_bk.yaml:5:3`" in text
    for line in (
        "layer\\_4.moe and layer\\_4.layernorm grew by 138.199 MFLOP in forward",
        "forward: 16.427 GFLOP, limit 16.3 GFLOP, over by 127.147 MFLOP (+0.8 %)",
        "write 16.5 GFLOP to allow it: forward, budgets/resnet\\_bk.yaml:14:16",
    ):
        assert f"\n  - {line}\n" in text


def test_what_follows_from_a_cause_is_a_number(make):
    red = [make.limit(1, component=path) for path in (None, "a", "b")]
    text = render_markdown(make.report(make.entry(verdicts=tuple(red))))
    assert "\n  - 2 comparisons follow from it; `flops.html` lists all\n" in text


def test_a_red_budget_comes_before_a_green_one(make):
    text = render_markdown(make.report(make.red_entry("wide"), make.entry("a")))
    assert text.index("| ❌ | `wide`") < text.index("| ✅ | `a`")


@pytest.mark.parametrize("max_bytes", [4_000, 60_000, 1_000_000])
def test_it_fits_whatever_the_number_of_budgets(make, max_bytes):
    red = [make.red_entry(f"red-{number}-{'é' * 60}") for number in range(300)]
    green = [make.entry(f"green-{number}") for number in range(1_000)]
    report = make.report(*red, *green, missing=[f"test_{number}" for number in range(500)])
    comparison = compare(make.report(), report)
    text = render_markdown(report, comparison=comparison, max_bytes=max_bytes)
    assert len(text.encode()) <= max_bytes
    head, _, _ = text.partition("\n")
    assert head.startswith("## ❌ Red: 300 of 1,300 budgets are over their limits: layer")
    assert head.endswith(", and 500 tests delivered nothing.")
    assert "red-0-" in text
    assert text.count("<details>") == text.count("</details>")


def test_what_has_no_room_is_counted(make):
    report = make.report(*(make.entry(f"budget-{number}") for number in range(1_000)))
    text = render_markdown(report, max_bytes=5_000)
    shown = text.count("| ✅ |")
    assert 0 < shown < 1_000
    assert f"{1_000 - shown} more are in `flops.html` and `flops.json`." in text


def test_all_but_the_first_twenty_budgets_are_folded(make):
    report = make.report(*(make.entry(f"budget-{number}") for number in range(50)))
    unfolded, folded = render_markdown(report).split("<details><summary>30 more budgets</summary>")
    assert unfolded.count("| ✅ |") == 20
    assert folded.count("| ✅ |") == 30


def test_hostile_names_stay_inside_code(make):
    name = "`|x|\n<script>alert(1)</script> @everyone"
    row = render_markdown(make.report(make.entry(name))).splitlines()[-1]
    assert "`` `\\|x\\|\\n<script>alert(1)</script> @everyone ``" in row


def test_hostile_messages_are_no_markup_mention_or_reference(make):
    errors = [SessionError("<img src=x> @everyone #1 [link](http://x) **bold**")]
    line = render_markdown(make.report(errors=errors)).splitlines()[2]
    assert "<img" not in line
    assert "@everyone" not in line
    assert "#1" not in line
    assert "\\[link\\]" in line
    assert "\\*\\*bold" in line
