"""The keys under which pytest's config and items keep what is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flops.budgets.budget import Budget
    from pytest_flops.session.recorder import Recorder
    from pytest_flops.session.session import Gate

GATE: pytest.StashKey[Callable[[], Gate]] = pytest.StashKey()
BUDGET: pytest.StashKey[Budget] = pytest.StashKey()
MISTAKE: pytest.StashKey[str] = pytest.StashKey()
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()
