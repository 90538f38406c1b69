"""`--flops`: meter every test, print the dearest, and hold no more than without it."""

from __future__ import annotations

from typing import Any

import pytest

# A product of (2, 8) @ (8, 16) is 2 x 2 x 8 x 16 = 512 FLOPs. `small` runs one; `large` runs three,
# and a ReLU over 2 x 16 elements: 1,568. Together they are 2,080, of which 75.4 % and 24.6 %.
SUITE = """
    import pytest, torch
    linear = torch.nn.Linear(8, 16, bias=False)
    def test_small(): linear(torch.ones(2, 8))
    def test_large():
        class Net(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = linear
            def forward(self, x): return torch.relu([self.linear(x) for _ in range(3)][0])
        Net()(torch.ones(2, 8))
    def test_nothing(): pass
"""


def table(result: pytest.RunResult) -> list[list[str]]:
    """The rows below the table's head, as words, up to the first line that is none."""
    lines = result.outlines
    first = next(i for i, line in enumerate(lines) if line.startswith("test  "))
    rows = [line.split() for line in lines[first + 1 :]]
    return rows[: next(i for i, row in enumerate(rows) if "test_model.py::" not in row[0])]


def test_the_dearest_are_told_and_nothing_is_held(project: Any, mode: tuple[str, ...]) -> None:
    project.test(SUITE)
    result = project.run("--flops", *mode)
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    assert table(result) == [
        ["test_model.py::test_large", "1.568", "kFLOP", "75.4", "%", "linear"],
        ["test_model.py::test_small", "512", "FLOP", "24.6", "%"],
    ]
    result.stdout.fnmatch_lines(
        ["*mark it: @pytest.mark.flops_budget(total=1_568)", "Metered 2, and nothing was held."]
    )
    report = project.report()
    assert report["passed"]
    found = {entry["subject"]: entry for entry in report["entries"]}
    assert {*found} == {"test_model.py::test_large", "test_model.py::test_small"}
    assert found["test_model.py::test_large"]["metered"]
    assert found["test_model.py::test_large"]["measurement"]["count"]["total"] == 1568
    page = (project.root / "reports/flops.html").read_text(encoding="utf-8")
    assert "test_large" in page
    assert "metered, and held to nothing" in page


def test_without_it_unmarked_tests_are_not_metered(project: Any) -> None:
    project.test(SUITE)
    result = project.run()
    assert "FLOPs" not in result.stdout.str()
    assert not (project.root / "reports").exists()


def test_the_ini_twin(project: Any) -> None:
    project.ini("flops = true")
    project.test(SUITE)
    assert len(table(project.run())) == 2


def test_marked_tests_and_those_that_count_by_themselves_are_held_as_before(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.test(
        SUITE
        + """
    @pytest.mark.flops_budget(total=511)
    def test_marked(): linear(torch.ones(2, 8))
    def test_fixture(flops):
        linear(torch.ones(2, 8))
        with flops.measure(total=511): linear(torch.ones(2, 8))
"""
    )
    result = project.run("--flops", *mode)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(["Red: 2 of 2 budgets are over their limits."])
    assert [row[1] for row in table(result)] == ["1.568", *["512"] * 3]


def test_of_many_ten_are_told_and_the_others_summed_up(project: Any) -> None:
    # 1 to 14 additions: 105, of which 1 + 2 + 3 + 4 = 10 are of the four that have no line.
    project.test("""
        import pytest, torch
        @pytest.mark.parametrize("n", range(1, 15))
        def test_it(n): torch.ones(n) + 1
    """)
    result = project.run("--flops")
    assert [row[1] for row in table(result)] == [str(n) for n in range(14, 4, -1)]
    result.stdout.fnmatch_lines(["and 4 more tests: 10 FLOP, 9.52 %"])


def test_tests_that_do_not_pass_are_not_told_and_fail_for_their_own_reason(project: Any) -> None:
    project.test("""
        import unittest
        import pytest, torch
        def test_fails(): assert (torch.ones(3) + 1).sum() == 0
        def test_skips():
            torch.ones(3) + 1
            pytest.skip("no")
        @pytest.mark.xfail(strict=True)
        def test_expected(): assert (torch.ones(3) + 1).sum() == 0
        class TestCase(unittest.TestCase):
            def setUp(self): self.x = torch.ones(5) + 1
            def test_fails(self): self.assertEqual((self.x + 1).sum(), 0)
            def test_passes(self): self.x + 1
    """)
    result = project.run("--flops")
    result.assert_outcomes(passed=1, failed=2, skipped=1, xfailed=1)
    assert [row[:2] for row in table(result)] == [["test_model.py::TestCase::test_passes", "5"]]
    assert project.report()["passed"]


def test_what_it_meters_is_not_recorded_and_not_compared(project: Any) -> None:
    source = "import torch\ndef test_it(): torch.ones({}) + 1\n"
    project.test(source.format(5))
    project.run("--flops", "--flops-update", "--flops-report=base")
    assert not (project.root / "test_model.lock.json").exists()
    project.test(source.format(50))
    assert project.run("--flops", "--flops-compare=base/flops.json").ret == 0
    project.test("def test_other(): pass\n")
    assert project.run("--flops", "--flops-compare=base/flops.json").ret == 0


def test_an_operator_without_a_known_cost_is_told(project: Any) -> None:
    project.test("""
        import torch
        @torch.library.custom_op("dearest::unknown", mutates_args=())
        def unknown(x: torch.Tensor) -> torch.Tensor: return x.clone()
        def test_it(): unknown(torch.ones(5))
    """)
    result = project.run("--flops")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["cost more than counted, by operators without a known cost: test_model.py::test_it"]
    )


def test_a_run_without_pytorch_says_so(project: Any) -> None:
    project.test("def test_it(): pass\n")
    result = project.run("--flops")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["no test ran an operator of PyTorch that computes anything"])
