"""A comparison by itself, as `pytest-flops compare` prints it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_flops.reports.comparison.wording import changed_budgets, headline, regressions, status
from pytest_flops.reports.pages.github import annotation
from pytest_flops.reports.pages.markdown import markdown_items
from pytest_flops.reports.pages.markdown_page import MAX_BYTES, Page
from pytest_flops.reports.pages.terminal import text_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flops.reports.comparison.comparison import Comparison


def to_text(comparison: Comparison) -> str:
    """Lines for a terminal: regressions first; budgets that did not change are only counted."""
    lines = [headline(comparison)]
    for budget in changed_budgets(comparison):
        lines += text_lines(budget)
    return "\n".join(lines) + "\n"


def to_markdown(comparison: Comparison, *, max_bytes: int = MAX_BYTES) -> str:
    """Markdown within GitHub's size limits, regressions first."""
    page = Page(max_bytes)
    page.add([f"## {'❌' if comparison.regressed else '✅'} {headline(comparison)}", ""])
    page.add_items(markdown_items(comparison), "more budgets", share=1)
    return page.text


def to_json(comparison: Comparison) -> str:
    """Every change, keys in a fixed order."""
    return json.dumps(comparison.to_dict(), indent=1) + "\n"


def to_github(comparison: Comparison) -> str:
    """Workflow commands: an error on the line of each budget that regressed, notices otherwise."""
    lines = [annotation("error", message, place) for message, place in regressions(comparison)]
    for budget in changed_budgets(comparison):
        if not budget.regressed:
            message = f"the budget {budget.budget!r}: {status(budget)}"
            lines.append(annotation("notice", message, budget.location))
    return "".join(f"{line}\n" for line in lines)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "json": to_json,
    "github": to_github,
}
