"""Findings of made-up tests; the figures are those of the published ResNet-BK baseline."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import Costs
from pytest_flops.counting.workload import Workload
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.history import History
from pytest_flops.reports.pages.html import render_html
from pytest_flops.reports.pages.trend import render_trend
from pytest_flops.reports.report import Report, SessionError, build_report
from pytest_flops.scaling.sweep import Growth, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

BASELINE = FLOPsCount(16_287_760_384, 32_568_016_896, 62_191_800)
LAYER = FLOPsCount(139_386_880, 277_291_008, 1_004_250)
COMPONENTS = {
    "embedding": FLOPsCount(262_144, 262_144, 28_922_880),
    **{f"layer_{i}": LAYER for i in range(4)},
    **{
        f"layer_{i}.{part}": cost
        for i in range(4)
        for part, cost in {
            "layernorm": FLOPsCount(1_310_720, 1_310_720, 1_920),
            "moe": FLOPsCount(136_888_320, 273_776_640, 998_460),
            "v_proj": FLOPsCount(0, 0, 975),
            "bk_core": FLOPsCount(139_264, 106_496, 0),
            "output_proj": FLOPsCount(1_048_576, 2_097_152, 2_880),
        }.items()
    },
    "final_layernorm": FLOPsCount(1_310_720, 1_310_720, 1_920),
    "lm_head": FLOPsCount(15_728_640_000, 31_457_280_000, 29_250_000),
}
FILE = "budgets/resnet_bk.yaml"
FORWARD_GROWTH = Growth(
    component=None,
    quantity="forward",
    counts=(16_287_760_384, 32_575_520_768, 65_151_041_536),
    fitted=1.0,
    fit_error=0.0,
    local=(1.0, 1.0),
    asymptotic=1,
    polynomial="127,248,128 * seq_len",
)
SWEEP = Sweep("seq_len", (128, 256, 512), (FORWARD_GROWTH,))
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{ 7*7 }} \x00\u202e"


def memory(calls: int = 3, kind: str = "inputs", module: str = "layer_0") -> Costs:
    """A peak of 3,072 bytes in the second call, of a curve of so many."""
    sizes = [1024, 2048, *[512] * (calls - 2)]
    curve = {
        "calls": [*range(1, calls + 1)],
        "phases": ["forward", *["backward"] * (calls - 1)],
        "kinds": {kind: [1024] * calls, "optimizer state": [0] * calls, "temporaries": sizes},
    }
    alive = {kind: 1024, "optimizer state": 0, "temporaries": 2048}
    details = {"kinds": alive, "modules": {module: 2048}, "curve": curve}
    return Costs({"forward": 2048, "backward": 3072}, {module: {"forward": 2048}}, details)


def measurement(
    count: FLOPsCount = BASELINE, components: Mapping[str, FLOPsCount] = COMPONENTS, **changes: Any
) -> Measurement:
    return replace(Measurement(count, components, "analytic", "published"), **changes)


def limit(
    allowed: int, actual: int = BASELINE.forward, quantity: str = "forward", **changes: Any
) -> Verdict:
    verdict = Verdict(
        "limit",
        passed=actual <= allowed,
        quantity=quantity,
        actual=actual,
        allowed=allowed,
        location=Location(FILE, 14, 16),
    )
    return replace(verdict, **changes)


def entry(name: str = "baseline", item: str = "limits", **changes: Any) -> Entry:
    """What one item of a budget file found: green, with a limit of 16.3 GFLOP on forward."""
    subject = f"{FILE}::{name}"
    found = Entry(
        subject=subject,
        budget=name,
        tests=(f"{subject}::{item}",),
        verdicts=(limit(16_300_000_000),),
        measurement=measurement(),
        workload=Workload("resnet_bk", {"d_model": 64}, batch_size=32, seq_len=128),
        location=Location(FILE, 5, 3),
    )
    return replace(found, **changes)


def red_entry(name: str = "baseline", **changes: Any) -> Entry:
    """The regression of a fifth layer: forward is 127,147,264 FLOP over 16.3 GFLOP."""
    count = BASELINE + LAYER
    grown = limit(
        16_300_000_000,
        count.forward,
        parts=(("layer_4.moe", 136_888_320, 136_888_320), ("layer_4.layernorm", 1310720, 1310720)),
        cause="layer_4.moe and layer_4.layernorm grew by 138.199 MFLOP in forward",
    )
    components = {**COMPONENTS, "layer_4": LAYER}
    return entry(name, verdicts=(grown,), measurement=measurement(count, components), **changes)


def report(*entries: Entry, **changes: Any) -> Report:
    return build_report(entries or [entry()], **changes)


@pytest.fixture
def make() -> Make:
    return Make()


class Make:
    """The functions above, for tests."""

    BASELINE, LAYER, COMPONENTS = BASELINE, LAYER, COMPONENTS
    measurement: Callable[..., Measurement] = staticmethod(measurement)
    memory: Callable[..., Costs] = staticmethod(memory)
    limit: Callable[..., Verdict] = staticmethod(limit)
    entry: Callable[..., Entry] = staticmethod(entry)
    red_entry: Callable[..., Entry] = staticmethod(red_entry)
    report: Callable[..., Report] = staticmethod(report)


@pytest.fixture
def sweep() -> Sweep:
    return SWEEP


@pytest.fixture
def full_page() -> str:
    """A page with every section: red and green, scaling, parity, base, history, meter."""
    scaling = Verdict(
        "scaling", passed=True, quantity="total", dimension="seq_len", actual=1.0, allowed=1.0
    )
    parity = Verdict("parity", passed=True, quantity="total", actual=7, allowed=7)
    metered = measurement(
        source="meter",
        rules="executed",
        uncounted={"aten.fft_fft": 3},
        child_processes=2,
        operations={"aten.addmm": FLOPsCount(5, 6, 7)},
        own_operations={
            "lm_head": {
                "aten.addmm": FLOPsCount(15_728_640_000),
                "aten.mm": FLOPsCount(0, 31_457_280_000),
                "aten.add_": FLOPsCount(0, 0, 29_250_000),
            }
        },
        recomputed=12_000,
        metrics={
            "bytes": Costs({"forward": 7}, {"layer_0": {"forward": 5}}),
            "peak_memory": memory(9),
        },
    )
    found = report(
        red_entry("wide"),
        entry("baseline"),
        entry("baseline", "scaling", verdicts=(scaling,), scaling=(SWEEP,)),
        entry("baseline", "parity", verdicts=(parity,), measurement=None),
        entry("metered", measurement=metered),
        environment={"commit": "abc", "ci_run": "https://ci.example.org/1", "torch": "2.13.0"},
    )
    gone = entry("gone", workload=Workload("gone"))
    base = report(entry("wide"), entry("baseline"), entry("metered", measurement=metered), gone)
    past = [report(environment={"time": f"2026-11-0{day}"}) for day in (1, 2)]
    return render_html(found, comparison=compare(base, found), history=past)


@pytest.fixture
def hostile_page() -> str:
    """A page whose every name wants to run a script, and is long besides."""
    name = HOSTILE + "n" * 4_000
    metered = measurement(
        FLOPsCount(3, 2, 1),
        {name: FLOPsCount(3, 2, 1), f"{name}.x": FLOPsCount(1, 0, 0)},
        source="meter",
        uncounted={name: 1},
        operations={name: FLOPsCount(1)},
        own_operations={name: {name: FLOPsCount(2, 2, 1)}},
        metrics={
            "bytes": Costs({"forward": 7}, {name: {"forward": 5}}),
            "peak_memory": memory(9, name, name),
        },
    )
    place = Location(name, 1, 1)
    red = limit(1, 3, component=name, location=place, parts=((name, 3, 2),), pattern=name)
    found = entry(
        name,
        name,
        verdicts=(red, Verdict("error", passed=False, message=name)),
        measurement=metered,
        workload=Workload(name, {name: name}),
        location=place,
        scaling=(replace(SWEEP, dimension=name),),
    )
    everywhere = report(
        found,
        environment={name: name, "ci_run": "javascript:alert(1)"},
        errors=[SessionError(name, place)],
        missing=[name],
    )
    comparison = compare(everywhere, everywhere)
    return render_html(everywhere, comparison=comparison, history=[replace(everywhere)])


@pytest.fixture
def trend_page() -> str:
    return trend_of(9)


@pytest.fixture
def long_trend_page() -> str:
    """The same with budgets that are folded."""
    return trend_of(20)


def trend_of(number: int) -> str:
    """The page of a trend: budgets and metrics that moved, came and went, with a file left out.

    The name of one budget wants to run a script.
    """

    def run(day: int, names: Iterable[str], **moved: int) -> Report:
        entries = [
            entry(
                name,
                measurement=measurement(
                    FLOPsCount(10**9 + moved.get(name, 0)),
                    {},
                    metrics={"syncs": Costs({"forward": moved.get("syncs", 0)}, {})},
                ),
            )
            for name in names
        ]
        environment = {"time": f"2026-11-{day:02}T10:00:00", "commit": f"{day:02}" * 20}
        return report(*entries, environment=environment)

    names = [f"budget-{i:02}" for i in range(number)]
    hostile = HOSTILE + "n" * 4_000
    runs = (
        run(1, names),
        run(2, [*names, hostile], **{"budget-03": 10**8, "budget-07": -(10**7)}),
        run(3, [*names[1:], hostile], **{"budget-03": 10**8, hostile: 7, "syncs": 2}),
        run(4, [*names[1:], hostile], **{hostile: 7, "syncs": 2}),
    )
    return render_trend(History(runs, (f"{hostile}.json is no file.",)))


@pytest.fixture
def two_hundred() -> str:
    """A page of 200 green budgets of four files."""
    entries = [
        replace(entry(f"budget-{i:03}"), subject=f"budgets/{'abcd'[i % 4]}.yaml::budget-{i:03}")
        for i in range(200)
    ]
    return render_html(report(*entries))
