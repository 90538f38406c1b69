"""Write the report of a pull request that sends each token to a second expert, beside its base.

    python examples/sample_report.py [FOLDER]

The folder, `sample-report` unless given, then holds flops.json, flops.html and flops.md.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.inline import inline_budget
from pytest_flops.budgets.judging.hold import hold
from pytest_flops.counting.workload import Workload
from pytest_flops.reports.comparison.compare import compare
from pytest_flops.reports.comparison.wording import judge_regressions
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.environment import environment
from pytest_flops.reports.report import Report, build_report
from pytest_flops.reports.write import write_reports
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.config import BASELINE_CONFIG, ResNetBKConfig
from pytest_flops.scaling.sweep import sweep

CONFIG = replace(BASELINE_CONFIG, d_model=256, n_layers=12)
LIMITS = {
    "forward": "90 GFLOP",
    "total": "275 GFLOP",
    "components": {"lm_head": {"forward": "63 GFLOP"}, "layer_*": {"forward": "2.2 GFLOP"}},
}


def report_of(config: ResNetBKConfig) -> Report:
    measurement = FLOPsCounter.from_config(config, batch_size=32, seq_len=128).measurement()
    verdicts = hold(inline_budget("resnet-bk-256x12", LIMITS), measurement, kinds=("limit",))

    def at(seq_len: int):
        longer = replace(config, n_seq=seq_len)
        return FLOPsCounter.from_config(longer, batch_size=32, seq_len=seq_len).measurement()

    growth = sweep(at, "seq_len", [128, 256, 512, 1024, 2048])
    entry = Entry(
        subject="budgets/resnet_bk.yaml::resnet-bk-256x12",
        budget="resnet-bk-256x12",
        tests=("budgets/resnet_bk.yaml::resnet-bk-256x12::limits",),
        verdicts=verdicts,
        measurement=measurement,
        scaling=(growth,),
        workload=Workload("resnet_bk", batch_size=32, seq_len=128),
        location=Location("budgets/resnet_bk.yaml", 6, 3),
    )
    return build_report([entry], environment=environment())


def main(folder: str = "sample-report") -> None:
    base, head = report_of(CONFIG), report_of(replace(CONFIG, top_k=2))
    comparison = compare(base, head)
    for path in write_reports(judge_regressions(head, comparison), Path(folder), comparison):
        print(path)


if __name__ == "__main__":
    main(*sys.argv[1:2])
