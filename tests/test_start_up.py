"""Being installed costs a pytest run that has no budgets next to nothing."""

from __future__ import annotations

from typing import Any

HEAVY = ("torch", "numpy", "yaml", "jinja2", "jsonschema")

LIST_HEAVY_MODULES = f"""
import sys
def pytest_unconfigure():
    found = sorted(set(sys.modules) & {set(HEAVY)!r})
    print("HEAVY:", found)
"""


def heavy_modules(project: Any, *arguments: str) -> list[str]:
    project.write("conftest.py", LIST_HEAVY_MODULES)
    result = project.run_apart("--collect-only", "-q", *arguments)
    (line,) = [line for line in result.outlines if line.startswith("HEAVY:")]
    found: list[str] = eval(line.removeprefix("HEAVY:"))
    return found


def test_a_run_without_budgets_imports_nothing_heavy(project: Any) -> None:
    project.test("def test_nothing(): pass\n")
    project.write("values.yaml", "replicas: 3\n")
    assert heavy_modules(project) == []


def test_collecting_budgets_needs_no_torch(project: Any) -> None:
    project.budgets()
    assert heavy_modules(project, "budgets") == ["jsonschema", "yaml"]


def test_public_names_are_listed_and_found() -> None:
    import pytest_flops

    for name in pytest_flops.__all__:
        assert getattr(pytest_flops, name) is not None
        assert name in dir(pytest_flops)
    assert not hasattr(pytest_flops, "no_such_name")
