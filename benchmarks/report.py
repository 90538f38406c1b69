"""How large and how fast the report is: 1,000 budgets of 50 components, and one.

Run `python benchmarks/report.py`. Exit code 1 if a bound does not hold: the page of 1,000 budgets
under 8 MB and rendered in under 5 s, the page of one budget under 100 kB.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.verdict import Verdict
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement
from pytest_flops.counting.metric import QUANTITIES
from pytest_flops.counting.workload import Workload
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.pages.html import render_html
from pytest_flops.reports.pages.markdown import render_markdown
from pytest_flops.reports.read import load_report
from pytest_flops.reports.report import build_report, to_json

BUDGETS, COMPONENTS = 1_000, 50
MEGABYTE = 1_000_000


def main() -> int:
    many, one = (build_report(entry(i) for i in range(n)) for n in (BUDGETS, 1))
    render_html(one)  # so that compiling the templates is in no figure
    started = time.perf_counter()
    page = len(render_html(many).encode())
    seconds = time.perf_counter() - started
    small = len(render_html(one).encode())
    print(f"{BUDGETS:,} budgets of {COMPONENTS} components: HTML {page / MEGABYTE:.2f} MB")
    print(f"rendered in {seconds:.2f} s")
    print(f"one budget of {COMPONENTS} components: HTML {small / 1000:.1f} kB")
    print(f"Markdown of {BUDGETS:,} budgets: {len(render_markdown(many).encode()) / 1000:.1f} kB")
    print_json(to_json(many))
    return int(page >= 8 * MEGABYTE or seconds >= 5 or small >= 100_000)


def print_json(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "flops.json"
        file.write_text(text)
        started = time.perf_counter()
        load_report(file)
        seconds = time.perf_counter() - started
    print(f"JSON of {BUDGETS:,} budgets: {len(text) / MEGABYTE:.1f} MB, checked in {seconds:.1f} s")


def entry(number: int) -> Entry:
    """A made-up budget: 10 layers of 4 parts each, 5 verdicts, a red one in every hundred.

    Each part has an operator in each phase.
    """
    part = FLOPsCount(1_316_288_760 + number, 2_632_577_520, 31_095_900)
    operators = {
        "aten.addmm": FLOPsCount(forward=part.forward),
        "aten.mm": FLOPsCount(backward=part.backward),
        "aten.add_": FLOPsCount(optimizer=part.optimizer),
    }
    components, own = {}, {}
    for layer in range(COMPONENTS // 5):
        components[f"layer_{layer}"] = part * 4
        components.update({f"layer_{layer}.part_{i}": part for i in range(4)})
        own.update({f"layer_{layer}.part_{i}": operators for i in range(4)})
    count = part * (4 * COMPONENTS // 5)
    allowed = 0.99 if number % 100 == 99 else 1.01
    verdicts = [
        Verdict(
            "limit",
            passed=allowed > 1,
            quantity=quantity,
            actual=count.of(quantity),
            allowed=int(count.of(quantity) * allowed),
            location=Location("budgets/all.yaml", 30 * number + 9, 16),
        )
        for quantity in QUANTITIES
    ]
    return Entry(
        subject=f"budgets/all.yaml::model-{number:04}",
        budget=f"model-{number:04}",
        tests=(f"budgets/all.yaml::model-{number:04}::limits",),
        verdicts=tuple(verdicts),
        measurement=Measurement(count, components, "meter", "executed", own_operations=own),
        workload=Workload("resnet_bk", batch_size=32, seq_len=128),
        location=Location("budgets/all.yaml", 30 * number + 1, 3),
    )


if __name__ == "__main__":
    sys.exit(main())
