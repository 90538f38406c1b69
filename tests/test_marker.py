"""`@pytest.mark.flops_budget`: by name, inline, on classes and modules, and wrong in every way."""

from __future__ import annotations

from typing import Any

import pytest

CHECK = ("flops.check(resnet_bk(), batch_size=32, seq_len=128)", "flops, resnet_bk")


def test_a_named_budget_holds_the_published_baseline(project: Any) -> None:
    project.budgets()
    project.marked("'baseline'", "flops.check(resnet_bk())", "flops, resnet_bk")
    project.run("test_model.py").assert_outcomes(passed=1)


def test_a_dearer_model_fails_its_test_with_the_figures_and_the_line(project: Any) -> None:
    project.budgets()
    project.records(baseline=project.baseline_count)
    project.marked("'baseline'", "flops.check(resnet_bk(n_layers=5))", "flops, resnet_bk")
    result = project.fails(
        "test_model.py",
        "-v",
        told=[
            "write 16.5 GFLOP to allow it: forward, *",
            "*--flops-update*",
            "*test_model.py:7",
            "*forward: 16.427 GFLOP, limit 16.3 GFLOP*",
            "*forward: 16.427 GFLOP, recorded 16.288 GFLOP*",
        ],
    )
    assert "def check(" not in result.stdout.str()


@pytest.mark.parametrize(
    ("limit", "outcome"),
    [("16287760384", "passed"), ("16287760383", "failed")],
    ids=["equal-to-the-limit", "one-flop-over"],
)
def test_an_inline_limit_is_exact_to_the_flop(project: Any, limit: str, outcome: str) -> None:
    project.marked(f"forward={limit}", *CHECK)
    result = project.run()
    result.assert_outcomes(**{outcome: 1})
    if outcome == "failed":
        # Both would print as 16.288 GFLOP, so the exact digits are shown.
        result.stdout.fnmatch_lines(["*16,287,760,384*16,287,760,383*"])


def test_inline_component_limits_take_patterns(project: Any) -> None:
    project.marked("components={'layer_*.bk_core': {'forward': '139 kFLOP'}}", *CHECK)
    # 34 x 32 x 128, by the reference page.
    project.fails(told=[f"each of layer_0..3.bk_core forward: {34 * 32 * 128 / 1000} kFLOP*"])


def test_the_nearest_marker_wins_keyword_by_keyword(project: Any) -> None:
    project.test("""
        import pytest
        pytestmark = pytest.mark.flops_budget(forward="1 FLOP", optimizer="1 FLOP")
        STEP = {"batch_size": 32, "seq_len": 128}
        @pytest.mark.flops_budget(optimizer="63 MFLOP")
        class TestModel:
            @pytest.mark.flops_budget(forward="17 GFLOP")
            def test_it(self, flops, resnet_bk): flops.check(resnet_bk(), **STEP)
            def test_over(self, flops, resnet_bk): flops.check(resnet_bk(), **STEP)
    """)
    project.fails(told=["*forward: 16.288 GFLOP, limit 1 FLOP*"], passed=1)


def test_a_limit_in_a_marker_replaces_the_named_budgets_own(project: Any) -> None:
    project.budgets()
    project.marked("'baseline', forward='1 GFLOP'", "flops.check(resnet_bk())", "flops, resnet_bk")
    project.fails("test_model.py", told=["*forward: 16.288 GFLOP, limit 1 GFLOP*"])


def test_each_parameter_may_have_a_limit_of_its_own(project: Any) -> None:
    project.test("""
        import pytest
        @pytest.mark.parametrize("layers", [
            pytest.param(4, marks=pytest.mark.flops_budget(forward="16.3 GFLOP")),
            pytest.param(5, marks=pytest.mark.flops_budget(forward="16.3 GFLOP")),
        ])
        def test_it(flops, resnet_bk, layers):
            flops.check(resnet_bk(n_layers=layers), batch_size=32, seq_len=128)
    """)
    project.run().assert_outcomes(passed=1, failed=1)


def test_an_expected_failure_over_its_budget_xfails_and_leaves_the_report_green(
    project: Any,
) -> None:
    project.test("""
        import pytest
        @pytest.mark.xfail(reason="known")
        @pytest.mark.flops_budget(forward="1 FLOP")
        def test_it(flops, resnet_bk): flops.check(resnet_bk(), batch_size=32, seq_len=128)
    """)
    result = project.run()
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0
    assert project.report()["passed"] is True
    assert "known" in project.report()["entries"][0]["verdicts"][0]["message"]


def test_a_marked_test_without_our_fixtures_has_its_body_metered(project: Any) -> None:
    project.test("""
        import pytest, torch
        model = torch.nn.Linear(3, 5, bias=False)
        @pytest.mark.flops_budget(forward=2 * 7 * 3 * 5 - 1)
        def test_it(): model(torch.ones(7, 3))
        @pytest.mark.flops_budget(forward=2 * 7 * 3 * 5)
        def test_equal(): model(torch.ones(7, 3))
    """)
    project.fails(told=["*forward: 210 FLOP, limit 209 FLOP*"], passed=1)


def test_a_marked_test_with_our_other_fixtures_has_its_body_metered_too(project: Any) -> None:
    project.marked(
        "forward='2 FLOP'", "torch.ones(3) + 1", "resnet_bk, flops_counter, flops_budget"
    )
    project.fails(told=["*forward: 3 FLOP, limit 2 FLOP*"])


@pytest.mark.parametrize("limit", [512, 511])
def test_what_unittest_sets_up_is_not_counted(project: Any, limit: int) -> None:
    # The product of (4, 8) and (8, 8) alone.
    project.test(f"""
        import pytest, torch, unittest
        class TestModel(unittest.TestCase):
            def setUp(self): self.x = torch.ones(4, 8) + torch.ones(4, 8)
            def tearDown(self): self.x + self.x
            @pytest.mark.flops_budget(total={limit})
            def test_product(self): self.x @ torch.ones(8, 8)
    """)
    result = project.run()
    result.assert_outcomes(passed=limit // 512, failed=512 - limit)
    assert project.report()["entries"][0]["measurement"]["count"]["total"] == 512


def test_a_unittest_case_is_metered_too(project: Any) -> None:
    project.test("""
        import pytest, torch, unittest
        class TestModel(unittest.TestCase):
            @pytest.mark.flops_budget(forward="1 FLOP")
            def test_it(self): torch.ones(7, 3) @ torch.ones(3, 5)
    """)
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
    project.marked(arguments, "pass", "flops")
    project.refuses(
        "test_model.py", told=[f"ERROR: test_model.py:5: test_step: *flops_budget*{message}*"]
    )


def test_all_wrong_markers_are_told_at_once(project: Any) -> None:
    project.test("""
        import pytest
        @pytest.mark.flops_budget(forward="x")
        def test_one(flops): pass
        @pytest.mark.flops_budget("gone")
        def test_two(flops): pass
    """)
    project.refuses(told=["ERROR: *test_one*", "ERROR: *test_two*"])


def test_under_xdist_a_wrong_marker_is_an_error_of_its_test(project: Any) -> None:
    project.counted("'gone'")
    project.fails("-n", "2", told=["*no budget is named 'gone'*"], errors=1, failed=0)


def test_the_marker_is_documented(project: Any) -> None:
    project.run("--markers", "--strict-markers").stdout.fnmatch_lines(
        ["@pytest.mark.flops_budget(name=None, *forward, backward*"]
    )


PLAIN = "import pytest, torch\n@pytest.mark.{marker}\ndef test_step(): torch.ones(6) + 1\n"


@pytest.mark.parametrize(
    "name",
    ["flop_budget", "flops_budgets", "flops_budjet", "flop_budgets", "flopsbudget", "flosp_budget",
     "Flops_Budget", "flops_buget", "flpos_budegt", "floats_budget"],
)  # fmt: skip
@pytest.mark.parametrize("arguments", ["", "(total='1 FLOP')"], ids=["bare", "limit"])
def test_a_misspelt_marker_is_refused_also_where_no_other_budget_is(
    project: Any, name: str, arguments: str
) -> None:
    project.test(PLAIN.format(marker=name + arguments))
    told = f"ERROR: test_model.py:2: test_step: the marker '{name}' is not known and holds nothing;"
    project.refuses("-W", "ignore", told=[f"{told} did you mean 'flops_budget'? *"])


@pytest.mark.parametrize(
    "source",
    [
        "@MISSPELT\nclass TestIt:\n    def test_step(self): pass\n",
        "pytestmark = MISSPELT\ndef test_step(): pass\n",
        "@pytest.mark.parametrize('n', [pytest.param(1, marks=MISSPELT)])\ndef test_step(n): pass",
    ],
    ids=["class", "module", "param"],
)
def test_a_misspelt_marker_is_refused_wherever_it_stands(project: Any, source: str) -> None:
    project.test(f"import pytest\nMISSPELT = pytest.mark.flop_budget(total=1)\n{source}")
    project.refuses("-W", "ignore", told=["ERROR: *: test_step*'flop_budget' is not known*"])


def test_under_xdist_a_misspelt_marker_is_an_error_of_its_test(project: Any) -> None:
    project.test(PLAIN.format(marker="flop_budget"))
    project.fails("-n", "2", "-W", "ignore", told=["*'flop_budget' is not known*"],
                  errors=1, failed=0)  # fmt: skip


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("flop_budget", "flop_budget(n): of another plugin"),
        ("flops_budgets", "flops_budgets"),
        ("budget", ""),
        ("flops", ""),
        ("usefixtures('tmp_path')", ""),
    ],
)
def test_a_marker_that_is_declared_or_not_near_is_left_alone(
    project: Any, name: str, declared: str
) -> None:
    project.ini(f"markers =\n    {declared}")
    project.test(PLAIN.format(marker=name))
    result = project.run("-W", "ignore")
    result.assert_outcomes(passed=1)
    assert "FLOPs" not in result.stdout.str()


MARKED = "@pytest.mark.flops_budget(total='1 kFLOP')\n"
STEP = "def test_step(): torch.ones(6) + 1\n"
either = pytest.mark.parametrize("marked", ["", MARKED], ids=["unmarked", "marked"])


@either
@pytest.mark.parametrize(
    "late",
    [
        "@pytest.fixture(autouse=True)\ndef late(request): request.node.add_marker(MARK)\n",
        "def pytest_runtest_setup(item): item.add_marker(MARK)\n",
    ],
    ids=["fixture", "hook"],
)
def test_a_marker_that_comes_too_late_is_an_error_of_its_test(
    project: Any, mode: tuple[str, ...], late: str, marked: str
) -> None:
    mark = "pytest.mark.flops_budget(total='1 FLOP')"
    project.write("conftest.py", f"import pytest\nMARK = {mark}\n{late}")
    project.test(f"import pytest, torch\n{marked}{STEP}")
    told = "*added the marker flops_budget when the test was set up, too late to hold it*"
    project.fails(*mode, told=[told])


@either
def test_a_marker_that_a_hook_adds_after_collection_holds(project: Any, marked: str) -> None:
    project.write(
        "conftest.py",
        """
        import pytest
        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.flops_budget(forward="5 FLOP"))
    """,
    )
    project.test(f"import pytest, torch\n{marked}{STEP}")
    project.fails(told=["*forward: 6 FLOP, limit 5 FLOP*"])
