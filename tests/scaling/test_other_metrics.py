"""How other metrics than FLOPs grow: held by their exact polynomial, or refused in words."""

from __future__ import annotations

from typing import Any

import pytest

MODELS = """
    from math import isqrt
    import torch
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(128, 128)
        def factor(self, x): return x[:, :1]
        def forward(self, x): return self.layer(x) * self.factor(x)
    class Square(Net):  # N^2 float32 that backward needs, and no FLOP more
        def factor(self, x): return x.new_zeros(len(x), len(x))[:, :1]
    class Root(Net):
        def forward(self, x): return self.layer(x[:isqrt(len(x))])
    def linear(n): return Net(), torch.ones(n, 128)
    def square(n): return Square(), torch.ones(n, 128)
    def root(n): return Root(), torch.empty(1, 128).expand(n, 128)
    SIZES = [128, 256, 512]
"""


def test_memory_is_held_by_its_exact_polynomial(project: Any) -> None:
    project.test(
        MODELS
        + """
    def test_linear(flops):
        sweep = flops.scaling(linear, n=SIZES, max_exponent=1, metrics={"peak_memory": 1.0})
        growth = sweep.of("peak_memory total")
        assert growth.asymptotic == 1
        assert max(growth.local) < 1  # weights of 128 x 128, their gradients and AdamW's state
    def test_quadratic(flops):
        sweep = flops.scaling(square, n=SIZES, max_exponent=1, metrics={"peak_memory": 2.0})
        # N^2 float32 of 4 bytes
        assert sweep.of("peak_memory total").polynomial.startswith("4 * n^2 ")
        others = {growth.quantity.split()[0] for growth in sweep.growth if " " in growth.quantity}
        assert others == {"peak_memory"}
    """
    )
    project.run().assert_outcomes(passed=2)


@pytest.mark.parametrize("metric", ["peak_memory", "bytes"])
def test_a_planted_quadratic_buffer_is_red_though_it_costs_no_flop(
    project: Any, metric: str
) -> None:
    # Bytes: filling N^2 float32 writes them.
    project.test(
        MODELS
        + f"""
    def test_flops(flops): flops.scaling(square, n=SIZES, max_exponent=1)
    def test_it(flops): flops.scaling(square, n=SIZES, metrics={{"{metric}": 1.0}})
    """
    )
    project.fails(told=[f"{metric} total grows as n^2, allowed 1*4 * n^2*"], passed=1)


def test_growth_below_the_peak_of_the_optimizer_is_red(project: Any) -> None:
    # The optimizer's step holds four times the weights, 16 MiB; the square of 512 takes 1 MiB.
    project.test(
        MODELS
        + """
    class Wide(Square):
        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Linear(1024, 1024)
        def forward(self, x): return super().forward(x) + self.unused.weight[0, 0]
    def wide(n): return Wide(), torch.ones(n, 128)
    def test_it(flops): flops.scaling(wide, n=SIZES, metrics={"peak_memory": 1.0})
    """
    )
    project.fails(told=["*peak_memory * grows as n^2, allowed 1*"])


def test_memory_without_a_polynomial_is_refused(project: Any) -> None:
    project.test(
        MODELS
        + """
    def test_it(flops): flops.scaling(root, n=[128, 256, 1024], metrics={"peak_memory": 1.0})
    """
    )
    project.fails(told=["*peak_memory forward over n: it lies on no polynomial*multiples of 128*"])


def test_a_misspelt_metric_is_refused(project: Any) -> None:
    project.test(
        MODELS
        + """
    def test_it(flops): flops.scaling(linear, n=SIZES, metrics={"peak_memry": 1.0})
    """
    )
    project.fails(told=["*peak_memry*"])


RESNET_BK = """\
version: 1
budgets:
  small:
    workload:
      model: resnet_bk
      config: {d_model: 16, n_layers: 2, n_seq: 128, vocab_size: 64, num_experts: 2, top_k: 1}
      batch_size: 8
      seq_len: 128
    limits:
      total: 1 GFLOP
      # embeddings (64 + 128) 16; two layers of LayerNorm 32, gate 34, experts 2 (544 + 528),
      # v_proj 17, output_proj 48, bk_scale 1; LayerNorm 32; head 17 * 64
      parameters: 8744
      syncs: SYNCS
      bytes: 1 GB
      full_precision: 1 GFLOP
      launches: 10000
      peak_memory: 1 GiB
    scaling:
      seq_len: {sizes: [128, 256, 512], metrics: {peak_memory: EXPONENT}}
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("syncs", "exponent", "told"),
    [
        ("2", "1.0", []),  # the routing of each layer waits once
        ("1", "1.0", ["*syncs*2 calls*limit 1 call*"]),
        ("2", "0.5", ["*peak_memory total grows as seq_len^1, allowed 0.5*"]),
    ],
)
def test_an_analytic_workload_gets_its_other_metrics_from_its_model(
    project: Any, syncs: str, exponent: str, told: list[str]
) -> None:
    project.budgets(RESNET_BK.replace("SYNCS", syncs).replace("EXPONENT", exponent))
    items = [f"budgets/model.yaml::small::{item}" for item in ("limits", "scaling[seq_len]")]
    if told:
        project.fails(*items, told=told, passed=1)
    else:
        project.run(*items).assert_outcomes(passed=2)
