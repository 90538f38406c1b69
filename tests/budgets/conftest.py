"""Budget files made of text."""

from __future__ import annotations

from textwrap import dedent

import pytest

from pytest_flops.budgets.errors import BudgetFileError
from pytest_flops.budgets.files.loader import load_budgets


@pytest.fixture
def budget_file(tmp_path):
    """Write a file and return its path; text is dedented."""

    def write(content):
        path = tmp_path / "b.yaml"
        data = content if isinstance(content, bytes) else dedent(content).encode()
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def load(budget_file):
    """The budgets of a text, in a file that messages call `b.yaml`."""
    return lambda content: load_budgets(budget_file(content), name="b.yaml")


@pytest.fixture
def problems(load):
    """What the loader says about a text: a list of `b.yaml:line:column: message`."""

    def messages(content):
        with pytest.raises(BudgetFileError) as caught:
            load(content)
        assert str(caught.value).splitlines() == [str(each) for each in caught.value.problems]
        return [str(each) for each in caught.value.problems]

    return messages
