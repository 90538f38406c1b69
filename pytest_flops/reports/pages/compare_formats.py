"""A comparison as text, Markdown, JSON, or annotations of a GitHub workflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import printable
from pytest_flops.budgets.units import format_flops
from pytest_flops.reports.comparison.changes import FOREIGN, leading, regressions, relative
from pytest_flops.reports.pages.github import annotation
from pytest_flops.reports.pages.markdown_page import MAX_BYTES, Page, code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flops.reports.comparison.comparison import BudgetChange, Change, Comparison, Status

_SHOWN = 12
_WORST_FIRST: tuple[Status, ...] = ("dearer", "unmeasured", "removed", "added", "cheaper", "same")


def to_text(comparison: Comparison) -> str:
    """Lines for a terminal: regressions first; budgets that did not change are only counted."""
    lines = [headline(comparison)]
    for budget in worst_changes_first(comparison):
        lines += text_lines(budget)
    return "\n".join(lines) + "\n"


def to_markdown(comparison: Comparison, *, max_bytes: int = MAX_BYTES) -> str:
    """Markdown within GitHub's size limits, regressions first."""
    page = Page(max_bytes)
    sign = "❌" if comparison.regressed else "✅"
    page.add([f"## {sign} {headline(comparison)}", ""])
    items = [list(markdown_lines(budget)) for budget in worst_changes_first(comparison)]
    page.add_items(items, "more budgets", share=1)
    return page.text


def to_json(comparison: Comparison) -> str:
    """Every change, keys in a fixed order."""
    return json.dumps(comparison.to_dict(), indent=1) + "\n"


def to_github(comparison: Comparison) -> str:
    """Workflow commands: an error on the line of each budget that regressed, notices otherwise."""
    lines = [annotation("error", message, place) for message, place in regressions(comparison)]
    for budget in worst_changes_first(comparison):
        if not budget.regressed:
            message = f"the budget {budget.budget!r} is {_state(budget)}"
            lines.append(annotation("notice", message, budget.location))
    return "".join(f"{line}\n" for line in lines)


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": to_text,
    "markdown": to_markdown,
    "json": to_json,
    "github": to_github,
}


def headline(comparison: Comparison) -> str:
    """How many budgets regressed, and what else changed, in one line."""
    counted = [f"{len(comparison.having(status)):,} {status}" for status in _WORST_FIRST]
    found = [words for words in counted if not words.startswith("0 ")]
    if comparison.foreign:
        return f"FLOPs against the base: {FOREIGN}"
    verdict = "costs more than its base allows" if comparison.regressed else "no regression"
    return f"FLOPs against the base: {verdict} ({', '.join(found) or 'no budgets'})"


def worst_changes_first(comparison: Comparison) -> list[BudgetChange]:
    """The budgets that are not the same, regressions first."""
    changed = [budget for budget in comparison.budgets if budget.status != "same"]
    return sorted(changed, key=lambda b: (not b.regressed, _WORST_FIRST.index(b.status)))


def _state(budget: BudgetChange) -> str:
    if budget.status == "dearer" and not budget.regressed:
        return f"dearer, {'as newly recorded' if budget.accepted else 'within its tolerance'}"
    total = budget.total
    if budget.status == "cheaper" and total is not None:
        return f"cheaper by {format_flops(-total.difference)} ({relative(total)})"
    words = {"removed": "gone", "unmeasured": "not measured any more", "added": "new"}
    return words.get(budget.status, budget.status)


def text_lines(budget: BudgetChange) -> Iterator[str]:
    """One budget's change for a terminal."""
    yield f"  {printable(budget.budget)}: {_state(budget)}"
    for key, (before, after) in (budget.workload or {}).items():
        yield f"    the workload changed: {printable(f'{key} {before} -> {after}')}"
    found = leading(budget)
    for change in found[:_SHOWN]:
        yield f"    {printable(_growth(change))}"
    if len(found) > _SHOWN:
        yield f"    and {len(found) - _SHOWN:,} smaller changes"


def _growth(change: Change) -> str:
    about = " ".join(word for word in (change.component, change.quantity) if word)
    base, head = ("-" if n is None else f"{n:,}" for n in (change.base, change.head))
    notes = [f"{change.difference:+,}", relative(change), *_excuse(change)]
    return f"{about}: {base} -> {head} FLOP ({', '.join(notes)})"


def _excuse(change: Change) -> list[str]:
    """Why an increase is no regression."""
    if change.regressed or change.difference <= 0 or change.base is None:
        return []
    return ["as newly recorded" if change.accepted else "within tolerance"]


def markdown_lines(budget: BudgetChange) -> Iterator[str]:
    """One budget's change as a Markdown list item."""
    sign = "❌ " if budget.regressed else ""
    place = f" at {code(str(budget.location))}" if budget.location else ""
    yield f"- {sign}{code(budget.budget)} {_state(budget)}{place}"
    for key, (before, after) in (budget.workload or {}).items():
        yield f"  - the workload changed: {code(f'{key} {before} -> {after}')}"
    found = leading(budget)
    for change in found[:_SHOWN]:
        yield f"  - {code(_growth(change))}"
    if len(found) > _SHOWN:
        yield f"  - and {len(found) - _SHOWN:,} smaller changes"
