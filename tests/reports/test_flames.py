"""The flame graphs of the page: what is drawn, how wide, in which colour; and the trace events."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.meter.meter import count_flops
from pytest_flops.counting.metric import Costs
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.pages.html import render_html
from pytest_flops.reports.pages.trace import render_trace
from pytest_flops.reports.report import build_report


@dataclass
class Box:
    style: str
    kinds: list[str]
    title: str = ""
    text: str = ""
    inside: list[Box] = field(default_factory=list)

    @property
    def width(self):
        return int(re.search(r"--w:(\d+)", self.style)[1])

    @property
    def names(self):
        return [box.text for box in self.inside]

    def walk(self):
        return [self, *(each for box in self.inside for each in box.walk())]

    def __getitem__(self, name):
        return next(box for box in self.inside if box.text.startswith(name))


class Flames(HTMLParser):
    """The flame graphs of a page: the outermost box of each, and its label."""

    def __init__(self, page):
        super().__init__()
        self.roots, self.labels, self._open, self._in_name = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "flame" in (given.get("class") or "").split():
            self.labels.append(given["aria-label"])
        elif tag == "li" and "--w" in (given.get("style") or ""):
            box = Box(given["style"], (given.get("class") or "").split())
            (self._open[-1].inside if self._open else self.roots).append(box)
            self._open.append(box)
        elif self._open and tag == "label":
            self._open[-1].title = given["title"]
        self._in_name |= bool(self._open) and tag == "span"

    def handle_endtag(self, tag):
        self._in_name &= tag != "span"
        if tag == "li" and self._open:
            self._open.pop()

    def handle_data(self, data):
        if self._in_name:
            self._open[-1].text += data


def report(components, whole=None, **changes):
    outer = [cost for path, cost in components.items() if "." not in path]
    whole = sum(outer, FLOPsCount()) if whole is None else whole
    found = Measurement(whole, components, "meter", "executed", **changes)
    return build_report([Entry("t.py::t", "t", ("t.py::t",), (Verdict("limit", True),), found)])


def drawn(*given, **changes):
    return Flames(render_html(report(*given, **changes))).roots[0]


def drawn_against(base, head):
    page = render_html(head, comparison=compare(base, head))
    return Flames(page).roots[0], page


def test_a_box_is_as_wide_as_its_share_and_parted_by_phase(make):
    root = Flames(render_html(make.report())).roots[0]
    # Of 48,917,969,080: lm_head 47,215,170,000, and four layers of 417,682,138.
    assert root.names == ["lm_head 96.5 %", "layer_0..3 x 4 3.42 %", "2 others 0.07 %"]
    assert root.width == 100_000
    assert root["lm_head"].width == 96_519
    # forward 15,728,640,000 and backward 31,457,280,000 of them
    assert root["lm_head"].style == "--w:96519;--p1:33.3%;--p2:99.9%"


def test_components_that_cost_the_same_in_every_detail_are_one_box(make):
    root = Flames(render_html(make.report())).roots[0]
    layers = root["layer_0..3 x 4"]
    assert layers.title == "layer_0..3 x 4: 1,670,728,552 FLOP, 3.42 %"
    assert layers["moe"].title == "layer_0..3.moe x 4: 1,646,653,680 FLOP, 3.37 %"


def test_a_layer_that_differs_inside_is_a_box_of_its_own():
    cost, more = FLOPsCount(10), FLOPsCount(8)
    layers = {f"layer_{i}": cost for i in range(4)}
    parts = {f"layer_{i}.{part}": more for i, part in enumerate("aaba")}
    root = drawn({**layers, **parts})
    assert root.names == ["layer_{0..1,3} x 3 75.0 %", "layer_2 25.0 %"]
    assert root["layer_2"].names == ["b 20.0 %", "itself 5.00 %"]


def test_lists_and_wrappers_are_passed_through():
    inside = {
        f"model.h.{i}{part}": FLOPsCount(cost)
        for i in range(12)
        for part, cost in {"": 8, ".mlp": 5, ".mlp.e.0": 2, ".mlp.e.1": 2, ".mlp.e": 4}.items()
    }
    root = drawn({"model": FLOPsCount(96), "model.h": FLOPsCount(96), **inside})
    assert root.names == ["model.h.0..11 x 12 100 %"]
    assert root["model"].names == ["mlp 62.5 %", "itself 37.5 %"]
    experts = root["model"]["mlp"]["e.0..1 x 2"]
    assert experts.title == "model.h.0..11.mlp.e.0..1 x 24: 48 FLOP, 50.0 %"


def test_what_is_thinner_than_a_hundredth_is_joined_and_named():
    thin = {name: FLOPsCount(3) for name in ("a", "b", "c")}
    root = drawn({"wide": FLOPsCount(990), **thin, "d": FLOPsCount(1)})
    assert root.names == ["wide 99.0 %", "4 others 1.00 %"]
    assert root["4 others"].kinds == ["others"]
    assert root["4 others"].title == "a, b, c, d: 10 FLOP, 1.00 %"
    alone = drawn({"wide": FLOPsCount(999), "a": FLOPsCount(1)})
    assert alone.names == ["wide 99.9 %", "a 0.10 %"]


@st.composite
def trees(draw):
    """Components of three levels, whose costs contain those of their children."""
    costs = {}
    for a in range(draw(st.integers(1, 4))):
        for b in range(draw(st.integers(0, 4))):
            for c in range(draw(st.integers(0, 6))):
                costs[f"p{a}.q{b}.{c}"] = draw(st.integers(0, 10**6))
            inside = sum(v for k, v in costs.items() if k.startswith(f"p{a}.q{b}."))
            costs[f"p{a}.q{b}"] = inside + draw(st.sampled_from([0, 5, 10**5]))
        inside = sum(v for k, v in costs.items() if re.fullmatch(rf"p{a}\.q\d+", k))
        costs[f"p{a}"] = inside + draw(st.sampled_from([0, 1, 10**5]))
    return {path: FLOPsCount(cost, 2 * cost) for path, cost in costs.items()}


@st.composite
def operators(draw, components):
    """Of some of the components two operators, which make up what each costs by itself."""
    own = {}
    for path, cost in components.items():
        inside = (each for name, each in components.items() if name.rpartition(".")[0] == path)
        rest = cost.forward - sum(each.forward for each in inside)
        if draw(st.booleans()):
            part = rest // draw(st.integers(1, 200))
            rest -= part
            own[path] = {
                "aten.mm": FLOPsCount(part, 2 * part),
                "aten.add": FLOPsCount(rest, 2 * rest),
            }
    return own


@given(trees(), st.data())
def test_the_boxes_inside_a_box_add_up_to_it(components, data):
    own = data.draw(operators(components))
    roots = Flames(render_html(report(components, own_operations=own))).roots
    for box in [each for root in roots for each in root.walk()]:
        if box.inside:
            assert sum(map(amount, box.inside)) == amount(box)


def amount(box):
    return int(re.search(r": ([\d,]+) FLOP", box.title)[1].replace(",", ""))


def block(i, softmax=20):
    """A layer with a child, and products, a softmax and crumbs of its own: by path."""
    components = {f"h.{i}": FLOPsCount(83 + softmax, 64), f"h.{i}.fc": FLOPsCount(32, 64)}
    own = {
        f"h.{i}": {
            "aten.bmm": FLOPsCount(50),
            "aten._softmax": FLOPsCount(softmax),
            "aten.add": FLOPsCount(1),
        },
        f"h.{i}.fc": {"aten.addmm": FLOPsCount(32), "aten.mm": FLOPsCount(0, 64)},
    }
    return components, own


def layers(*blocks, **more):
    components = {path: cost for each, _ in blocks for path, cost in each.items()}
    own = {path: costs for _, each in blocks for path, costs in each.items()}
    whole = sum((cost for path, cost in components.items() if "fc" not in path), FLOPsCount())
    return report(components, whole, own_operations=own, **more)


def test_what_a_component_costs_by_itself_are_its_operators():
    # 167 of each layer: 96 of its child, 50, 20 and 1 of its own.
    root = Flames(render_html(layers(block(0), block(1), block(2)))).roots[0]
    assert root.names == ["h.0..2 x 3 100 %"]
    layer = root["h.0..2"]
    assert layer.names == ["fc 57.5 %", "bmm 29.9 %", "_softmax 12.0 %", "add 0.60 %"]
    assert layer.kinds == []
    assert layer["bmm"].kinds == ["own"]
    assert layer["bmm"].title == "h.0..2.aten.bmm x 3: 150 FLOP, 29.9 %"
    assert layer["fc"].names == ["mm 38.3 %", "addmm 19.2 %"]
    assert layer["fc"]["mm"].style == "--w:38323;--p1:0.0%;--p2:100.0%"


def test_layers_with_other_operators_are_boxes_of_their_own_though_they_cost_the_same():
    components, own = block(1)
    own["h.1"] = {"aten.bmm": FLOPsCount(50), "aten.gelu": FLOPsCount(21)}
    root = Flames(render_html(layers(block(0), (components, own), block(2)))).roots[0]
    assert root.names == ["h.{0,2} x 2 66.7 %", "h.1 33.3 %"]
    assert root["h.1"].names == ["fc 19.2 %", "bmm 9.98 %", "gelu 4.19 %"]


def test_thin_operators_are_joined():
    own = {"a": {name: FLOPsCount(n) for name, n in (("m.x", 197), ("aten.b", 1), ("m.c", 2))}}
    root = drawn({"a": FLOPsCount(200), "d": FLOPsCount(100)}, own_operations=own)
    assert root["a"].names == ["m.x 65.7 %", "2 others 1.00 %"]
    assert root["a"]["2 others"].title == "a.m.c, a.aten.b: 3 FLOP, 1.00 %"


def test_the_whole_has_operators_too():
    own = {"": {"aten.add": FLOPsCount(4)}, "a": {"aten.mm": FLOPsCount(6)}}
    root = drawn({"a": FLOPsCount(6)}, FLOPsCount(10), own_operations=own)
    assert root.names == ["a 60.0 %", "add 40.0 %"]
    assert root["a"].names == ["mm 60.0 %"]
    assert root["add"].title == "aten.add: 4 FLOP, 40.0 %"


def test_an_operator_is_no_component_of_its_name():
    own = {"a": {"triton.k": FLOPsCount(4)}}
    root = drawn({"a": FLOPsCount(10), "a.triton": FLOPsCount(6)}, own_operations=own)
    assert root["a"].names == ["triton 60.0 %", "triton.k 40.0 %"]


def test_against_a_base_operators_say_what_grew_and_what_is_gone():
    components, own = block(1)
    # The softmax of one layer costs 30 more, and another operator takes the place of its products.
    own["h.1"] = {"aten.baddbmm": FLOPsCount(50), "aten._softmax": FLOPsCount(50)}
    own["h.1"]["aten.add"] = FLOPsCount(1)
    head = layers(block(0), ({**components, "h.1": FLOPsCount(133, 64)}, own))
    root, page = drawn_against(layers(block(0), block(1)), head)
    assert root.names == ["h.1 54.1 % (+18.0 %)", "h.0 45.9 %"]
    assert root["h.1"].names == [
        "fc 26.4 %",
        "baddbmm 13.7 % (new)",
        "_softmax 13.7 % (+150.0 %)",
        "add 0.27 %",
    ]
    assert [box.kinds for box in root["h.1"].inside] == [
        [],
        ["own", "grew"],
        ["own", "grew"],
        ["own"],
    ]
    assert [box.kinds for box in root["h.0"].inside] == [[], ["own"], ["own"], ["own"]]
    assert "Gone since the base: <code>h.1.aten.bmm</code> 50 FLOP." in page


def test_an_operator_is_not_gone_beside_its_component_nor_if_it_was_too_thin_to_be_drawn():
    own = {"a": {"aten.mm": FLOPsCount(199), "aten.relu": FLOPsCount(1)}}
    base = {"a": FLOPsCount(200), "b": FLOPsCount(9)}
    own_of_b = {"b": {"aten.add": FLOPsCount(9)}}
    new = {"a": {"aten.mm": FLOPsCount(199), "aten.gelu": FLOPsCount(4)}}
    head = report({"a": FLOPsCount(203)}, own_operations=new)
    _, page = drawn_against(report(base, own_operations=own | own_of_b), head)
    assert "Gone since the base: <code>b</code> 9 FLOP." in page


def test_against_a_base_they_are_one_box_where_one_of_the_two_has_none():
    head = layers(block(0, softmax=30))
    whole = FLOPsCount(103, 64)
    base = report({"h.0": whole, "h.0.fc": FLOPsCount(32, 64)}, whole)
    root, _ = drawn_against(base, head)
    assert root["h.0"].names == ["fc 54.2 %", "itself 45.8 % (+14.1 %)"]
    assert root["h.0"]["fc"].names == []
    root, page = drawn_against(head, base)
    assert root["h.0"].names == ["fc 57.5 %", "itself 42.5 % (-12.3 %)"]
    assert "Gone since the base" not in page


def test_a_counted_model_is_drawn_down_to_its_operators():
    model = nn.Sequential(nn.Linear(4, 8, bias=False), nn.Softmax(-1))
    found = count_flops(model, torch.ones(2, 4), training=False)
    root = Flames(
        render_html(report(found.components, found.count, own_operations=found.own_operations))
    ).roots[0]
    # 2 * 2 * 4 * 8 of the product, 5 * 16 of the softmax
    assert [root["0"].title, root["0"]["mm"].title] == [
        "0: 128 FLOP, 61.5 %",
        "0.aten.mm: 128 FLOP, 61.5 %",
    ]
    assert root["1"]["_softmax"].title == "1.aten._softmax: 80 FLOP, 38.5 %"


def test_against_a_base_boxes_say_what_grew_and_what_fell():
    base = report(
        {"a": FLOPsCount(100), "b": FLOPsCount(50), "c": FLOPsCount(30), "old": FLOPsCount(20)}
    )
    head = report(
        {"a": FLOPsCount(180), "b": FLOPsCount(30), "c": FLOPsCount(30), "new": FLOPsCount(40)}
    )
    root, page = drawn_against(base, head)
    # 200 before, 280 now; the strongest colours are those of 80 more.
    assert root.kinds == ["whole", "grew"]
    assert root.title == "everything: 280 FLOP, 100 %, +40.0 %"
    assert root.names == [
        "a 64.3 % (+80.0 %)",
        "new 14.3 % (new)",
        "b 10.7 % (-40.0 %)",
        "c 10.7 %",
    ]
    assert [box.kinds for box in root.inside] == [["grew"], ["grew"], ["fell"], []]
    assert [re.findall(r"--i:(\d+)%", box.style) for box in root.inside] == [
        ["100"],
        ["50"],
        ["25"],
        [],
    ]
    assert "Gone since the base: <code>old</code> 20 FLOP." in page
    assert "a 64.3 % (+80.0 %), new 14.3 % (new)" in Flames(page).labels[0]


def test_what_costs_nothing_any_more_is_gone():
    parts = {f"h.{i}{part}": FLOPsCount(5) for i in range(3) for part in ("", ".x")}
    base = report({"a": FLOPsCount(9), "z": FLOPsCount(2), **parts}, FLOPsCount(26))
    head = report({"a": FLOPsCount(9), "z": FLOPsCount(0)})
    _, page = drawn_against(base, head)
    assert "<code>z</code> 2 FLOP, <code>h.0..2 x 3</code> 15 FLOP." in page


def test_a_layer_that_grew_is_not_drawn_with_those_that_did_not():
    layers = {f"layer_{i}": FLOPsCount(10) for i in range(4)}
    root, page = drawn_against(report({**layers, "layer_1": FLOPsCount(9)}), report(layers))
    assert root.names == ["layer_{0,2..3} x 3 75.0 %", "layer_1 25.0 % (+11.1 %)"]
    assert "Gone since the base" not in page


def test_where_nothing_changed_the_phases_are_drawn():
    same = report({"a": FLOPsCount(1, 2, 1)})
    root, page = drawn_against(same, same)
    assert root["a"].kinds == []
    assert root["a"].style == "--w:100000;--p1:25.0%;--p2:75.0%"
    assert "As wide as it is now" not in page


def test_of_a_peak_it_is_drawn_what_was_alive_then():
    # Peaks do not add up: 10 and 9 are no parts of 12. What was alive at the peak is.
    peaks = {"a": {"forward": 10}, "b": {"forward": 9}}
    alive = {"kinds": {"inputs": 4, "temporaries": 8}, "modules": {"a": 6, "b": 3}}
    metrics = {"peak_memory": Costs({"forward": 12}, peaks, alive)}
    roots = Flames(render_html(report({"a": FLOPsCount(1)}, metrics=metrics))).roots
    assert roots[1].names == ["a 50.0 %", "b 25.0 %", "itself 25.0 %"]


def test_a_peak_against_its_base_has_the_colours_of_what_was_alive():
    def peak(whole, **modules):
        alive = {"kinds": {"temporaries": whole}, "modules": modules}
        metrics = {"peak_memory": Costs({"forward": whole}, {}, alive)}
        return report({"a": FLOPsCount(1)}, metrics=metrics)

    base, now = peak(40, a=10, b=20, gone=5), peak(40, a=15, b=20, new=5)
    page = render_html(now, comparison=compare(base, now))
    peaks = Flames(page).roots[1]
    assert peaks.names == ["b 50.0 %", "a 37.5 % (+50.0 %)", "new 12.5 % (new)"]
    assert [box.kinds for box in peaks.inside] == [[], ["grew"], ["grew"]]
    assert "Gone since the base: <code>gone</code> 5 B" in page
    same = render_html(now, comparison=compare(now, now))
    assert Flames(same).roots[1].names == ["b 50.0 %", "a 37.5 %", "new 12.5 %"]


def test_every_metric_is_drawn_in_its_own_phases():
    by_phase = Costs({"forward": 5, "backward": 3}, {"a": {"forward": 4}, "b": {"backward": 3}})
    metrics = {"syncs": by_phase, "parameters": Costs({"total": 9}, {"a": {"total": 9}})}
    page = Flames(render_html(report({"a": FLOPsCount(1)}, metrics=metrics)))
    assert page.labels[1] == (
        "syncs by component: a 50.0 %, b 37.5 %, itself 12.5 %; the table below has all"
    )
    _, syncs, parameters = page.roots
    assert syncs.style == "--w:100000;--p1:62.5%"
    assert parameters["a"].style == "--w:100000"


def test_the_table_has_a_row_for_components_that_cost_the_same():
    parts = {f"h.{i}": FLOPsCount(i // 2, 1) for i in range(4)}
    page = render_html(report({**parts, "{x}": FLOPsCount(7)}, FLOPsCount(9, 4)))
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th>.*<td class="n">(.*)</td></tr>', page)
    assert [row for row in rows if row[1].endswith("%")] == [
        ("everything", "100 %"),  # 13
        ("h.0..1", "7.69 %"),
        ("h.2..3", "15.4 %"),
        ("{x}", "53.8 %"),
    ]


def test_names_are_text():
    name = "<script>alert(1)</script>\"'"
    page = render_html(report({name: FLOPsCount(1)}))
    assert "<script" not in page
    assert Flames(page).roots[0].names == [f"{name} 100 %"]


def test_one_box_of_each_picture_is_chosen_to_begin_with(full_page):
    boxes = re.findall(r'<input type="radio" name="([^"]+)"( checked)?>', full_page)
    pictures = {name for name, _ in boxes}
    assert len(pictures) > 3
    assert sorted(name for name, checked in boxes if checked) == sorted(pictures)


def test_trace_events_nest_and_add_up_to_the_total():
    components = {
        "a": FLOPsCount(6, 8, 1),
        "a.x": FLOPsCount(4, 8),
        "a.y": FLOPsCount(1),
        "b": FLOPsCount(2),
    }
    metrics = {"parameters": Costs({"total": 9}, {"a": {"total": 7}})}
    found = report(components, FLOPsCount(10, 9, 1), metrics=metrics)
    events = json.loads(render_trace(found))["traceEvents"]
    names = [(e["name"], e["args"]["name"]) for e in events if e["ph"] == "M"]
    assert names == [
        ("process_name", "t"),
        ("thread_name", "FLOPs (FLOP, 1 per µs)"),
        ("thread_name", "parameters (elements, 1 per µs)"),
    ]
    calls = [(e["tid"], e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    assert calls == [
        (101, "forward", 0, 10),
        (101, "a", 0, 6),
        (101, "x", 0, 4),
        (101, "y", 4, 1),
        (101, "b", 6, 2),
        (101, "backward", 10, 9),
        (101, "a", 10, 8),
        (101, "x", 10, 8),
        (101, "optimizer", 19, 1),
        (101, "a", 19, 1),
        (102, "total", 0, 9),
        (102, "a", 0, 7),
    ]


def test_trace_events_go_down_to_operators():
    events = json.loads(render_trace(layers(block(0))))["traceEvents"]
    calls = [(e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    assert calls == [
        ("forward", 0, 103),
        ("h.0", 0, 103),
        ("fc", 0, 32),
        ("aten.addmm", 0, 32),
        ("aten.bmm", 32, 50),
        ("aten._softmax", 82, 20),
        ("aten.add", 102, 1),
        ("backward", 103, 64),
        ("h.0", 103, 64),
        ("fc", 103, 64),
        ("aten.mm", 103, 64),
        ("optimizer", 167, 0),
    ]


@pytest.mark.parametrize(("flops", "size"), [(10**15, 1), (10**15 + 1, 1000), (3 * 10**21, 10**9)])
def test_a_long_trace_is_in_larger_units(flops, size):
    found = report({"a": FLOPsCount(flops - 1)}, FLOPsCount(flops))
    events = json.loads(render_trace(found))["traceEvents"]
    assert events[1]["args"]["name"] == f"FLOPs (FLOP, {size:,} per µs)"
    calls = {e["name"]: e["dur"] for e in events if e["ph"] == "X"}
    assert (calls["forward"], calls["a"]) == (flops // size, (flops - 1) // size)
