"""1,000 budgets loaded, counted and judged: the seconds it takes, once everything is imported.

Run `python benchmarks/budgets.py [number of budgets]`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from pytest_flops.budgets.budget import Recorded
from pytest_flops.budgets.files.catalogue import Catalog
from pytest_flops.budgets.files.lock import lock_file_of, lock_text
from pytest_flops.budgets.judging.hold import hold
from pytest_flops.counting.builder import installed_builders
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.config import ResNetBKConfig

BUDGET = """\
  resnet-bk-{number}:
    workload:
      model: resnet_bk
      config: {{d_model: {width}, n_layers: 4, n_seq: 128, vocab_size: 30000}}
      batch_size: 32
      seq_len: 128
      optimizer: adamw
      rules: published
    limits:
      forward: 100 TFLOP   # far above: this measures the judge, not the model
      total: 300 TFLOP
      components:
        lm_head: {{forward: 100 TFLOP}}
        "layer_*": {{forward: 10 TFLOP, backward: 20 TFLOP}}
    tolerance: 0%
    scaling:
      seq_len: {{sizes: [128, 256, 512], max_exponent: 1.0}}
"""
RECORDED = Recorded(FLOPsCount(10**14, 10**14, 10**14))


def write_budgets(folder: Path, number: int) -> Path:
    path = folder / "budgets.yaml"
    entries = (BUDGET.format(number=i, width=64 + i) for i in range(number))
    path.write_text("version: 1\nbudgets:\n" + "".join(entries), encoding="utf-8")
    records = {("budgets", f"resnet-bk-{i}"): RECORDED for i in range(number)}
    lock_file_of(path).write_text(lock_text(records), encoding="utf-8")
    return path


def load_count_and_judge(path: Path) -> tuple[int, int]:
    verdicts = []
    budgets = Catalog(path.parent, builders=installed_builders).load(path)
    for budget in budgets.values():
        workload = budget.workload
        assert workload is not None
        counter = FLOPsCounter.from_config(
            ResNetBKConfig.from_dict(workload.config),
            batch_size=workload.batch_size,
            seq_len=workload.seq_len,
            rules=workload.rules,
        )
        measurement = counter.measurement(workload.optimizer)
        verdicts += hold(budget, measurement)
    assert all(verdict.passed for verdict in verdicts)
    return len(budgets), len(verdicts)


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        load_count_and_judge(write_budgets(Path(folder), 1))  # imports yaml and jsonschema
        path = write_budgets(Path(folder), number)
        start, start_of_work = time.perf_counter(), time.process_time()
        budgets, verdicts = load_count_and_judge(path)
        seconds, work = time.perf_counter() - start, time.process_time() - start_of_work
    print(
        f"{budgets:,} budgets loaded, counted and judged ({verdicts:,} verdicts): "
        f"{seconds:.2f} s, {work:.2f} s of CPU time"
    )


if __name__ == "__main__":
    main()
