"""`@pytest.mark.flops_budget`: by name, inline, on classes and modules, and wrong in every way."""

from __future__ import annotations

from typing import Any

import pytest

CHECK = "(flops, resnet_bk): flops.check(resnet_bk(), batch_size=32, seq_len=128)\n"


def test_a_named_budget_holds_the_published_baseline(project: Any) -> None:
    project.budgets()
    project.test(
        "import pytest\n"
        "@pytest.mark.flops_budget('baseline')\n"
        "def test_baseline(flops, resnet_bk): flops.check(resnet_bk())\n"
    )
    project.run("test_model.py").assert_outcomes(passed=1)


def test_a_dearer_model_fails_its_test_with_the_figures_and_the_line(project: Any) -> None:
    project.budgets()
    project.records(baseline=project.baseline_count)
    project.test(
        "import pytest\n"
        "@pytest.mark.flops_budget('baseline')\n"
        "def test_baseline(flops, resnet_bk):\n"
        "    flops.check(resnet_bk(n_layers=5))\n"
    )
    result = project.run("test_model.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*forward: 16.427 GFLOP, limit 16.3 GFLOP*",
            f"*recorded*{16_287_760_384:,}*",
            "*--flops-update*",
            "*test_model.py:4",
        ]
    )
    assert "def check(" not in result.stdout.str()


@pytest.mark.parametrize(
    ("limit", "outcome"),
    [("16287760384", "passed"), ("16287760383", "failed")],
    ids=["equal-to-the-limit", "one-flop-over"],
)
def test_an_inline_limit_is_exact_to_the_flop(project: Any, limit: str, outcome: str) -> None:
    project.test(f"import pytest\n@pytest.mark.flops_budget(forward={limit})\ndef test_it{CHECK}")
    result = project.run()
    result.assert_outcomes(**{outcome: 1})
    if outcome == "failed":
        # Both would print as 16.288 GFLOP, so the exact digits are shown.
        result.stdout.fnmatch_lines(["*16,287,760,384*16,287,760,383*"])


def test_inline_component_limits_take_patterns(project: Any) -> None:
    project.test(
        "import pytest\n"
        "@pytest.mark.flops_budget(components={'layer_*.bk_core': {'forward': '139 kFLOP'}})\n"
        f"def test_it{CHECK}"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    # 34 x 32 x 128, by the reference page.
    result.stdout.fnmatch_lines(
        ["*layer_[*].bk_core (each of 4)*139.264 kFLOP*", f"*{34 * 32 * 128:,}*"]
    )


def test_the_nearest_marker_wins_keyword_by_keyword(project: Any) -> None:
    project.test(
        "import pytest\n"
        "pytestmark = pytest.mark.flops_budget(forward='1 FLOP', optimizer='1 FLOP')\n"
        "@pytest.mark.flops_budget(optimizer='63 MFLOP')\n"
        "class TestModel:\n"
        "    @pytest.mark.flops_budget(forward='17 GFLOP')\n"
        f"    def test_it(self, flops, resnet_bk):{CHECK.partition(':')[2]}"
        f"    def test_over(self, flops, resnet_bk):{CHECK.partition(':')[2]}"
    )
    result = project.run()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*forward: 16.288 GFLOP, limit 1 FLOP*"])


def test_a_limit_in_a_marker_replaces_the_named_budgets_own(project: Any) -> None:
    project.budgets()
    project.test(
        "import pytest\n"
        "@pytest.mark.flops_budget('baseline', forward='1 GFLOP')\n"
        "def test_it(flops, resnet_bk): flops.check(resnet_bk())\n"
    )
    result = project.run("test_model.py")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*forward: 16.288 GFLOP, limit 1 GFLOP*"])


def test_each_parameter_may_have_a_limit_of_its_own(project: Any) -> None:
    project.test(
        "import pytest\n"
        "@pytest.mark.parametrize('layers', [\n"
        "    pytest.param(4, marks=pytest.mark.flops_budget(forward='16.3 GFLOP')),\n"
        "    pytest.param(5, marks=pytest.mark.flops_budget(forward='16.3 GFLOP')),\n"
        "])\n"
        "def test_it(flops, resnet_bk, layers):\n"
        "    flops.check(resnet_bk(n_layers=layers), batch_size=32, seq_len=128)\n"
    )
    project.run().assert_outcomes(passed=1, failed=1)


def test_an_expected_failure_over_its_budget_xfails_and_leaves_the_report_green(
    project: Any,
) -> None:
    project.test(
        "import pytest\n"
        "@pytest.mark.xfail(reason='known')\n"
        f"@pytest.mark.flops_budget(forward='1 FLOP')\ndef test_it{CHECK}"
    )
    result = project.run()
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0
    assert project.report()["passed"] is True
    assert "known" in project.report()["entries"][0]["verdicts"][0]["message"]


def test_a_marked_test_without_our_fixtures_has_its_body_metered(project: Any) -> None:
    project.test(
        "import pytest, torch\n"
        "model = torch.nn.Linear(3, 5, bias=False)\n"
        "@pytest.mark.flops_budget(forward=2 * 7 * 3 * 5 - 1)\n"
        "def test_it(): model(torch.ones(7, 3))\n"
        "@pytest.mark.flops_budget(forward=2 * 7 * 3 * 5)\n"
        "def test_equal(): model(torch.ones(7, 3))\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["*forward: 210 FLOP, limit 209 FLOP*"])


def test_a_marked_test_with_our_other_fixtures_has_its_body_metered_too(project: Any) -> None:
    project.test(
        "import pytest, torch\n"
        "@pytest.mark.flops_budget(forward='2 FLOP')\n"
        "def test_it(resnet_bk, flops_counter, flops_budget): torch.ones(3) + 1\n"
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*forward: 3 FLOP, limit 2 FLOP*"])


def test_a_unittest_case_is_metered_too(project: Any) -> None:
    project.test(
        "import pytest, torch, unittest\n"
        "class TestModel(unittest.TestCase):\n"
        "    @pytest.mark.flops_budget(forward='1 FLOP')\n"
        "    def test_it(self): torch.ones(7, 3) @ torch.ones(3, 5)\n"
    )
    project.run().assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("'basline'", "no budget is named 'basline'; did you mean 'baseline'?"),
        ("'a', 'b'", "one budget's name, not 2"),
        ("3", "non-empty string, not 3"),
        ("forwards='1 GFLOP'", "*forwards*did you mean*forward*"),
        ("forward='1 GFLOPZ'", "*GFLOPZ*"),
        ("forward=-1", "*-1*"),
        ("forward=float('nan')", "*nan*"),
        ("forward=True", "*boolean*"),
        ("components={'': {'forward': 1}}", "*pattern*"),
        ("tolerance=3, forward=1", "*tolerance*3*"),
        ("scaling={'seq_len': {'sizes': [1, 2], 'max_exponent': 1}}", "*three*"),
    ],
)
def test_wrong_arguments_are_told_at_collection_with_the_line_of_the_test(
    project: Any, arguments: str, message: str
) -> None:
    project.budgets()
    project.test(
        f"import pytest\n@pytest.mark.flops_budget({arguments})\ndef test_it(flops): pass\n"
    )
    result = project.run("test_model.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: test_model.py:2: test_it: *flops_budget*{message}*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_all_wrong_markers_are_told_at_once(project: Any) -> None:
    project.test(
        "import pytest\n"
        "@pytest.mark.flops_budget(forward='x')\ndef test_one(flops): pass\n"
        "@pytest.mark.flops_budget('gone')\ndef test_two(flops): pass\n"
    )
    result = project.run()
    result.stderr.fnmatch_lines(["ERROR: *test_one*", "ERROR: *test_two*"])


def test_under_xdist_a_wrong_marker_is_an_error_of_its_test(project: Any) -> None:
    project.test("import pytest\n@pytest.mark.flops_budget('gone')\ndef test_it(flops): pass\n")
    result = project.run("-n", "2")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no budget is named 'gone'*"])


def test_the_marker_is_documented(project: Any) -> None:
    project.run("--markers", "--strict-markers").stdout.fnmatch_lines(
        ["@pytest.mark.flops_budget(name=None, *forward, backward*"]
    )
