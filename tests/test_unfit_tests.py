"""Marked tests that no budget can hold: what they count is a matter of chance, or not ours."""

from __future__ import annotations

from typing import Any

import pytest

LOADED = "pytest_plugins = ['pytest_benchmark.plugin']\n"
STEP = "lambda: torch.ones(6) + 1"


@pytest.fixture
def benchmarked(project: Any) -> Any:
    """A project with the fixtures of pytest-benchmark, where they have them, in few words."""
    project.write("pytest_benchmark/__init__.py", "")
    project.write(
        "pytest_benchmark/plugin.py",
        """
        import pytest
        @pytest.fixture
        def benchmark(): return lambda work: [work() for _ in range(7)]
        @pytest.fixture
        def benchmark_weave(benchmark): return benchmark
    """,
    )
    project.write("conftest.py", LOADED)
    return project


@pytest.mark.parametrize(
    "limits", ["total='1 MFLOP'", "'step'", ""], ids=["inline", "named", "snapshot"]
)
@pytest.mark.parametrize("fixture", ["benchmark", "benchmark_weave"])
def test_a_benchmark_is_refused_with_what_to_do_instead(
    benchmarked: Any, fixture: str, limits: str
) -> None:
    benchmarked.budget("step", "limits: {total: 1}")
    benchmarked.marked(limits, f"{fixture}({STEP})", fixture)
    told = "ERROR: test_model.py:5: test_step: pytest-benchmark repeats its work by the clock, *"
    benchmarked.refuses(told=[f"{told}ask for the fixture 'flops' too*"])


def test_a_fixture_that_is_built_on_a_benchmark_is_refused_too(benchmarked: Any) -> None:
    fixtures = """
import pytest
@pytest.fixture
def timed(benchmark): return benchmark
@pytest.fixture
def benchmark(benchmark): return benchmark
"""
    benchmarked.write("conftest.py", LOADED + fixtures)
    benchmarked.marked("", f"timed({STEP})", "timed")
    benchmarked.refuses(told=["ERROR: *: test_step: pytest-benchmark repeats its work*"])


def test_one_call_beside_a_benchmark_is_counted(benchmarked: Any) -> None:
    benchmarked.marked(
        "forward='6 FLOP'",
        f"""
        step = {STEP}
        with flops.measure():
            step()
        benchmark(step)
        """,
        "flops, benchmark",
    )
    assert benchmarked.run().ret == 0
    benchmarked.marked("forward='5 FLOP'", f"with flops.measure():\n    ({STEP})()", "flops")
    benchmarked.fails(told=["*forward: 6 FLOP, limit 5 FLOP*"])


@pytest.mark.parametrize(
    ("conftest", "source"),
    [
        ("import pytest\n@pytest.fixture\ndef benchmark(): return 'squad'\n", "{step}"),
        ("", "@pytest.mark.parametrize('benchmark', ['squad'])\n{step}"),
    ],
    ids=["fixture", "parameter"],
)
def test_a_benchmark_of_the_projects_own_is_none_of_the_plugin(
    project: Any, conftest: str, source: str
) -> None:
    project.write("conftest.py", conftest)
    step = "@pytest.mark.flops_budget(total=6)\ndef test_step(benchmark): torch.ones(6) + 1\n"
    project.test("import pytest, torch\n" + source.format(step=step))
    assert project.run().ret == 0
    assert len(project.report()["entries"]) == 1


@pytest.mark.parametrize(
    "source",
    [
        "@MARKED\n@given(SIZES)\ndef test_step(n): torch.ones(n) + 1\n",
        "@given(SIZES)\n@MARKED\ndef test_step(n): torch.ones(n) + 1\n",
        "@MARKED\nclass TestIt:\n    @given(SIZES)\n    def test_step(self, n): pass\n",
        "@MARKED\n@given(n=SIZES)\ndef test_step(flops, n): flops.check(FLOPsCount(n))\n",
    ],
    ids=["above", "below", "class", "with-flops"],
)
def test_random_examples_are_refused_with_what_to_do_instead(project: Any, source: str) -> None:
    project.test(
        "import pytest, torch\nfrom hypothesis import given, strategies\n"
        "from pytest_flops import FLOPsCount\nSIZES = strategies.integers(1, 9)\n"
        f"MARKED = pytest.mark.flops_budget(total=1000)\n{source}"
    )
    project.refuses(
        told=["ERROR: test_model.py:*: test_step: Hypothesis calls it for random examples*"]
    )


def test_an_unmarked_hypothesis_test_is_left_alone(project: Any) -> None:
    project.test("""
        from hypothesis import given, strategies
        @given(strategies.booleans())
        def test_step(flag): pass
    """)
    assert project.run().ret == 0


@pytest.mark.parametrize(
    ("path", "source", "whose"),
    [
        ("conftest.py", "import pytest\n@pytest.fixture\ndef flops(): return 3\n", "conftest.py"),
        (
            "helpers/things.py",
            "import pytest\n@pytest.fixture(name='flops')\ndef make_flops(): return 3\n",
            "helpers/things.py",
        ),
    ],
    ids=["conftest", "plugin"],
)
def test_another_fixture_of_our_name_is_told_with_its_file(
    project: Any, path: str, source: str, whose: str
) -> None:
    project.write(path, source)
    if path != "conftest.py":
        project.ini("pythonpath = helpers")
        project.write("conftest.py", "from things import make_flops\n")
    project.counted("total='1 kFLOP'")
    told = f"ERROR: test_model.py:5: test_step: its fixture 'flops' is that of {whose}, which *"
    project.refuses(told=[told])


def test_a_parameter_of_our_name_is_told_as_that(project: Any) -> None:
    project.test("""
        import pytest, torch
        @pytest.mark.parametrize("flops", [6])
        @pytest.mark.flops_budget(total="1 kFLOP")
        def test_step(flops): assert (torch.ones(flops) + 1).sum() == 12
    """)
    project.refuses(
        told=["ERROR: *test_step[[]6]: its fixture 'flops' is a parameter of the test*"]
    )


def test_a_fixture_that_is_built_on_ours_counts_by_ours(project: Any) -> None:
    project.write(
        "conftest.py",
        """
        import pytest
        @pytest.fixture
        def flops(flops): return flops
    """,
    )
    project.counted("total=330")
    assert project.run().ret == 0
    project.counted("total=329")
    project.fails(told=["*total: 330 FLOP, limit 329 FLOP*"])


def test_a_projects_own_flops_in_a_test_without_a_marker_is_left_alone(project: Any) -> None:
    project.write("conftest.py", "import pytest\n@pytest.fixture\ndef flops(): return 3\n")
    project.test("def test_it(flops): assert flops == 3\n")
    assert project.run().ret == 0


def test_under_xdist_it_is_an_error_of_its_test(project: Any) -> None:
    project.write("conftest.py", "import pytest\n@pytest.fixture\ndef flops(): return 3\n")
    project.counted("total='1 kFLOP'")
    project.fails("-n", "2", told=["*its fixture 'flops' is that of conftest.py*"],
                  errors=1, failed=0)  # fmt: skip
