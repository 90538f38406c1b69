"""The keys under which pytest's items keep what is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_flops.budgets.budget import Budget
    from pytest_flops.session.recorder import Recorder

BUDGET: pytest.StashKey[Budget] = pytest.StashKey()
MISTAKE: pytest.StashKey[str] = pytest.StashKey()
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()
