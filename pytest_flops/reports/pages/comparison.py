"""A comparison by itself, as `pytest-flops compare` prints it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_flops.reports.comparison.wording import (
    changed_budgets,
    headline,
    other_tools,
    regressions,
    status,
)
from pytest_flops.reports.pages.github import annotation
from pytest_flops.reports.pages.markdown import markdown_items
from pytest_flops.reports.pages.markdown_page import Page, plain
from pytest_flops.reports.pages.terminal import text_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flops.reports.comparison.comparison import Comparison


def _text(comparison: Comparison) -> str:
    budgets = [line for budget in changed_budgets(comparison) for line in text_lines(budget)]
    tools = other_tools(comparison)
    return "\n".join([headline(comparison), *[tools] * bool(tools), *budgets]) + "\n"


def _markdown(comparison: Comparison) -> str:
    page = Page()
    page.add([f"## {'❌' if comparison.regressed else '✅'} {headline(comparison)}", ""])
    if tools := other_tools(comparison):
        page.add([plain(tools), ""])
    page.add_items(markdown_items(comparison), "more budgets", share=1)
    return page.text


def _json(comparison: Comparison) -> str:
    return json.dumps(comparison.to_dict(), indent=1) + "\n"


def _github(comparison: Comparison) -> str:
    """An error on the line of each budget that regressed; a notice for what else changed."""
    lines = [annotation("error", e.message, e.location) for e in regressions(comparison)]
    if tools := other_tools(comparison):
        lines.insert(0, annotation("warning", tools, None))
    for budget in changed_budgets(comparison):
        if not budget.regressed:
            message = f"the budget {budget.budget!r}: {status(budget)}"
            lines.append(annotation("notice", message, budget.location))
    return "".join(f"{line}\n" for line in lines)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": _text,
    "markdown": _markdown,
    "json": _json,
    "github": _github,
}
