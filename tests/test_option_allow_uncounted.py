"""`--flops-allow-uncounted`: an operator without a known cost is a warning, not an error."""

from __future__ import annotations

from typing import Any

COUNTED = """
    import pytest
    from pytest_flops import FLOPsCount
    from pytest_flops.counting.measurement import Measurement
    @pytest.mark.flops_budget(total="1 kFLOP")
    def test_step(flops):
        unknown = {"mylib.mystery": 2}
        flops.check(Measurement(FLOPsCount(7), {}, "meter", "executed", uncounted=unknown))
"""


def test_an_uncounted_operator_is_an_error(project: Any, mode: tuple[str, ...]) -> None:
    project.test(COUNTED)
    project.fails(*mode, told=["*mylib.mystery ran 2 times and has no known cost*"])


def test_the_option_lets_it_through_and_the_report_still_tells(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.test(COUNTED)
    result = project.run_apart("--flops-allow-uncounted", *mode)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*Warning: the operator mylib.mystery ran 2 times*"])
    (entry,) = project.report()["entries"]
    assert entry["measurement"]["uncounted"] == {"mylib.mystery": 2}


def test_where_warnings_are_errors_the_test_fails_and_says_so(project: Any) -> None:
    project.test(COUNTED)
    result = project.fails(
        "--flops-allow-uncounted",
        "-W",
        "error",
        told=["*UserWarning: the operator mylib.mystery ran 2 times*"],
    )
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_the_ini_twin(project: Any) -> None:
    project.ini("flops_allow_uncounted = true")
    project.test(COUNTED)
    project.run_apart().assert_outcomes(passed=1)
