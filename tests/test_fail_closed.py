"""A gate that held nothing is red, never green."""

from __future__ import annotations

from typing import Any

import pytest

NAMED_BY_A_TEST = """
    version: 1
    budgets:
      step: {limits: {total: 1 TFLOP}}
"""


def test_a_marked_test_that_counts_nothing_fails(project: Any) -> None:
    project.marked("total='1 GFLOP'", "pass", "flops")
    project.fails(told=["*counted nothing*never calls flops.check()*"])
    assert project.report()["passed"] is False


def test_a_metered_body_without_arithmetic_fails(project: Any) -> None:
    project.marked("total='1 GFLOP'", "pass")
    project.fails(told=["*nothing*"])


def test_a_count_of_zero_fails(project: Any) -> None:
    project.test("""
        from pytest_flops import FLOPsCount
        def test_it(flops): flops.check(FLOPsCount(), total="1 GFLOP")
    """)
    project.run().assert_outcomes(failed=1)


def test_a_pattern_that_matches_no_component_fails_and_names_near_ones(project: Any) -> None:
    project.budgets(project.baseline.replace("lm_head:", "lm_haed:"))
    project.fails(
        "budgets/model.yaml::baseline::limits", told=["*lm_haed*matches no component*lm_head*"]
    )


def test_a_budget_named_by_no_test_fails_a_whole_run(project: Any, mode: tuple[str, ...]) -> None:
    project.budgets(NAMED_BY_A_TEST)
    project.test("def test_nothing(): pass\n")
    project.fails(*mode, told=["*'step'*named by no test*"], passed=1, failed=0)


@pytest.mark.parametrize("narrowed", [("test_model.py",), ("-k", "nothing")])
def test_a_part_of_the_suite_says_nothing_about_stale_budgets(
    project: Any, narrowed: tuple[str, ...]
) -> None:
    project.budgets(NAMED_BY_A_TEST)
    project.test("def test_nothing(): pass\n")
    assert project.run(*narrowed).ret == 0


def test_a_budget_whose_only_test_is_skipped_is_not_stale(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.budgets(NAMED_BY_A_TEST)
    project.test("""
        import pytest
        from pytest_flops import FLOPsCount
        @pytest.mark.flops_budget("step")
        def test_gpu(flops): pytest.skip("no GPU here")
        def test_other(flops): flops.check(FLOPsCount(1), total=1)
    """)
    result = project.run(*mode)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0
    assert project.report()["budgets_known"][0]["fate"] == "skipped"


def test_an_operator_without_a_cost_fails_and_is_named(project: Any) -> None:
    project.test("""
        import pytest, torch
        @torch.library.custom_op("mylib::mystery", mutates_args=())
        def mystery(x: torch.Tensor) -> torch.Tensor: return x * 2
        @pytest.mark.flops_budget(total="1 GFLOP")
        def test_it(): mystery(torch.ones(3) + 1)
    """)
    project.fails(told=["*mylib*mystery*pytest_flops_register_costs*"])
    project.run("--flops-allow-uncounted", "-W", "default").assert_outcomes(passed=1, warnings=1)


def test_a_module_in_a_thread_older_than_the_test_fails_and_names_both(project: Any) -> None:
    project.test("""
        import pytest, threading, torch
        from queue import SimpleQueue

        @pytest.fixture(scope="module")
        def give():
            work, done = SimpleQueue(), SimpleQueue()

            def serve():
                while (task := work.get()) is not None:
                    done.put(task())

            def give(task):
                work.put(task)
                return done.get()

            thread = threading.Thread(target=serve, name="trainer")
            thread.start()
            yield give
            work.put(None)
            thread.join()

        X, LAYER = torch.ones(8, 8), torch.nn.Linear(8, 8)

        @pytest.mark.flops_budget(total=2 * 8**3)
        def test_idle(give): X @ X

        @pytest.mark.flops_budget(total=2 * 8**3)
        def test_at_work(give): give(lambda: LAYER(X)); X @ X
    """)
    project.fails(
        told=["*not counted: module Linear in thread trainer*start the thread inside*"], passed=1
    )
    project.run("--flops-allow-uncounted", "-W", "default").assert_outcomes(passed=2, warnings=1)


def test_child_processes_are_a_remark_and_no_failure(project: Any) -> None:
    project.test("""
        import pytest, torch
        from torch.utils.data import DataLoader

        @pytest.mark.flops_budget(total=2 * 8**3)
        def test_loaded():
            assert len([*DataLoader(range(4), num_workers=2)]) == 4
            X = torch.ones(8, 8)
            X @ X
    """)
    result = project.run()
    result.assert_outcomes(passed=1)
    (entry,) = project.report()["entries"]
    assert entry["measurement"]["child_processes"] == 2
    is_remark_everywhere(project, result, f"2 child processes {STARTED}")


def test_what_a_step_on_fakes_assumes_is_a_remark_and_no_failure(project: Any) -> None:
    project.write(
        "guarded.py",
        """
        import torch

        class Guarded(torch.nn.Linear):
            def forward(self, x):
                y = super().forward(x)
                return y if y.isfinite().all() else y.clamp(-1, 1)

        def build():
            return Guarded(4, 4, bias=False), torch.ones(2, 4)
        """,
    )
    project.ini("pythonpath = .")
    workload = "workload: {model: 'guarded:build', optimizer: none}"
    # the product; the absolute values, of which none is infinite; the sum that is the loss
    project.budget("guarded", workload, f"limits: {{forward: {2 * 2 * 4 * 4 + 8 + 8}}}")
    result = project.run("budgets")
    result.assert_outcomes(passed=1)
    (entry,) = project.report()["entries"]
    assert len(entry["measurement"]["assumptions"]) == 1
    is_remark_everywhere(project, result, "counted as if all numbers were finite")


@pytest.mark.parametrize(
    "start",
    [
        "subprocess.run([sys.executable, '-c', ''], check=True)",
        "os.system('echo')",
        pytest.param("os.waitpid(os.fork() or os._exit(0), 0)", marks=pytest.mark.posix("fork")),
        pytest.param(
            "os.waitpid(os.posix_spawn(shutil.which('true'), ['true'], {}), 0)",
            marks=pytest.mark.posix("posix_spawn"),
        ),
    ],
    ids=["subprocess", "system", "fork", "posix_spawn"],
)
def test_a_child_process_of_any_kind_is_a_remark(project: Any, start: str) -> None:
    project.marked(
        "total=2 * 8**3",
        f"{start}\nX = torch.ones(8, 8)\nX @ X",
        imports="import os, pytest, shutil, subprocess, sys, torch",
    )
    result = project.run()
    result.assert_outcomes(passed=1)
    is_remark_everywhere(project, result, f"1 child process {STARTED}")


@pytest.mark.parametrize("unit", ["TFLOP", "GFLOP", "MFLOP"])
def test_a_limit_in_a_far_wrong_unit_is_a_remark_and_no_failure(project: Any, unit: str) -> None:
    # 2 * 80**3 = 1,024,000 FLOP; 2 MFLOP is right, 2 GFLOP a thousand times too high.
    project.marked(f"total='2 {unit}'", "X = torch.ones(80, 80)\nX @ X")
    result = project.run()
    result.assert_outcomes(passed=1)
    assert project.report()["passed"] is True
    times = {"TFLOP": 2 * 10**12 // 1_024_000, "GFLOP": 2 * 10**9 // 1_024_000}.get(unit)
    if times is None:
        assert "holds nothing" not in result.stdout.str()
    else:
        limit = f"the limit of total, 2 {unit}, is {times:,} times the count and holds nothing"
        is_remark_everywhere(project, result, limit)


STARTED = "started meanwhile; what they computed is counted by nobody"


def is_remark_everywhere(project: Any, result: pytest.RunResult, remark: str) -> None:
    result.stdout.fnmatch_lines([f"  {remark}*"])
    assert f"<p>{remark}" in (project.root / "reports/flops.html").read_text()
    assert f": {remark}" in (project.root / "reports/flops.md").read_text()


def test_a_test_that_breaks_before_it_counts_leaves_no_green_budget(project: Any) -> None:
    project.budgets(NAMED_BY_A_TEST)
    project.marked("'step'", "raise OSError('x')", "flops")
    project.fails("test_model.py", told=["*OSError: x*"])
    assert project.report()["passed"] is False


def test_nothing_collected_is_no_pass(project: Any) -> None:
    project.budgets()
    assert project.run("budgets", "-k", "no_such_item").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_two_files_with_one_budget_name_are_an_error(project: Any) -> None:
    project.budgets(NAMED_BY_A_TEST, path="budgets/one.yaml")
    project.budgets(NAMED_BY_A_TEST, path="budgets/two.yaml")
    project.marked("'step'", "pass", "flops")
    project.refuses(
        "test_model.py", told=["*several files have a budget named 'step'*one.yaml*two.yaml*"]
    )


def test_published_limits_do_not_hold_metered_counts(project: Any) -> None:
    project.budgets()
    project.marked("'baseline'", "torch.ones(2) + 1")
    project.fails("test_model.py", told=["*budget is of published FLOPs*executed ones*"])


def test_something_smaller_than_the_budgets_workload_does_not_pass_for_it(project: Any) -> None:
    project.budgets()
    project.marked(
        "'baseline'", "flops.check(resnet_bk(n_layers=3), batch_size=1)", "flops, resnet_bk"
    )
    project.fails(
        "test_model.py", told=["*another workload*n_layers 3, not 4; batch_size 1, not 32*"]
    )


def test_a_scaling_limit_that_nothing_sweeps_fails(project: Any) -> None:
    project.counted("scaling={'n': {'sizes': [1, 2, 3], 'max_exponent': 1}}")
    project.fails(told=["*scaling limit over n was held against nothing*"])


def test_no_gate_speaks_under_collect_only(project: Any) -> None:
    project.budgets(NAMED_BY_A_TEST)
    project.test("def test_nothing(): pass\n")
    assert project.run("--collect-only").ret == 0
    assert not (project.root / "reports").exists()


def test_limits_that_only_a_sweep_was_held_against_fail(project: Any) -> None:
    project.test("""
        import pytest, torch
        def build(n): return torch.nn.Linear(4, 4), torch.ones(n, 4)
        LIMIT = {"n": {"sizes": [8, 16, 32], "max_exponent": 1}}
        @pytest.mark.flops_budget(total="1 FLOP", scaling=LIMIT)
        def test_it(flops): flops.scaling(build, n=[8, 16, 32])
    """)
    project.fails(told=["*limits and recorded counts were held against nothing*"])


def test_a_red_verdict_that_the_test_swallows_still_fails_the_run(project: Any) -> None:
    project.test("""
        import torch
        def test_it(flops):
            try:
                with flops.measure(total=2): torch.ones(3) + 1
            except BaseException: pass
    """)
    project.fails(passed=1, failed=0)


def test_a_budget_whose_items_are_not_collected_is_held_whole_by_its_test(project: Any) -> None:
    scaling = "    scaling:\n      seq_len: {sizes: [32, 64, 128], max_exponent: 0.5}\n"
    project.budgets(project.baseline + scaling)
    project.test("""
        import pytest
        from pytest_flops import ResNetBKConfig
        @pytest.mark.flops_budget("baseline")
        def test_sweep_only(flops):
            flops.scaling(lambda d_model: ResNetBKConfig(d_model=d_model),
                          d_model=[8, 16, 32], max_exponent=2)
        @pytest.mark.flops_budget("baseline")
        def test_counter_only(flops, flops_counter): flops.check(flops_counter())
    """)
    project.fails(
        "test_model.py",
        told=[
            "*limits and recorded counts were held against nothing*",
            "*scaling limit over seq_len was*",
        ],
        failed=2,
    )


def test_a_fixture_that_measures_around_the_body_is_in_the_report(project: Any) -> None:
    project.test("""
        import pytest, torch
        @pytest.fixture
        def held(flops):
            with flops.measure(total="2 FLOP"): yield
        def test_within(held): torch.ones(2) + 1
        def test_over(held): torch.ones(3) + 1
    """)
    project.fails(passed=2, failed=0, errors=1)
    report = project.report()
    assert report["passed"] is False
    assert [entry["subject"].partition("::")[2] for entry in report["entries"]] == [
        "test_over",
        "test_within",
    ]


def test_errors_of_the_run_are_told_quietly_too(project: Any) -> None:
    project.budgets(NAMED_BY_A_TEST)
    project.test("def test_nothing(): pass\n")
    project.fails("-q", told=["*'step'*named by no test*"], passed=1, failed=0)


@pytest.mark.parametrize("limits", ["'b'", "total='1 kFLOP'"], ids=["named", "inline"])
def test_a_run_whose_budget_tests_were_all_skipped_is_no_pass(project: Any, limits: str) -> None:
    project.budgets("version: 1\nbudgets:\n  b: {limits: {total: 1 kFLOP}}\n")
    project.test(f"""
        import pytest

        @pytest.mark.skipif(True, reason="no gpu")
        @pytest.mark.flops_budget({limits})
        def test_step(): pass
    """)
    result = project.run()
    assert result.ret == 1
    assert project.report()["passed"] is False


MODEL = """\
import pytest, torch
from torch import nn
from torch.nn import functional as F

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj, self.head = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    def forward(self, x):
        return self.head({used})

model = {model}

def test_step():
    optimizer = torch.optim.SGD(model.parameters())
    model(torch.ones(4, 8)).sum().backward()
    optimizer.step()
"""
CALLED, USED = "self.proj(x)", "F.linear(x, self.proj.weight)"
TRACED = "torch.jit.trace(Net(), torch.ones(4, 8))"
# A product of (4, 8) and (8, 8) is 512 FLOP, forward, and 512 for the gradient of its weight.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("used", "model", "limit", "red"),
    [
        (CALLED, "Net()", "forward='511 FLOP'", True),
        (CALLED, "Net()", "forward='512 FLOP'", False),
        (USED, "Net()", "forward='512 FLOP'", True),
        (USED, "Net()", "backward='512 FLOP'", True),
        (USED, "Net()", "total='9 kFLOP'", True),
        (USED, "Net()", "optimizer='128 FLOP'", False),  # SGD: 2 an element (counting.md)
        (USED, "Net()", "optimizer='127 FLOP'", True),
        (CALLED, TRACED, "forward='512 FLOP'", True),
        (CALLED, "torch.jit.script(Net())", "forward='512 FLOP'", True),
    ],
)
def test_a_component_that_no_call_entered_is_not_zero(
    project: Any, used: str, model: str, limit: str, *, red: bool
) -> None:
    source = MODEL.format(used=used, model=model)
    marker = f"@pytest.mark.flops_budget(components={{'proj': dict({limit})}})\ndef test_"
    project.test(source.replace("def test_", marker))
    result = project.run()
    assert result.ret == int(red)
    if red and limit not in ("forward='511 FLOP'", "optimizer='127 FLOP'"):
        result.stdout.fnmatch_lines(["*proj was not called*held against nothing*"])


def test_a_recorded_component_that_no_call_enters_any_more_is_red(project: Any) -> None:
    marked = "@pytest.mark.flops_budget\ndef test_"
    project.test(MODEL.format(used=CALLED, model="Net()").replace("def test_", marked))
    assert project.run("--flops-update").ret == 0
    assert project.run().ret == 0
    project.test(MODEL.format(used=USED, model="Net()").replace("def test_", marked))
    project.fails(told=["*proj was not called*"])
    assert project.run("--flops-update").ret == 0
    assert project.run().ret == 0
