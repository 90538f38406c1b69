"""The cost table of the meter: what one call of one PyTorch operator costs, in FLOPs.

The rules, from the general to the particular:

* A product costs 2 per multiply-add, as in `torch.utils.flop_counter`, whose registry is used for
  everything that is not listed here. A bias inside a product is 1 per output element, on a line of
  its own (`aten.addmm:bias`).
* A fused kernel costs what its mathematical form executes for what was asked of it, on every device
  and build. The softmax of attention has a line of its own (`:softmax`).
* Pointwise arithmetic and transcendental functions cost 1 per output element, whatever they are
  (a `gelu` is 1). Fused multiply-adds count their parts.
* A reduction costs 1 per input element.
* A fused operator (softmax, a normalisation, a fused optimizer, a recurrent cell) costs what its
  plain parts cost. `_foreach_` forms, in-place forms and `out=` forms cost what the plain
  form costs.
* Complex: add 2, multiply 6, divide 11; a complex product 8 per multiply-add.
* Views, copies, casts, indexing, comparisons, sorting, random fills and initialisation cost 0,
  and so does work on integers and booleans. What stands for floating-point numbers (quantised ones,
  products of eight bits) costs what these cost. Accumulating by index is 1 per element accumulated.
* What no rule claims has no cost. It is never taken for 0: the meter reports it as uncounted.

Each family of operators is a file, where a rule stands beside its formula. A formula reads the
arguments of a call by the names of the operator's schema and returns FLOPs, or None where these
arguments have no cost, e.g. an index whose cost depends on values that a fake tensor does not have.

Add an operator, or a Triton kernel, of your own with `register_cost`.
"""

from __future__ import annotations

from pytest_flops.counting.costs import (
    attention,
    elementwise,
    free,
    indexing,
    linear_algebra,
    losses,
    normalization,
    optimizers,
    pooling,
    products,
    quantization,
    recurrent,
    reductions,
    resampling,
    spectral,
)
from pytest_flops.counting.costs.lookup import (
    is_composite,
    register_cost,
    register_costs,
    registered_cost,
    rule_of,
)
from pytest_flops.counting.costs.table import TABLE, Rule, enter

__all__ = [
    "TABLE",
    "Rule",
    "is_composite",
    "register_cost",
    "register_costs",
    "registered_cost",
    "rule_of",
]

for family in (
    *(attention, elementwise, free, indexing, linear_algebra, losses, normalization),
    *(optimizers, pooling, products, quantization, recurrent, reductions, resampling, spectral),
):
    enter(family.RULES)
