"""The fixtures, as a test of a user sees them."""

from __future__ import annotations

from typing import Any


def test_check_takes_a_model_a_configuration_a_counter_a_meter_and_a_count(project: Any) -> None:
    project.test(
        "import torch\n"
        "from pytest_flops import BASELINE_CONFIG, FLOPsCounter, FLOPsMeter\n"
        "STEP = {'batch_size': 32, 'seq_len': 128}\n"
        "FORWARD = {'forward': 16_287_760_384}\n"
        "def test_model(flops, resnet_bk): flops.check(resnet_bk(), **STEP, **FORWARD)\n"
        "def test_configuration(flops): flops.check(BASELINE_CONFIG, **STEP, **FORWARD)\n"
        "def test_counter(flops): flops.check(FLOPsCounter(BASELINE_CONFIG, **STEP), **FORWARD)\n"
        "def test_meter(flops):\n"
        "    with FLOPsMeter() as meter: torch.ones(3) + 1\n"
        "    flops.check(meter, forward=3)\n"
        "    flops.check(meter.count, forward=3)\n"
        "    assert flops.check(meter, total=3).count.forward == 3\n"
    )
    project.run().assert_outcomes(passed=4)


def test_each_count_of_a_test_is_a_subject_of_its_own_by_the_order_of_its_calls(
    project: Any,
) -> None:
    project.test(
        "from pytest_flops import FLOPsCount\n"
        "def test_it(flops):\n"
        "    for flop in (2, 1, 2): flops.check(FLOPsCount(flop), total=3)\n"
    )
    assert project.run().ret == 0
    found = {
        entry["subject"].partition("::")[2]: entry["measurement"]["count"]["total"]
        for entry in project.report()["entries"]
    }
    assert found == {"test_it": 2, "test_it (count 2)": 1, "test_it (count 3)": 2}


def test_check_names_what_it_takes_when_given_something_else(project: Any) -> None:
    project.test("def test_it(flops): flops.check(3, total='1 GFLOP')\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*flops.check() takes *not int*"])
    assert "def check(" not in result.stdout.str()


def test_check_of_a_meter_that_still_counts_is_refused(project: Any) -> None:
    project.test(
        "import torch\n"
        "from pytest_flops import FLOPsMeter\n"
        "def test_it(flops):\n"
        "    with FLOPsMeter() as meter:\n"
        "        torch.ones(3) + 1\n"
        "        flops.check(meter, total=3)\n"
        "        torch.ones(300) + 1\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*takes a finished FLOPsMeter*"])


def test_check_without_any_limit_says_how_to_give_one(project: Any) -> None:
    project.test(
        "from pytest_flops import FLOPsCount\ndef test_it(flops): flops.check(FLOPsCount(1))\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*nothing to hold the count against*flops_budget*"])


def test_check_of_a_model_without_sizes_asks_for_them(project: Any) -> None:
    project.test("def test_it(flops, resnet_bk): flops.check(resnet_bk(), total='1 TFLOP')\n")
    project.run().stdout.fnmatch_lines(["*needs batch_size= and seq_len=*"])
    assert project.report()["passed"] is False


def test_check_of_a_model_too_short_for_the_sequence_says_so(project: Any) -> None:
    project.test(
        "def test_it(flops, resnet_bk):\n"
        "    flops.check(resnet_bk(n_seq=8), batch_size=1, seq_len=9, total='1 TFLOP')\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*seq_len 9 is longer than*n_seq 8*", "test_model.py:2"])


def test_measure_holds_what_runs_inside_and_nothing_else(project: Any) -> None:
    project.test(
        "import torch\n"
        "def test_it(flops):\n"
        "    torch.ones(1000) + 1\n"
        "    with flops.measure(total=3): torch.ones(3) + 1\n"
        "def test_over(flops):\n"
        "    with flops.measure(total=2): torch.ones(3) + 1\n"
        "def test_look_only(flops):\n"
        "    with flops.measure() as meter: torch.ones(3) + 1\n"
        "    assert meter.count.total == 3\n"
    )
    project.run().assert_outcomes(passed=2, failed=1)


def test_measure_hands_on_the_tests_own_error(project: Any) -> None:
    project.test("def test_it(flops):\n    with flops.measure(total=2): raise OSError('mine')\n")
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *OSError: mine"])


def test_scaling_holds_the_growth_of_any_builder(project: Any) -> None:
    project.test(
        "import torch\n"
        "class Mix(torch.nn.Module):\n"
        "    def forward(self, x): return (x @ x.transpose(1, 2)) @ x\n"
        "def linear(seq_len): return torch.nn.Linear(4, 4), torch.randn(2, seq_len, 4)\n"
        "def quadratic(seq_len):\n"
        "    return Mix(), torch.randn(2, seq_len, 4, requires_grad=True)\n"
        "SIZES = [64, 128, 256]\n"
        "def test_linear(flops): flops.scaling(linear, seq_len=SIZES, max_exponent=1)\n"
        "def test_quadratic(flops): flops.scaling(quadratic, seq_len=SIZES, max_exponent=1)\n"
        "def test_allowed(flops): flops.scaling(quadratic, seq_len=SIZES, max_exponent=2)\n"
    )
    result = project.run()
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*forward*seq_len*2*1*"])


def test_scaling_must_sweep_the_sizes_of_the_budgets_limit(project: Any) -> None:
    project.test(
        "import pytest\n"
        "LIMIT = {'n': {'sizes': [8, 16, 32], 'max_exponent': 1}}\n"
        "def build(n): return __import__('torch').nn.Linear(4, 4), __import__('torch').ones(n, 4)\n"
        "@pytest.mark.flops_budget(scaling=LIMIT)\n"
        "def test_it(flops): flops.scaling(build, n=[1, 2, 3, 8])\n"
        "@pytest.mark.flops_budget(scaling=LIMIT)\n"
        "def test_all(flops): flops.scaling(build, n=[8, 16, 32, 64])\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*leaves out: 16, 32*"])


def test_scaling_takes_one_dimension_and_needs_a_limit(project: Any) -> None:
    project.test(
        "def build(**sizes): raise AssertionError\n"
        "def test_two(flops): flops.scaling(build, a=[1, 2, 3], b=[1, 2, 3], max_exponent=1)\n"
        "def test_none(flops): flops.scaling(build, a=[1, 2, 3])\n"
    )
    result = project.run()
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["*exactly one dimension*", "*nothing to hold the count against*"])


def test_a_marked_scaling_limit_is_held_by_checking_a_model(project: Any) -> None:
    project.test(
        "import pytest\n"
        "LIMIT = {'seq_len': {'sizes': [64, 128, 256], 'max_exponent': 0.5}}\n"
        "@pytest.mark.flops_budget(scaling=LIMIT)\n"
        "def test_it(flops, resnet_bk): flops.check(resnet_bk(), batch_size=2, seq_len=64)\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*over seq_len*"])


def test_resnet_bk_builds_from_the_budget_a_preset_a_configuration_and_fields(
    project: Any,
) -> None:
    project.budgets(project.baseline.replace("n_layers: 4", "n_layers: 3"))
    project.test(
        "import pytest\n"
        "from pytest_flops import BASELINE_CONFIG\n"
        "@pytest.mark.flops_budget('baseline')\n"
        "def test_budget(flops, resnet_bk):\n"
        "    assert resnet_bk().config.n_layers == 3\n"
        "    flops.check(resnet_bk())\n"
        "def test_others(resnet_bk):\n"
        "    assert resnet_bk().config == BASELINE_CONFIG\n"
        "    assert resnet_bk('d128-l8').config.d_model == 128\n"
        "    assert resnet_bk(BASELINE_CONFIG, n_layers=2).config.n_layers == 2\n"
        "    assert resnet_bk().lm_head.weight.is_meta\n"
        "    small = resnet_bk(vocab_size=10, n_layers=1, device='cpu')\n"
        "    assert small.lm_head.weight.device.type == 'cpu'\n"
        "def test_unknown(resnet_bk): resnet_bk('d129')\n"
    )
    result = project.run("test_model.py")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*no preset 'd129'; presets: baseline, d64-l4*"])


def test_flops_counter_takes_its_sizes_from_the_budget(project: Any) -> None:
    project.budgets()
    project.test(
        "import pytest\n"
        "from pytest_flops import BASELINE_CONFIG\n"
        "@pytest.mark.flops_budget('baseline')\n"
        "def test_it(flops, flops_counter):\n"
        "    assert flops_counter().count_forward_flops() == 16_287_760_384\n"
        "    flops.check(flops_counter())\n"
        "def test_alone(flops_counter):\n"
        "    counter = flops_counter(BASELINE_CONFIG, batch_size=64)\n"
        "    assert counter.count_forward_flops() == 2 * 16_287_760_384\n"
    )
    project.run("test_model.py").assert_outcomes(passed=2)


def test_flops_budget_is_the_merged_budget(project: Any) -> None:
    project.budgets()
    project.test(
        "import pytest\n"
        "@pytest.mark.flops_budget('baseline', forward='1 GFLOP')\n"
        "@pytest.mark.xfail\n"
        "def test_it(flops, flops_budget):\n"
        "    limits = {limit.quantity: limit.flops for limit in flops_budget.limits\n"
        "              if limit.pattern is None}\n"
        "    assert limits == {'total': 49_000_000_000, 'forward': 1_000_000_000}\n"
        "    flops.check(__import__('pytest_flops').BASELINE_CONFIG)\n"
        "def test_unmarked(flops_budget): pass\n"
    )
    result = project.run("test_model.py")
    result.assert_outcomes(xfailed=1, errors=1)
    result.stdout.fnmatch_lines(["*flops_budget needs a test marked*"])


def test_bk_core_is_given_on_the_cpu_and_skips_cuda_with_a_reason(project: Any) -> None:
    project.test(
        "import torch\n"
        "def test_it(bk_core):\n"
        "    ones = torch.ones(2)\n"
        "    features = bk_core(torch.zeros(1, 3), ones, ones, 1j).cpu()\n"
        "    dense = torch.diag(ones, 1) + torch.diag(ones, -1) - 1j * torch.eye(3)\n"
        "    expected = torch.view_as_real(torch.linalg.inv(dense).diagonal())\n"
        "    torch.testing.assert_close(features[0], expected)\n"
    )
    result = project.run("-rs")
    import torch

    if torch.cuda.is_available():
        result.assert_outcomes(passed=2)
    else:
        result.assert_outcomes(passed=1, skipped=1)
        result.stdout.fnmatch_lines(["*no CUDA device*"])


def test_usefixtures_counts_as_asking_for_flops(project: Any) -> None:
    project.test(
        "import pytest, torch\n"
        "@pytest.mark.usefixtures('flops')\n"
        "@pytest.mark.flops_budget(total='1 GFLOP')\n"
        "def test_it(): torch.ones(3) + 1\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*never calls flops.check()*"])
