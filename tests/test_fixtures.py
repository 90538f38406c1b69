"""The fixtures, as a test of a user sees them."""

from __future__ import annotations

from typing import Any

import torch


def test_check_takes_a_model_a_configuration_a_counter_a_meter_and_a_count(project: Any) -> None:
    project.test("""
        import torch
        from pytest_flops import BASELINE_CONFIG, FLOPsCounter, FLOPsMeter
        STEP = {"batch_size": 32, "seq_len": 128}
        FORWARD = {"forward": 16_287_760_384}
        def test_model(flops, resnet_bk): flops.check(resnet_bk(), **STEP, **FORWARD)
        def test_configuration(flops): flops.check(BASELINE_CONFIG, **STEP, **FORWARD)
        def test_counter(flops): flops.check(FLOPsCounter(BASELINE_CONFIG, **STEP), **FORWARD)
        def test_meter(flops):
            with FLOPsMeter() as meter: torch.ones(3) + 1
            flops.check(meter, forward=3)
            flops.check(meter.count, forward=3)
            assert flops.check(meter, total=3).count.forward == 3
    """)
    project.run().assert_outcomes(passed=4)


def test_each_count_of_a_test_is_a_subject_of_its_own_by_the_order_of_its_calls(
    project: Any,
) -> None:
    project.test("""
        from pytest_flops import FLOPsCount
        def test_it(flops):
            for flop in (2, 1, 2): flops.check(FLOPsCount(flop), total=3)
    """)
    assert project.run().ret == 0
    found = {
        entry["subject"].partition("::")[2]: entry["measurement"]["count"]["total"]
        for entry in project.report()["entries"]
    }
    assert found == {"test_it": 2, "test_it (count 2)": 1, "test_it (count 3)": 2}


def test_check_names_what_it_takes_when_given_something_else(project: Any) -> None:
    project.test("def test_it(flops): flops.check(3, total='1 GFLOP')\n")
    result = project.fails(told=["*flops.check() takes *not int*"])
    assert "def check(" not in result.stdout.str()


def test_check_of_a_meter_that_still_counts_is_refused(project: Any) -> None:
    project.test("""
        import torch
        from pytest_flops import FLOPsMeter
        def test_it(flops):
            with FLOPsMeter() as meter:
                torch.ones(3) + 1
                flops.check(meter, total=3)
                torch.ones(300) + 1
    """)
    project.fails(told=["*takes a finished FLOPsMeter*"])


def test_check_without_any_limit_says_how_to_give_one(project: Any) -> None:
    project.test("""
        from pytest_flops import FLOPsCount
        def test_it(flops): flops.check(FLOPsCount(1))
    """)
    project.fails(told=["*nothing to hold the count against*flops_budget*"])


def test_check_of_a_model_without_sizes_asks_for_them(project: Any) -> None:
    project.test("def test_it(flops, resnet_bk): flops.check(resnet_bk(), total='1 TFLOP')\n")
    project.fails(told=["*needs batch_size= and seq_len=*"])
    assert project.report()["passed"] is False


def test_check_of_a_model_too_short_for_the_sequence_says_so(project: Any) -> None:
    project.test("""
        def test_it(flops, resnet_bk):
            flops.check(resnet_bk(n_seq=8), batch_size=1, seq_len=9, total="1 TFLOP")
    """)
    project.fails(told=["*seq_len 9 is longer than*n_seq 8*", "test_model.py:2"])


def test_measure_holds_what_runs_inside_and_nothing_else(project: Any) -> None:
    project.test("""
        import torch
        def test_it(flops):
            torch.ones(1000) + 1
            with flops.measure(total=3): torch.ones(3) + 1
        def test_over(flops):
            with flops.measure(total=2): torch.ones(3) + 1
        def test_look_only(flops):
            with flops.measure() as meter: torch.ones(3) + 1
            assert meter.count.total == 3
    """)
    project.run().assert_outcomes(passed=2, failed=1)


def test_measure_hands_on_the_tests_own_error(project: Any) -> None:
    project.test("""
        def test_it(flops):
            with flops.measure(total=2): raise OSError("mine")
    """)
    project.fails(told=["E *OSError: mine"])


def test_scaling_holds_the_growth_of_any_builder(project: Any) -> None:
    project.test("""
        import torch
        class Mix(torch.nn.Module):
            def forward(self, x): return (x @ x.transpose(1, 2)) @ x
        def linear(seq_len): return torch.nn.Linear(4, 4), torch.randn(2, seq_len, 4)
        def quadratic(seq_len):
            return Mix(), torch.randn(2, seq_len, 4, requires_grad=True)
        SIZES = [64, 128, 256]
        def test_linear(flops): flops.scaling(linear, seq_len=SIZES, max_exponent=1)
        def test_quadratic(flops): flops.scaling(quadratic, seq_len=SIZES, max_exponent=1)
        def test_allowed(flops): flops.scaling(quadratic, seq_len=SIZES, max_exponent=2)
    """)
    project.fails(told=["*grows as seq_len^2, allowed 1*"], passed=2)


def test_scaling_must_sweep_the_sizes_of_the_budgets_limit(project: Any) -> None:
    project.test("""
        import pytest, torch
        LIMIT = {"n": {"sizes": [8, 16, 32], "max_exponent": 1}}
        def build(n): return torch.nn.Linear(4, 4), torch.ones(n, 4)
        @pytest.mark.flops_budget(scaling=LIMIT)
        def test_it(flops): flops.scaling(build, n=[1, 2, 3, 8])
        @pytest.mark.flops_budget(scaling=LIMIT)
        def test_all(flops): flops.scaling(build, n=[8, 16, 32, 64])
    """)
    project.fails(told=["*leaves out: 16, 32*"], passed=1)


def test_scaling_takes_a_function_one_dimension_and_a_limit(project: Any) -> None:
    project.test("""
        def build(**sizes): raise AssertionError
        def test_two(flops): flops.scaling(build, a=[1, 2, 3], b=[1, 2, 3], max_exponent=1)
        def test_none(flops): flops.scaling(build, a=[1, 2, 3])
        def test_path(flops): flops.scaling("module:build", a=[1, 2, 3], max_exponent=1)
    """)
    told = [
        "*exactly one dimension*max_exponent=2; it was given a and b*",
        "*nothing to hold the count against*",
    ]
    project.fails(told=[*told, "the builder must be a function of a, not 'module:build'"], failed=3)


def test_a_marked_scaling_limit_is_held_by_checking_a_model(project: Any) -> None:
    project.marked(
        "scaling={'seq_len': {'sizes': [64, 128, 256], 'max_exponent': 0.5}}",
        "flops.check(resnet_bk(), batch_size=2, seq_len=64)",
        "flops, resnet_bk",
    )
    project.fails(told=["*grow as seq_len^1, allowed 0.5*"])


def test_resnet_bk_builds_from_the_budget_a_preset_a_configuration_and_fields(
    project: Any,
) -> None:
    project.budgets(project.baseline.replace("n_layers: 4", "n_layers: 3"))
    project.test("""
        import pytest
        from pytest_flops import BASELINE_CONFIG
        @pytest.mark.flops_budget("baseline")
        def test_budget(flops, resnet_bk):
            assert resnet_bk().config.n_layers == 3
            flops.check(resnet_bk())
        def test_others(resnet_bk):
            assert resnet_bk().config == BASELINE_CONFIG
            assert resnet_bk("d128-l8").config.d_model == 128
            assert resnet_bk(BASELINE_CONFIG, n_layers=2).config.n_layers == 2
            assert resnet_bk().lm_head.weight.is_meta
            small = resnet_bk(vocab_size=10, n_layers=1, device="cpu")
            assert small.lm_head.weight.device.type == "cpu"
        def test_unknown(resnet_bk): resnet_bk("d129")
    """)
    project.fails("test_model.py", told=["*no preset 'd129'; presets: baseline, d64-l4*"], passed=2)


def test_flops_counter_takes_its_sizes_from_the_budget(project: Any) -> None:
    project.budgets()
    project.test("""
        import pytest
        from pytest_flops import BASELINE_CONFIG
        @pytest.mark.flops_budget("baseline")
        def test_it(flops, flops_counter):
            assert flops_counter().count_forward_flops() == 16_287_760_384
            flops.check(flops_counter())
        def test_alone(flops_counter):
            counter = flops_counter(BASELINE_CONFIG, batch_size=64)
            assert counter.count_forward_flops() == 2 * 16_287_760_384
    """)
    project.run("test_model.py").assert_outcomes(passed=2)


def test_flops_budget_is_the_merged_budget(project: Any) -> None:
    project.budgets()
    project.test("""
        import pytest
        from pytest_flops import BASELINE_CONFIG
        @pytest.mark.flops_budget("baseline", forward="1 GFLOP")
        @pytest.mark.xfail
        def test_it(flops, flops_budget):
            limits = {limit.quantity: limit.flops for limit in flops_budget.limits
                      if limit.pattern is None}
            assert limits == {"total": 49_000_000_000, "forward": 1_000_000_000}
            flops.check(BASELINE_CONFIG)
        def test_unmarked(flops_budget): pass
    """)
    project.fails(
        "test_model.py", told=["*flops_budget needs a test marked*"], xfailed=1, errors=1, failed=0
    )


def test_bk_core_is_given_on_the_cpu_and_skips_cuda_with_a_reason(project: Any) -> None:
    project.test("""
        import torch
        def test_it(bk_core):
            ones = torch.ones(2)
            features = bk_core(torch.zeros(1, 3), ones, ones, 1j).cpu()
            dense = torch.diag(ones, 1) + torch.diag(ones, -1) - 1j * torch.eye(3)
            expected = torch.view_as_real(torch.linalg.inv(dense).diagonal())
            torch.testing.assert_close(features[0], expected)
    """)
    result = project.run("-rs")
    if torch.cuda.is_available():
        result.assert_outcomes(passed=2)
    else:
        result.assert_outcomes(passed=1, skipped=1)
        result.stdout.fnmatch_lines(["*no CUDA device*"])


def test_usefixtures_counts_as_asking_for_flops(project: Any) -> None:
    project.test("""
        import pytest, torch
        @pytest.mark.usefixtures("flops")
        @pytest.mark.flops_budget(total="1 GFLOP")
        def test_it(): torch.ones(3) + 1
    """)
    project.fails(told=["*never calls flops.check()*"])
