"""Triton kernels that are launched directly, in Triton's interpreter and on fake tensors."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.long

pytest.importorskip("triton", reason="Triton is made for Linux alone")

IMPORTS = """\
import os
os.environ["TRITON_INTERPRET"] = "1"
import pytest, torch, triton
import triton.language as tl
from pytest_flops import FLOPsCount, FLOPsMeter, count_flops
from pytest_flops.counting.costs import register_cost
"""
KERNEL = (
    IMPORTS
    + """
@triton.jit
def add_one(x, y, n, BLOCK: tl.constexpr, EVEN: tl.constexpr = True):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n) + 1, mask=at < n)

def launch(x):
    y = torch.empty_like(x)
    add_one[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), BLOCK=64)
    return y
"""
)
COST = """
@register_cost(add_one)
def cost(n): return n
"""
MARKED = """
@pytest.mark.flops_budget(total="100 FLOP")
def test_step():
"""


@pytest.mark.parametrize(
    "kernel",
    ["add_one", "triton.heuristics({'EVEN': lambda _: True})(add_one)"],
    ids=["plain", "wrapped"],
)
def test_a_kernel_without_a_cost_is_uncounted_by_name(project: Any, kernel: str) -> None:
    source = KERNEL.replace("add_one[(", f"{kernel}[(")
    project.test(source + MARKED + "    launch(torch.ones(64) + 1)\n")
    result = project.run_apart()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*triton.add_one*@register_cost(add_one)*"])


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        ("", "*triton.add_one ran once*comes to 4,096 FLOP, 16,384 B loaded and 16,384 B stored"),
        (COST, "*total: 4.096 kFLOP, limit 100 FLOP*"),
    ],
    ids=["without a cost", "with a cost"],
)
def test_4096_additions_in_a_kernel_break_a_budget_of_100(
    project: Any, cost: str, told: str
) -> None:
    project.test(KERNEL + cost + MARKED + "    launch(torch.ones(64, 64))\n")
    result = project.run_apart()
    assert result.ret == 1
    result.stdout.fnmatch_lines([told])
    assert sum("comes to" in line for line in result.outlines) == (0 if cost else 2)


def test_a_kernel_that_the_block_imports_is_seen_too(project: Any) -> None:
    project.ini("pythonpath = .")
    project.write("kernels.py", KERNEL)
    body = "    from kernels import launch\n    launch(torch.ones(64) + 1)\n"
    project.test("import pytest, torch\n" + MARKED + body)
    assert project.run_apart().ret == 1


def test_a_launch_inside_an_operator_is_a_part_of_its_cost(project: Any) -> None:
    project.test(
        KERNEL
        + """
@torch.library.custom_op("mine::add_one", mutates_args=())
def add_one_operator(x: torch.Tensor) -> torch.Tensor: return launch(x)

@register_cost("mine::add_one")
def cost(args, kwargs, out): return args[0].numel()

@pytest.mark.flops_budget(forward=128)
def test_step():
    assert add_one_operator(torch.ones(64)).max() == 2

def test_the_class_is_as_it_was():
    launcher = type(add_one)
    before = launcher.run
    with FLOPsMeter() as meter:
        launch(torch.ones(64))
        with FLOPsMeter() as inner:
            launch(torch.ones(64))
    assert launcher.run is before
    assert (meter.uncounted, inner.uncounted) == ({"triton.add_one": 2}, {"triton.add_one": 1})
"""
    )
    project.run_apart().assert_outcomes(passed=2)


# 5 rows of 32 columns. The layer: 2 * 5 * 32 * 32 and a bias, 5 * 32; backward two such products
# less that of the input, which needs no gradient, and the bias's sum, 5 * 32. The activation, once
# each way: 1 FLOP per element, which moves two tensors of 5 * 32 * 4 bytes. The loss: a sum of
# 5 * 32.
MODEL = """
class AddOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x): return launch(x)

    @staticmethod
    def backward(ctx, gradient): return launch(gradient.contiguous())

class Activation(torch.nn.Module):
    def forward(self, x): return AddOne.apply(x)

def step():
    with FLOPsMeter(metrics=METRICS) as meter:
        model(x).sum().backward()
    return meter.measurement()

def step_on_fakes():
    return count_flops(model, x, optimizer="none", metrics=METRICS)

METRICS = ["bytes", "launches", "peak_memory"]
model = torch.nn.Sequential(torch.nn.Linear(32, 32), Activation())
x = torch.ones(5, 32)
"""


@pytest.mark.parametrize(
    ("step", "interpreted"),
    [("step", "1"), ("step_on_fakes", "1"), ("step_on_fakes", "0")],
    ids=["interpreted", "on fakes", "on fakes, of the compiler"],
)
def test_a_kernel_with_a_cost_counts_by_phase_and_component(
    project: Any, step: str, interpreted: str
) -> None:
    source = KERNEL.replace('"TRITON_INTERPRET"] = "1"', f'"TRITON_INTERPRET"] = "{interpreted}"')
    project.test(
        f"""{source}{COST}{MODEL}
def test_step():
    found = {step}()
    assert not found.uncounted
    assert found.components["1"] == FLOPsCount(forward=160, backward=160)
    assert found.count.forward == 10240 + 160 + 160 + 160
    assert found.count.backward == 10240 + 160 + 160
    of_activation = {{name: costs.components["1"] for name, costs in found.metrics.items()}}
    assert of_activation["bytes"]["forward"] == 2 * 640
    assert of_activation["launches"]["forward"] == 1
"""
    )
    project.run_apart().assert_outcomes(passed=1)


def test_a_cost_reads_arguments_by_name_and_the_grid(project: Any) -> None:
    project.test(
        KERNEL
        + """
@pytest.mark.parametrize("grid", [(3, 2), lambda meta: (3, meta["BLOCK"] // 16)])
@pytest.mark.parametrize("options", [{}, {"num_warps": 4}])
def test_grid(grid, options):
    seen = []

    @register_cost(add_one)
    def cost(x, grid, EVEN, BLOCK):
        seen.append((x.shape, grid, EVEN, BLOCK))
        return 7

    x = torch.ones(8)
    with FLOPsMeter() as meter:
        add_one[grid](x, n=8, BLOCK=tl.constexpr(32), y=x, **options)
    assert seen == [((8,), (3, 2, 1), True, 32)]
    assert meter.operations["triton.add_one"].forward == 7

def test_peak_memory():
    x, y = torch.ones(64), torch.ones(64)
    with FLOPsMeter(metrics=["peak_memory"]) as meter:
        add_one[1,](x, y, 64, BLOCK=64)
    found = meter.measurement().metrics["peak_memory"]
    assert found.whole == {"forward": 2 * 512}
    assert found.details["at"]["operator"] == "triton.add_one"

def test_other_metrics():
    register_cost(add_one)(lambda n: n)
    register_cost(add_one, metric="bytes")(lambda n: 3 * n)
    register_cost(add_one, metric="full_precision")(lambda n: n)
    with FLOPsMeter(metrics=["bytes", "full_precision"]) as meter:
        launch(torch.ones(64))
    found = meter.measurement().metrics
    assert found["bytes"].details["operations"]["triton.add_one"] == {"forward": 192}
    assert found["full_precision"].whole == {"forward": 64}

def test_mistakes():
    with pytest.raises(TypeError, match="add_one has no argument 'm'.*x, y, n, BLOCK, EVEN, and"):
        register_cost(add_one)(lambda m: m)
    with pytest.raises(TypeError, match="Triton kernel, not for <function launch"):
        register_cost(launch)(lambda x: 1)
    with pytest.raises(TypeError, match="kernel add_one must be a whole number of FLOPs, not 0.5"):
        register_cost(add_one)(lambda n: 0.5)
        with FLOPsMeter():
            launch(torch.ones(64))
    with pytest.raises(ValueError, match="flops, bytes, full_precision, not for 'launches'"):
        register_cost(add_one, metric="launches")(lambda n: 1)
"""
    )
    project.run_apart().assert_outcomes(passed=7)


TUNED = """
configs = [triton.Config({"BLOCK": 32}), triton.Config({"BLOCK": 64})]
bench = lambda call, quantiles: [call() or 1.0] * 3
tuned = triton.autotune(configs, key=["n"], do_bench=bench)(add_one)

@register_cost(tuned)
def cost(n, grid, BLOCK):
    assert grid == (n // BLOCK, 1, 1)
    return n

def launch(x):
    y = torch.empty_like(x)
    tuned[lambda meta: (x.numel() // meta["BLOCK"],)](x, y, x.numel())
    return y
"""


def test_what_an_autotuner_tries_is_not_counted(project: Any) -> None:
    project.test(
        f"""{KERNEL}{TUNED}{MODEL}
def test_tuned():
    assert step().components["1"].forward == 160
    assert len(tuned.cache) == 1
    assert step().components["1"].forward == 160

def test_fakes_leave_no_choice_behind():
    tuned.cache.clear()
    assert step_on_fakes().components["1"].forward == 160
    assert not tuned.cache and len(tuned.configs) == 2
"""
    )
    project.run_apart().assert_outcomes(passed=2)


TRITON_OP = """
from torch.library import triton_op, wrap_triton

@triton_op("mine::double_and_add", mutates_args=())
def double_and_add(x: torch.Tensor) -> torch.Tensor:
    doubled = 2 * x
    y = torch.empty_like(doubled)
    wrap_triton(add_one)[(1,)](doubled, y, x.numel(), BLOCK=64)
    return y
"""


@pytest.mark.parametrize(
    ("cost", "operations"),
    [
        ("", {"aten.mul": 64, "triton.add_one": 64}),
        ('register_cost("mine::double_and_add")(lambda *call: 5)', {"mine.double_and_add": 5}),
    ],
    ids=["of what it runs", "of its own"],
)
@pytest.mark.parametrize("interpreted", ["1", "0"])
def test_a_triton_op_is_counted_once(
    project: Any, cost: str, operations: dict[str, int], interpreted: str
) -> None:
    source = KERNEL.replace('"TRITON_INTERPRET"] = "1"', f'"TRITON_INTERPRET"] = "{interpreted}"')
    of_op = TRITON_OP
    if int(interpreted):  # which wrap_triton takes from PyTorch 2.13 on
        of_op = of_op.replace("wrap_triton(add_one)", "add_one")
    project.test(
        f"""{source}{COST}{of_op}{cost}
class Model(torch.nn.Module):
    def forward(self, x): return double_and_add(x)

def test_on_fakes():
    found = count_flops(Model(), torch.ones(64), training=False)
    assert {{name: cost.forward for name, cost in found.operations.items()}} == {operations}
    assert not found.uncounted

@pytest.mark.skipif(not {interpreted}, reason="takes a GPU")
def test_in_the_interpreter():
    with FLOPsMeter() as meter:
        result = double_and_add(torch.ones(64))
    assert result.max() == 3
    assert {{name: cost.forward for name, cost in meter.operations.items()}} == {operations}
    assert not meter.uncounted
"""
    )
    project.run_apart().assert_outcomes(passed=1 + int(interpreted), skipped=1 - int(interpreted))


def test_what_a_kernel_may_have_written_is_not_known_on_fakes(project: Any) -> None:
    project.test(
        KERNEL
        + COST
        + """
from pytest_flops.counting.meter.data_dependence import DataDependentError

class Counts(torch.nn.Module):
    def forward(self, x):
        counts = torch.zeros(64, dtype=torch.int64)
        add_one[1,](counts, counts, 64, BLOCK=64)
        return x[: counts[0].item()].sin()

def test_counts():
    with FLOPsMeter() as meter:
        Counts()(torch.ones(5))
    assert meter.operations["aten.sin"].forward == 1
    with pytest.raises(DataDependentError, match="depends on the values of a tensor"):
        count_flops(Counts(), torch.ones(5), training=False)
"""
    )
    project.run_apart().assert_outcomes(passed=1)


def test_a_kernel_in_an_exported_graph_is_counted(project: Any) -> None:
    project.test(
        KERNEL.replace('"TRITON_INTERPRET"] = "1"', '"TRITON_INTERPRET"] = "0"')
        + COST
        + """
class Model(torch.nn.Module):
    def forward(self, x):
        y = torch.empty_like(x)
        torch.library.wrap_triton(add_one)[(1,)](x, y, x.numel(), BLOCK=64)
        return y

@pytest.mark.filterwarnings("ignore")
def test_exported():
    exported = torch.export.export(Model(), (torch.ones(64),))
    found = count_flops(exported.module(), torch.ones(64), training=False)
    assert {name: cost.forward for name, cost in found.operations.items()} == {"triton.add_one": 64}
"""
    )
    project.run_apart().assert_outcomes(passed=1)


def test_a_kernel_that_is_launched_directly_breaks_no_graph(project: Any) -> None:
    """Inductor generates a kernel for what comes before it, and one for what comes after."""
    project.test(
        KERNEL.replace('"TRITON_INTERPRET"] = "1"', '"TRITON_INTERPRET"] = "0"')
        + """
class Model(torch.nn.Module):
    def forward(self, x): return launch(x * 2) * 3

def test_step():
    metrics = ["graph_breaks", "graphs", "kernels"]
    found = count_flops(Model(), torch.ones(64), training=False, metrics=metrics, compile=True)
    assert [found.of(f"{name} total") for name in metrics] == [0, 1, 2]
    assert found.uncounted == {"triton.add_one": 1}
    with pytest.raises(RuntimeError, match="0 active drivers"):
        triton.runtime.driver.active
"""
    )
    project.run_apart("-W", "ignore").assert_outcomes(passed=1)


@pytest.mark.long
def test_what_runs_in_tritons_interpreter_cannot_be_compiled(project: Any) -> None:
    project.test(
        KERNEL
        + """
class Model(torch.nn.Module):
    def forward(self, x): return launch(x * 2) * 3

@pytest.mark.parametrize("values", ["fake", "real"])
def test_step(values):
    told = "the Triton kernel add_one runs in Triton's interpreter, .* without TRITON_INTERPRET=1"
    with pytest.raises(RuntimeError, match=told):
        count_flops(
            Model(), torch.ones(64), training=False, metrics=["graphs"], compile=True, values=values
        )
"""
    )
    project.run_apart("-W", "ignore").assert_outcomes(passed=2)
