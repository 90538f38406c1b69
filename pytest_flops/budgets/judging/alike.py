"""Components that are alike, such as the layers of a model: what holds for each is told once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from pytest_flops.counting.components import family

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flops.budgets.judging.blame import Row


class OfComponent(Protocol):
    """A frozen dataclass about a component: a verdict, a change."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def component(self) -> str | None:
        """The component's path; `None` for the whole workload."""


OfComponentT = TypeVar("OfComponentT", bound=OfComponent)


def merge_rows(rows: Iterable[Row]) -> list[Row]:
    """Rows of components that differ in their first number alone, and cost and grew the same: one.

    It has their sum and the name `layer_*.moe (12 together)`.
    """
    families: dict[tuple[str, int, int | None], list[str]] = {}
    for path, flops, above in rows:
        families.setdefault((family(path), flops, above), []).append(path)
    return [
        (
            paths[0] if len(paths) == 1 else f"{name} ({len(paths)} together)",
            len(paths) * flops,
            above and len(paths) * above,
        )
        for (name, flops, above), paths in families.items()
    ]


def merge_alike(items: Iterable[OfComponentT], **unlike: Any) -> list[OfComponentT]:
    """What is the same of components that differ in their first number alone: one.

    Its component is `layer_*.moe (each of 12)`.

    Args:
        items: What is told of components.
        unlike: Fields in which they may differ, with a value to compare instead.
    """
    families: dict[OfComponentT, list[OfComponentT]] = {}
    for item in items:
        common = replace(item, component=family(item.component or ""), **unlike)
        families.setdefault(common, []).append(item)
    return [_one_for(alike) for alike in families.values()]


def _one_for(alike: Sequence[OfComponentT]) -> OfComponentT:
    first = alike[0]
    if len(alike) == 1 or first.component is None:
        return first
    return replace(first, component=f"{family(first.component)} (each of {len(alike)})")
