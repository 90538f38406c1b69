"""What it costs to count one rank of Llama 3.1 8B, on 8 ranks and on 1,024.

    python benchmarks/ranks.py

Each count runs in a process of its own, in turn, and is made twice there: the first meets PyTorch's
distributed engine and makes its caches, so "after start-up" is the second. CPU seconds, and the
most memory that the process had. Exits with 1 when a limit is exceeded.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from pytest_flops.counting.measure import measure_workload
from pytest_flops.counting.workload import Workload

EXAMPLE = Path(__file__).parents[1] / "examples" / "one_rank_of_many"
METRICS = ("peak_memory", "communication", "collectives")
FEW, MANY = 8, 1024
PAIRS = 2
MOST_SECONDS = 30.0  # of CPU, for the whole process
MOST_GIB = 1.5
MOST_RATIO = 1.2  # of many ranks to few, after start-up


def main() -> int:
    print(f"{'ranks':>6} {'first':>8} {'second':>8} {'process':>8} {'memory':>9}")
    found: dict[int, list[dict[str, float]]] = {FEW: [], MANY: []}
    for _ in range(PAIRS):
        for ranks, figures in found.items():
            command = [sys.executable, __file__, str(ranks)]
            told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
            each = json.loads(told)
            figures.append(each)
            print(
                f"{ranks:>6} {each['first']:>6.1f} s {each['second']:>6.1f} s "
                f"{each['process']:>6.1f} s {each['gib']:>5.2f} GiB"
            )
    fastest = {ranks: min(each["second"] for each in runs) for ranks, runs in found.items()}
    ratio = fastest[MANY] / fastest[FEW]
    once = max(min(each["once"] for each in runs) for runs in found.values())
    gib = max(each["gib"] for runs in found.values() for each in runs)
    print(
        f"\nOne count, start-up included: {once:.1f} s of CPU, at most {MOST_SECONDS:.0f} allowed."
    )
    print(f"Memory: {gib:.2f} GiB, at most {MOST_GIB} allowed.")
    print(f"{MANY:,} ranks to {FEW}: {ratio:.2f}, at most {MOST_RATIO} allowed.")
    return int(once > MOST_SECONDS or gib > MOST_GIB or ratio > MOST_RATIO)


def count_on(ranks: int) -> None:
    """Count twice, and print what it cost."""
    sys.path.insert(0, str(EXAMPLE))
    workload = Workload(
        "llama:build",
        batch_size=2,
        seq_len=8192,
        like="cuda",
        mesh={"dp_shard": ranks},
        parallelize="llama:parallelize",
    )
    before = time.process_time()
    measure_workload(workload, metrics=METRICS)
    between = time.process_time()
    measure_workload(workload, metrics=METRICS)
    after = time.process_time()
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = {
        "first": between - before,
        "second": after - between,
        "once": between,
        "process": after,
        "gib": kib / 2**20,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        count_on(int(sys.argv[1]))
    else:
        sys.exit(main())
