"""What the page says, and that it says it by itself."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser

import pytest

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.metric import Costs
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.pages.card import anchor
from pytest_flops.reports.pages.html import render_html
from pytest_flops.reports.report import SessionError, build_report


class Page(HTMLParser):
    """The tags with their attributes, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._in_style = False
        self.source = text
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, _):
        self._in_style = False

    def handle_data(self, data):
        if not self._in_style:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def ids(self):
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]


@pytest.fixture
def everything(full_page):
    return Page(full_page)


def test_the_heading_and_the_title_say_what_is_red_where_and_by_how_much(make):
    page = Page(render_html(make.report(make.red_entry(), make.entry("b"))))
    verdict = "Red: layer_4.moe and layer_4.layernorm grew by 138.199 MFLOP in forward"
    assert page.text.startswith(verdict)
    assert f"✕ {verdict} 1 of 2 budgets is over its limit. baseline : forward: 16.4" in page.text
    assert next(tag for tag, _ in page.tags if tag in ("h1", "h2")) == "h1"


def test_the_red_budget_comes_first(make):
    page = Page(render_html(make.report(make.entry("aaa"), make.red_entry("zzz"))))
    articles = [attributes["id"] for tag, attributes in page.tags if tag == "article"]
    assert [name.split("-")[1] for name in articles] == ["zzz", "aaa"]


def test_nothing_is_fetched_and_nothing_runs(everything):
    for tag, attributes in everything.tags:
        assert tag not in ("script", "img", "iframe", "object", "embed", "base", "form", "link")
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
    assert "@import" not in everything.source
    assert "url(" not in everything.source


def test_every_id_is_unique_and_every_link_leads_somewhere(everything):
    ids = everything.ids()
    assert len(ids) == len(set(ids))
    fragments = [a["href"][1:] for t, a in everything.tags if t == "a" and a["href"][0] == "#"]
    assert set(fragments) <= set(ids)


def test_counts_are_there_in_every_digit_and_in_units(everything):
    for words in ("16,427,147,264", "16.427 GFLOP", "15,728,640,000", "139,264", "-127,147,264"):
        assert words in everything.text


def test_bk_core_is_found_in_the_pictures(everything):
    titles = [a.get("title") or "" for tag, a in everything.tags if tag == "label"]
    assert any("layer_0..3.bk_core x 4" in title for title in titles)
    assert "layer_0..3.bk_core 139.264 kFLOP 139,264" in everything.text


@pytest.mark.parametrize(
    "words",
    [
        "127,248,128 * seq_len",
        "agree to the last FLOP",
        "✕ aten.fft_fft (3 calls): the count is a lower bound",
        "12 kFLOP of backward repeats forward work",
        "aten.addmm",
        "total grows as seq_len^1, allowed 1",
        "1 budget is no longer held: gone",
        "total over 3 reports",
        "write 16.5 GFLOP to allow it: forward, budgets/resnet_bk.yaml:14:16",
        "published rules, counted from the configuration",
        "executed rules, metered",
        "What grew most since the record",
        "PyTorch 2.13.0",
        "layer_4 total - 417.682 MFLOP +417,682,138 new",
    ],
)
def test_it_tells(everything, words):
    assert words in everything.text


def test_every_picture_is_described_and_every_table_has_headers(everything):
    pictures = [a for _, a in everything.tags if a.get("role") == "img"]
    assert pictures
    assert all(attributes["aria-label"] for attributes in pictures)
    tables = sum(tag == "table" for tag, _ in everything.tags)
    assert sum(tag == "thead" for tag, _ in everything.tags) == tables


def test_a_budget_without_a_record_is_told_how_to_get_one(make):
    page = Page(render_html(make.report()))
    assert "Not recorded: growth below the limits goes unseen." in page.text


def test_limits_of_layers_that_cost_the_same_are_one_row(make):
    costs = {"layer_0": 139, "layer_1": 139, "layer_2": 139, "layer_3": 150}
    limits = [make.limit(140, cost, component=path) for path, cost in costs.items()]
    page = Page(render_html(make.report(make.entry(verdicts=tuple(limits)))))
    assert "✓ each of layer_0..2 forward 99.3 % 139 FLOP 139 140 FLOP" in page.text
    assert "✕ layer_3 forward 107.1 % 150 FLOP 150 140 FLOP" in page.text


def test_of_thousands_of_components_and_limits_the_largest_are_listed(make):
    parts = {f"part_{number:04}": FLOPsCount(number + 1) for number in range(3_000)}
    whole = sum(parts.values(), FLOPsCount())
    limits = [make.limit(10_000, i + 1, component=path) for i, path in enumerate(parts)]
    counted = make.measurement(whole, parts)
    page = render_html(make.report(make.entry(measurement=counted, verdicts=tuple(limits))))
    assert len(page) < 600_000
    text = Page(page).text
    assert "2700 smaller components are in flops.json" in text
    assert "2700 still less used are in flops.json" in text
    assert "part_2999 3 kFLOP 3,000" in text


def test_an_inline_budget_is_not_asked_for_a_record(make):
    assert "Not recorded" not in Page(render_html(make.report(make.entry(location=None)))).text


def test_what_is_new_since_the_record_is_remarked(make):
    remark = Verdict(
        "recorded",
        passed=True,
        component="layer_9",
        quantity="total",
        actual=5,
        recorded=0,
        message="new since the record",
    )
    held = make.limit(99, actual=5, kind="recorded")
    page = Page(render_html(make.report(make.entry(verdicts=(held, remark)))))
    assert "✓ 1 of 1 recorded counts hold. layer_9 total: new since the record" in page.text


def test_the_growth_of_a_held_component_is_told_in_numbers(make, sweep):
    growth = replace(sweep.growth[0], component="layer_3", counts=(3, 5, 10))
    held = Verdict(
        "scaling",
        passed=True,
        component="layer_3",
        quantity="forward",
        dimension="seq_len",
        actual=1.0,
        allowed=1.0,
    )
    entry = make.entry(verdicts=(held,), scaling=(replace(sweep, growth=(growth,)),))
    assert "layer_3 forward 3 FLOP 3 5 FLOP 5 10" in Page(render_html(make.report(entry))).text


def test_the_change_against_the_base_says_whether_it_is_allowed(make):
    base = make.report(environment={"commit": "0123456789abcdef"})
    head = make.report(make.red_entry(tolerance=Fraction(1, 50)))
    assert "Change against the base 012345678 " in compared(base, head)
    assert "✓ It grew, within its tolerance." in compared(base, head)
    assert "✕ It costs more than the base allows." in compared(base, make.report(make.red_entry()))
    lost = make.report(make.entry(measurement=None))
    assert "✕ The base counted it; this run did not." in compared(base, lost)


def compared(base, head):
    return Page(render_html(head, comparison=compare(base, head))).text


def test_red_scaling_comes_before_green(make, sweep):
    green, red = (
        Verdict(
            "scaling",
            passed=passed,
            quantity=quantity,
            dimension="seq_len",
            actual=1.0,
            allowed=1.0 if passed else 0.5,
        )
        for quantity, passed in (("forward", True), ("total", False))
    )
    text = Page(render_html(make.report(make.entry(verdicts=(green, red), scaling=(sweep,))))).text
    scaling = text[text.index("How it scales") :]
    assert scaling.index("✕ total grows as seq_len") < scaling.index("✓ forward grows as seq_len")


def test_what_is_red_of_every_layer_is_said_once(make):
    whole = Verdict("recorded", False, "forward", None, 36, 24, "0%", 24)
    layers = [Verdict("recorded", False, "forward", f"layer_{i}", 3, 2, "0%", 2) for i in range(12)]
    text = Page(render_html(make.report(make.entry(verdicts=layers)))).text
    assert text.count("each of layer_0..11 forward: 3 FLOP, recorded 2 FLOP") == 1
    assert "✕ Red: each of layer_0..11 forward is 3 FLOP, recorded 2 FLOP, over by 1" in text
    page = render_html(make.report(make.entry(verdicts=(whole, *layers))))
    before, fold = page.split("<summary>12 comparisons follow from it</summary>")
    assert "layer_" not in before[before.index('class="note is-red"') :]
    assert "layer_11 forward: 3 FLOP, recorded 2 FLOP" in fold[: fold.index("</details>")]


def test_missing_tests_and_errors_are_on_top(make):
    page = Page(
        render_html(
            make.report(missing=["t.py::lost"], errors=[SessionError("stale", Location("b", 1, 1))])
        )
    )
    assert page.text.index("t.py::lost") < page.text.index("Budgets")
    assert page.text.index("b:1:1 : stale") < page.text.index("Budgets")


def test_a_step_costs_by_metric_and_phase(make):
    metrics = {
        "bytes": Costs({"forward": 1500, "backward": 2500, "optimizer": 0}, {}),
        "peak_memory": Costs({"forward": 2048, "backward": 3072}, {}),
        "syncs": Costs({"forward": 0, "backward": 1}, {}),
        "parameters": Costs({"total": 9}, {}),
    }
    page = Page(render_html(make.report(make.entry(measurement=make.measurement(metrics=metrics)))))
    assert (
        "Metric forward backward optimizer total "
        "flops 16.288 GFLOP 32.568 GFLOP 62.192 MFLOP 48.918 GFLOP "
        "bytes 1.5 kB 2.5 kB 0 B 4 kB "
        "peak_memory 2.048 kB 3.072 kB 0 B 3.072 kB "
        "syncs 0 calls 1 call - 1 call "
        "parameters - - - 9 elements "
    ) in page.text
    # None of them says where.
    assert "The other metrics by component" not in page.text
    assert "Memory over the step" not in page.text


def test_each_metric_that_costs_something_has_its_flame_graph_behind_a_fold(make):
    metrics = {
        "bytes": Costs({"forward": 8}, {"a": {"forward": 6}, "a.b": {"forward": 2}}),
        "syncs": Costs({"forward": 0}, {"a": {"forward": 0}}),
        "peak_memory": make.memory(module="a"),
    }
    page = Page(render_html(make.report(make.entry(measurement=make.measurement(metrics=metrics)))))
    folds = page.text.partition("The other metrics by component:")[2]
    bytes_fold, _, memory_fold = folds.partition("peak_memory 3.072 kB alive at the peak")
    assert "syncs" not in folds.partition("What a step costs")[0]
    assert "bytes of one training step, in B; a component contains what is inside" in bytes_fold
    assert "everything 8 0 0 8 100 % a 6 0 0 6 75.0 % a.b 2 0 0 2 25.0 %" in bytes_fold
    assert "everything 3,072 100 % a 2,048 66.7 %" in memory_fold
    titles = [attributes.get("title") for _, attributes in page.tags]
    assert "a: 6 B, 75.0 %" in titles
    assert "a: 2,048 B, 66.7 %" in titles


def test_memory_over_the_step_is_drawn_with_its_peak_and_told_in_tables(everything):
    (label,) = (
        a["aria-label"]
        for _, a in everything.tags
        if "Memory" in (a.get("aria-label") or "") and a.get("role") == "img"
    )
    assert (
        label
        == "Memory over the step: the peak is 3.072 kB in backward; the tables have the numbers"
    )
    assert "peak 3.072 kB, in backward" in everything.text
    assert (
        "Kind bytes share A temporaries 2.048 kB 66.7 % B inputs 1.024 kB 33.3 %" in everything.text
    )
    assert "peak backward 2 2,048 1,024 3,072" in everything.text


def test_a_report_of_nothing_is_a_page_too():
    assert "Red: nothing was measured." in Page(render_html(build_report([]))).text


def test_hostile_names_are_text_everywhere(hostile_page):
    page = Page(hostile_page)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert not [a for t, a in page.tags if t == "a" and a["href"].startswith("javascript")]
    assert "{{ 7*7 }}" in page.text
    assert "\x00" not in page.text


def test_a_very_long_name_is_cut_in_the_page_but_not_in_the_anchor(make):
    report = make.report(make.entry("n" * 4_000))
    assert "n" * 200 not in Page(render_html(report)).text
    assert len(anchor(report.entries[0])) < 70


def test_an_anchor_depends_on_its_budget_alone(make):
    alone = make.report(make.entry("baseline"))
    among = make.report(make.entry("aaa"), make.red_entry("baseline"), make.entry("zzz"))
    anchors = {entry.budget: anchor(entry) for entry in among.entries}
    assert anchor(alone.entries[0]) == anchors["baseline"]
    assert len(set(anchors.values())) == 3


def test_of_many_budgets_all_are_there_and_only_the_worst_are_drawn(make):
    names = [f"budget-{number:03}" for number in range(100)]
    page = Page(render_html(make.report(*map(make.entry, names), make.red_entry("red"))))
    assert sum(tag == "article" for tag, _ in page.tags) == 101
    assert all(name in page.text for name in names)
    assert "Pictures are drawn for the 12 budgets that need them most" in page.text
    assert "89 more budgets" in page.text


def verdict_bars(page):
    """The widths of the bars in the table of budgets, and where their marks stand, in percent."""
    table = page.source.partition('id="all-budgets"')[2].partition("</table>")[0]
    found = re.findall(r'<i style="width:([0-9.]+)%"></i><b style="left:([0-9.]+)%">', table)
    return [tuple(map(float, pair)) for pair in found]


def test_the_bar_of_a_budget_is_that_of_the_verdict_told_first(make):
    fuller = make.limit(100, 190, component="layer_0")
    whole = make.limit(100, 150, "total", cause="layer_0 grew by 50 FLOP")
    page = Page(render_html(make.report(make.entry(verdicts=(fuller, whole)))))
    assert "✕ over its limit 150.0 % of total" in page.text
    record = Verdict("recorded", False, "total", None, 3, 2, "0%", 2)
    limits = make.limit(100, 50)
    page = Page(render_html(make.report(make.entry(verdicts=(limits, record)))))
    assert "✕ costs more than recorded 150.0 % of recorded total" in page.text
    assert verdict_bars(page) == [(100, 66.7)]


def test_growth_that_is_red_has_the_bar_and_what_is_held_stands_beside_it(make, sweep):
    def held(quantity, actual, component=None, dimension="seq_len"):
        return Verdict(
            "scaling",
            passed=actual <= 1,
            quantity=quantity,
            component=component,
            dimension=dimension,
            actual=actual,
            allowed=1.0,
        )

    verdicts = (held("total", 0.99), held("forward", 1), held("total", 1, dimension="width"))
    green = make.entry("a", verdicts=verdicts)
    red = make.entry("b", verdicts=(held("forward", 2, "mlp"), make.limit(100, 300)))
    page = Page(render_html(make.report(green, red)))
    assert "✕ grows too fast seq_len^2, allowed 1, of mlp forward seq_len^2 16.288" in page.text
    assert "✓ within budget width^1 seq_len^0.99 16.288" in page.text
    assert verdict_bars(page) == [(100, 50)]


def test_bars_of_a_table_have_one_scale(make):
    three = [make.entry(str(i), verdicts=(make.limit(100, 100 * i),)) for i in (1, 2, 3)]
    bars = verdict_bars(Page(render_html(make.report(*three))))
    assert bars == [(100, 33.3), (66.7, 33.3), (33.3, 33.3)]
    # However far one is over, the others are still to be seen.
    far = make.entry("far", verdicts=(make.limit(1, 1000),))
    assert verdict_bars(Page(render_html(make.report(*three, far)))) == [
        (100, 25),
        (75, 25),
        (50, 25),
        (25, 25),
    ]


def test_a_cause_is_told_in_full_once(make):
    cause = "layer_4 grew by 417 FLOP: aten.mm (+400 FLOP), aten.bmm (new)"
    red = [make.entry(name, verdicts=(make.limit(1, cause=cause),)) for name in "abc"]
    page = Page(render_html(make.report(*red)))
    assert page.text.count(cause) == 1
    assert page.text.count("What made it red is told above.") == 2
    assert page.text.count("layer_4 grew by 417 FLOP") == 3  # in full, the heading, the title
    more = [replace(each, measurement=make.measurement(make.BASELINE + make.LAYER)) for each in red]
    base = make.report(*map(make.entry, "abc"))
    text = compared(base, make.report(*more))
    assert text.count(cause) == 1
    assert text.index("What changed") < text.index(cause) < text.index("Budgets")


def test_what_changed_stands_first(make):
    base = make.report(make.entry("baseline"), environment={"commit": "0123456789abcdef"})
    text = compared(base, make.report(make.red_entry("baseline")))
    assert (
        "What changed since 012345678 By the size of the difference "
        "Budget Base Now Difference Less | more "
        "baseline 48.918 GFLOP 49.336 GFLOP +417.682 MFLOP +0.9 % "
        "Where it comes from, in baseline; the axis begins at 48.5 GFLOP "
        "Component total from base to now base 48.918 GFLOP layer_4 +417.682 MFLOP now 49.336 GFLOP"
    ) in text
    assert text.index("What changed") < text.index("Red first, then")


def test_a_budget_begins_with_its_size_in_a_few_words(make):
    operations = {f"aten.op{i}": FLOPsCount(i) for i in range(1, 8)}
    counted = make.measurement(
        FLOPsCount(28_672),
        {},
        source="meter",
        operations=operations,
        metrics={"parameters": Costs({"total": 4_146_120}, {})},
    )
    text = Page(render_html(make.report(make.entry(measurement=counted)))).text
    # A batch of 32 sequences of 128 tokens.
    assert (
        "parameters 4.146 M per sample 896 FLOP per token 7 FLOP dearest operators aten.op7" in text
    )
    assert "aten.op3 0.01 % " in text
    assert "aten.op2 0.0" not in text


def test_history_says_first_last_and_extremes_with_their_commits(make):
    totals = {"a": 330, "b": 320, "c": 340, "d": 340}
    past = [
        make.report(
            make.entry(measurement=make.measurement(FLOPsCount(total), {})),
            environment={"time": f"2026-11-0{day}T10:00:00", "commit": commit * 40},
        )
        for day, (commit, total) in enumerate(totals.items(), 1)
    ]
    now = make.report(make.entry(measurement=make.measurement(FLOPsCount(335), {})))
    page = Page(render_html(now, history=past))
    words = (
        "first 330 FLOP, 2026-11-01 aaaaaaaaa; last 335 FLOP, this run; "
        "least 320 FLOP, 2026-11-02 bbbbbbbbb; most 340 FLOP, 2026-11-03 ccccccccc"
    )
    labels = [a.get("aria-label") for tag, a in page.tags if "history" in (a.get("class") or "")]
    assert labels == [f"Total over 5 reports: {words}"] * 2
    assert words in page.text
    assert (
        "2026-11-02 bbbbbbbbb 320 FLOP 320 -10 FLOP -3.0 % 2026-11-03 ccccccccc 340 FLOP 340 +20"
        in page.text
    )
    assert "2026-11-04 ddddddddd 340 FLOP 340" not in page.text  # nothing changed


def test_of_many_green_budgets_the_others_are_folded_by_file(two_hundred):
    assert len(two_hundred.encode()) < 600_000
    page = Page(two_hundred)
    assert "188 more budgets budgets/a.yaml · 38 budgets, all green" in page.text
    assert sum(a.get("class") == "file" for tag, a in page.tags if tag == "details") == 4
    assert "budget-199 ✓ within budget 99.9 % of forward 48.918 GFLOP" in page.text
    fragments = [a["href"][1:] for t, a in page.tags if t == "a" and a["href"][0] == "#"]
    assert set(fragments) <= set(page.ids())
    assert len(page.ids()) == len(set(page.ids()))


def test_every_red_budget_is_drawn_up_to_thirty(make):
    red = [make.red_entry(f"red-{i:02}") for i in range(20)]
    page = Page(render_html(make.report(*red, *map(make.entry, "abc"))))
    assert sum(a.get("class") == "card is-red" for tag, a in page.tags if tag == "article") == 20
    assert "3 more budgets" in page.text
