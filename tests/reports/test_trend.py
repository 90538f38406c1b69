"""The page of a trend: many reports in, what moved and which commit moved it out."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.metric import METRICS, Costs
from pytest_flops.counting.workload import Workload
from pytest_flops.reports.history import History, keep, load_reports
from pytest_flops.reports.pages.trend import render_trend


@pytest.fixture
def run(make):
    """A report of a day: the FLOPs of each budget, or its entry."""

    def build(day, commit="", torch="2.13.0", **budgets):
        entries = [
            entry_of(make, name, cost) if isinstance(cost, int) else cost
            for name, cost in budgets.items()
        ]
        environment = {
            "time": f"2026-01-{day:02}T10:00:00+00:00",
            "commit": commit * 40 or None,
            "torch": torch,
        }
        return make.report(*entries, environment=environment)

    return build


def entry_of(make, name, flops, workload=None, **metrics):
    costs = {
        metric: Costs({"forward" if METRICS[metric].phases else "total": cost}, {})
        for metric, cost in metrics.items()
    }
    found = make.measurement(FLOPsCount(flops), {}, metrics=costs)
    return make.entry(name, measurement=found, workload=workload)


def told(*runs, left_out=()):
    page = render_trend(History(runs, left_out))
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", page, flags=re.S)
    return " ".join(html.unescape(text).split())


def test_the_largest_move_comes_first_whichever_way_and_however_late(run):
    text = told(
        run(1, "a", small=1000, large=10**9),
        run(2, "b", small=1000, large=10**9 + 10**7),  # +1.0 %
        run(3, "c", small=700, large=10**9 + 10**7),  # -30.0 %
    )
    assert "1 of 2 budgets grew, large: +1.0 % 1 of 2 budgets fell, small: -30.0 %" in text
    third = text.index("2026-01-03 ccccccccc moved small : -30.0 %")
    second = text.index("2026-01-02 bbbbbbbbb moved large : +1.0 %")
    assert third < second
    table = text[text.index("moved most by") :]
    assert table.index("small budgets/") < table.index("large budgets/")


def test_what_went_up_and_came_back_is_no_growth_and_is_told(run):
    text = told(run(1, "a", b=100), run(2, "b", b=150), run(3, "c", b=100))
    assert "No budget grew or fell" in text
    assert "2026-01-02 bbbbbbbbb moved b : +50.0 %" in text
    assert "2026-01-03 ccccccccc moved b : -33.3 %" in text
    assert "100 FLOP 100 FLOP 150 FLOP 100 FLOP same 2026-01-02 bbbbbbbbb +50.0 %" in text


def test_a_budget_that_came_went_or_was_away_is_told_so(run):
    text = told(
        run(1, "a", gone=10, away=10),
        run(2, "b", gone=10, new=10),
        run(3, "c", gone=10, new=10, away=10),
        run(4, "d", new=10, away=10),
    )
    assert "2026-01-02 bbbbbbbbb new: new" in text
    assert "2026-01-04 ddddddddd gone: gone" in text
    assert "New in 2026-01-02 bbbbbbbbb." in text
    assert "Gone since 2026-01-04 ddddddddd." in text
    assert "Not measured in 1 of the reports in between." in text
    assert not re.search("moved (gone|new|away)", text)


def test_a_move_after_reports_without_a_count_may_be_of_what_came_before(run):
    text = told(run(1, "a", b=100), run(2, "b", c=1), run(3, "c", b=150))
    moved = "2026-01-03 ccccccccc moved b : +50.0 %"
    assert f"{moved} (or what came before it: 1 report has no count)" in text


def test_a_move_by_another_workload_or_another_pytorch_says_so(run, make):
    small, large = (Workload("gpt", {"layers": n}) for n in (2, 4))
    text = told(
        run(1, "a", g=entry_of(make, "g", 100, small), h=100),
        run(2, "b", g=entry_of(make, "g", 200, large), h=100),
        run(3, "c", g=entry_of(make, "g", 200, large), h=101, torch="2.14.0"),
    )
    assert "Another workload in 2026-01-02 bbbbbbbbb: config.layers 2 → 4." in text
    assert "moved h : +1.0 % counted with: torch 2.13.0 → 2.14.0" in text


def test_the_metric_that_moved_most_stands_for_its_budget(run, make):
    text = told(
        run(1, "a", m=entry_of(make, "m", 100, peak_memory=1000, syncs=0)),
        run(2, "b", m=entry_of(make, "m", 101, peak_memory=1500, syncs=0)),
    )
    assert "m peak_memory grew: +50.0 %" in text
    assert "moved m peak_memory : +50.0 %" in text
    assert "1 kB 1 kB 1.5 kB 1.5 kB +50.0 % FLOPs +1.0 %" in text
    assert "peak_memory over 2 reports" in text
    assert "FLOPs over 2 reports" in text
    assert "syncs" not in text  # it did not move


def test_growth_from_nothing_comes_first_and_is_told_as_it_is(run, make):
    before, after = (entry_of(make, "m", 100, syncs=n) for n in (0, 3))
    text = told(run(1, "a", m=before, n=100), run(2, "b", m=after, n=900))
    assert "2 of 2 budgets grew, most of all m syncs: +3 calls" in text
    assert "moved 2 budgets, the largest +3 calls : m syncs then n +800.0 %" in text


def test_metrics_of_the_compiler_are_compared_within_one_version_alone(run, make):
    few, many = (entry_of(make, "m", 100, kernels=n) for n in (5, 9))
    text = told(run(1, "a", m=few), run(2, "b", m=many, torch="2.14.0"))
    assert "No budget grew or fell" in text
    text = told(run(1, "a", m=few), run(2, "b", m=many))
    assert "m kernels grew: +80.0 %" in text


def test_runs_without_a_commit_are_told_by_their_time(run):
    text = told(run(1, b=100), run(2, b=101))
    assert "2 reports · 2026-01-01 10:00 to 2026-01-02 10:00" in text
    assert "2026-01-02 10:00 moved b : +1.0 %" in text


def test_one_report_is_no_trend_yet(run):
    text = told(run(1, "a", b=100))
    assert "1 report · 2026-01-01 aaaaaaaaa One report: a trend begins with the second" in text
    assert "100 FLOP -" in text
    assert "In one report alone." in text


def test_what_is_left_out_is_told(run):
    text = told(run(1, "a", b=100), left_out=["x.json is no file.", "<y.json> is no report."])
    assert "2 files are left out x.json is no file. <y.json> is no report." in text


def test_files_that_are_no_reports_are_left_out_with_the_reason(run, tmp_path):
    kept = keep(run(1, "a", b=100), tmp_path)
    for name, text in {
        "broken.json": '{"format": "pytest-flops report", ',
        "badge.json": '{"schemaVersion": 1}',
        "newer.json": '{"format": "pytest-flops report", "version": 99}',
        "wrong.json": kept.read_text().replace('"forward": 100', '"forward": "many"'),
    }.items():
        (tmp_path / name).write_text(text)
    found = load_reports(sorted(tmp_path.glob("*.json")))
    assert len(found.reports) == 1
    for words, why in zip(
        ("is not a report", "not complete JSON", "newer pytest-flops", "breaks the schema"),
        found.left_out,
        strict=True,
    ):
        assert words in why


def test_a_copy_of_a_report_is_there_once(run, tmp_path):
    for name, report in {
        "a.json": run(1, "a", b=100),
        "copy.json": run(1, "a", b=100),
        "again.json": run(2, "a", b=100),
    }.items():
        (tmp_path / name).write_bytes(keep(report, tmp_path / "of-day").read_bytes())
    found = load_reports(tmp_path.glob("*.json"))
    assert [report.environment["time"][:10] for report in found.reports] == [
        "2026-01-01",
        "2026-01-02",
    ]


def test_of_many_budgets_those_that_moved_are_drawn_and_the_others_folded_by_file(run, make):
    def entries(moved):
        for number in range(30):
            cost = 100 + (moved if number < 14 else 0)
            found = entry_of(make, f"b{number:02}", cost + number)
            yield f"b{number}", replace(found, subject=f"{'xy'[number % 2]}.yaml::b{number:02}")

    text = told(run(1, "a", **dict(entries(0))), run(2, "b", **dict(entries(50))))
    assert "18 more budgets x.yaml · 9 budgets, 1 moved" in text
    assert "y.yaml · 9 budgets, 1 moved" in text


def test_numbers_of_any_size_have_a_place(run):
    text = told(run(1, "a", b=1, c=10**400), run(2, "b", b=10**400, c=10**400 + 1))
    assert "c" in text
    assert "+<0.1 %" in text


@pytest.mark.long
def test_a_hundred_reports_of_two_hundred_budgets_are_a_page_below_two_megabytes(run):
    runs = [
        run(1, f"{day:03}", **{f"b{n}": 10**12 + hash((day, n)) % 10**12 for n in range(200)})
        for day in range(100)
    ]
    assert len(render_trend(History(tuple(runs))).encode()) < 2_000_000
