"""What each component of ResNet-BK costs in each phase, by the published and the executed rules.

Run with `python examples/breakdown.py`; needs no model and no GPU.
"""

from __future__ import annotations

from pytest_flops import BASELINE_CONFIG, FLOPsCounter

SHOWN = ("embedding", "layer_0", "final_layernorm", "lm_head")


def main() -> None:
    for rules in ("published", "executed"):
        counter = FLOPsCounter.from_config(BASELINE_CONFIG, batch_size=32, seq_len=128, rules=rules)
        whole = counter.count_total_flops().total
        columns = ("forward", 15), ("backward", 15), ("optimizer", 11), ("share", 8)
        header = " ".join(f"{title:>{width}}" for title, width in columns)
        print(f"{rules + ' rules':<24} {header}")
        for path, cost in sorted(counter.get_breakdown().items()):
            if path.startswith(SHOWN):
                name = "  " * path.count(".") + path
                phases = f"{cost.forward:>15,} {cost.backward:>15,} {cost.optimizer:>11,}"
                print(f"{name:<24} {phases} {cost.total / whole:>8.3%}")
        print()
    print("layer_1 to layer_3 cost what layer_0 does.")


if __name__ == "__main__":
    main()
