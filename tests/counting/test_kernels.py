"""Triton kernels that are launched directly, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is made for Linux alone")

KERNEL = """\
import os
os.environ["TRITON_INTERPRET"] = "1"
import pytest, torch, triton
import triton.language as tl
from pytest_flops import FLOPsMeter
from pytest_flops.counting.costs import register_cost

@triton.jit
def add_one(x, y, n, BLOCK: tl.constexpr, EVEN: tl.constexpr = True):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < n) + 1, mask=at < n)

def launch(x):
    y = torch.empty_like(x)
    add_one[(1,)](x, y, x.numel(), BLOCK=64)
    return y
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
def test_a_kernel_that_is_launched_directly_is_uncounted_by_name(project: Any, kernel: str) -> None:
    source = KERNEL.replace("add_one[(1,)]", f"{kernel}[(1,)]")
    project.test(source + MARKED + "    launch(torch.ones(64) + 1)\n")
    result = project.run_apart()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*triton.add_one*torch.library.triton_op or custom_op*"])


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
