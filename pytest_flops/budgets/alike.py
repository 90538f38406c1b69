"""Components that are alike, such as the layers of a model: what holds for each is told once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flops.budgets.parts import Row
    from pytest_flops.budgets.verdict import Verdict

_NUMBER = re.compile(r"[0-9]+")


def merge_rows(rows: Iterable[Row]) -> list[Row]:
    """Rows of components that differ in their numbers alone, cost the same and grew the same: one.

    It has their sum and the name `layer_*.moe (12 together)`.
    """
    families: dict[tuple[str, int, int | None], list[str]] = {}
    for path, flops, above in rows:
        families.setdefault((_family(path), flops, above), []).append(path)
    return [
        (
            paths[0] if len(paths) == 1 else f"{name} ({len(paths)} together)",
            len(paths) * flops,
            above and len(paths) * above,
        )
        for (name, flops, above), paths in families.items()
    ]


def merge_verdicts(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Verdicts that say the same of components that differ in their numbers alone: one.

    Its component is `layer_*.moe (each of 12)`.
    """
    families: dict[Verdict, list[Verdict]] = {}
    for verdict in verdicts:
        common = replace(verdict, component=_family(verdict.component or ""), parts=())
        families.setdefault(common, []).append(verdict)
    return [_one_for(alike) for alike in families.values()]


def _one_for(alike: Sequence[Verdict]) -> Verdict:
    first = alike[0]
    if len(alike) == 1 or first.component is None:
        return first
    return replace(first, component=f"{_family(first.component)} (each of {len(alike)})")


def _family(path: str) -> str:
    return _NUMBER.sub("*", path)
