"""Two configurations of ResNet-BK side by side: the baseline, and one with a dense mixture.

Run with `python examples/compare_models.py`; needs no model and no GPU.
"""

from __future__ import annotations

from dataclasses import replace

from pytest_flops import BASELINE_CONFIG, compare_models


def main() -> None:
    dense = replace(BASELINE_CONFIG, top_k=BASELINE_CONFIG.num_experts)
    comparison = compare_models(
        dense,
        BASELINE_CONFIG,
        batch_size=32,
        seq_len=128,
        model1_name="every expert",
        model2_name="one expert",
    )
    print(comparison["summary"])
    print()
    print(f"Visiting one expert of four is {comparison['speedup']['total']:.2f} times cheaper.")


if __name__ == "__main__":
    main()
