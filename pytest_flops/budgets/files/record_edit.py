"""The text of a budget file with other `recorded` counts in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.files.yaml_edit import OneLine, YamlEditor
from pytest_flops.budgets.files.yaml_nodes import children, compose, location
from pytest_flops.counting.count import PHASES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flops.budgets.budget import Recorded
    from pytest_flops.counting.count import FLOPsCount


def with_recorded(text: str, changes: Mapping[str, Recorded], file: str) -> str:
    """The text (without a byte order mark) with these counts under `recorded`, by budget name.

    Raises:
        BudgetError: A budget is not in the file, or its `recorded` is shared through an anchor.
    """
    root = compose(text, file)
    editor = _RecordEditor(text, root, file)
    for name, recorded in changes.items():
        editor.record(name, recorded)
    return editor.result()


def record_of(recorded: Recorded) -> dict[str, Any]:
    """A `recorded` entry of the budget file format."""
    record: dict[str, Any] = dict(_phases(recorded.count))
    if recorded.components:
        record["components"] = {path: _phases(cost) for path, cost in recorded.components.items()}
    return record


def _phases(count: FLOPsCount) -> OneLine:
    return OneLine({phase: count.of(phase) for phase in PHASES})


class _RecordEditor:
    def __init__(self, text: str, root: yaml.Node | None, file: str) -> None:
        self._editor = YamlEditor(text)
        self._file = file
        self._uses = _uses(root)
        self._budgets = self._own(root, "budgets")

    def result(self) -> str:
        return self._editor.result()

    def record(self, name: str, recorded: Recorded) -> None:
        budget = self._own(self._budgets, name)
        step = _column(budget) - _column(self._budgets) or 2
        old = _value(budget, "recorded")
        if old is None:
            entry = {"recorded": record_of(recorded)}
            self._editor.insert(budget, _last_key(budget), entry, step)
        else:
            self._change(self._unshared(old, name), recorded, name, step)

    def _change(self, old: yaml.MappingNode, recorded: Recorded, name: str, step: int) -> None:
        self._set_phases(old, recorded.count, name)
        components = _value(old, "components")
        if components is not None and not recorded.components:
            self._editor.remove(old, ["components"])
        elif components is not None:
            self._change_components(self._unshared(components, name), recorded.components, name)
        elif recorded.components:
            entry = {"components": record_of(recorded)["components"]}
            self._editor.insert(old, _last_key(old), entry, step)

    def _change_components(
        self, old: yaml.MappingNode, components: Mapping[str, FLOPsCount], name: str
    ) -> None:
        kept = [key.value for key, _ in old.value if key.value in components]
        if old.flow_style and not kept:
            self._editor.replace_flow(old, {path: _phases(components[path]) for path in components})
            return
        for path in kept:
            entry = self._unshared(_value(old, path), name)
            self._set_phases(entry, components[path], name)
        self._editor.remove(old, [key.value for key, _ in old.value if key.value not in kept])
        for after, paths in _runs(components, set(kept)).items():
            entries = {path: _phases(components[path]) for path in paths}
            self._editor.insert(old, after, entries)

    def _set_phases(self, old: yaml.MappingNode, count: FLOPsCount, name: str) -> None:
        for phase in PHASES:
            node = _value(old, phase)
            if node is None or self._uses[id(node)] > 1:
                raise self._shared(old, name)
            self._editor.set_integer(node, count.of(phase))

    def _own(self, node: yaml.Node | None, key: str) -> yaml.MappingNode:
        value = _value(node, key) if isinstance(node, yaml.MappingNode) else None
        if not isinstance(value, yaml.MappingNode):
            raise BudgetError(f"{self._file} was not updated: it has no {key!r} of its own")
        return value

    def _unshared(self, node: yaml.Node | None, name: str) -> yaml.MappingNode:
        if not isinstance(node, yaml.MappingNode) or self._uses[id(node)] > 1:
            raise self._shared(node or self._budgets, name)
        return node

    def _shared(self, node: yaml.Node, name: str) -> BudgetError:
        return BudgetError(
            f"{location(node.start_mark, self._file)}: `recorded` of {name!r} was not updated: it "
            "is shared through an anchor; write it out, it belongs to one budget alone"
        )


def _uses(root: yaml.Node | None) -> dict[int, int]:
    """How many parents each node has; more than one means an anchor and its aliases."""
    uses: dict[int, int] = {}
    pending = [root] if root is not None else []
    while pending:
        for child in children(pending.pop()):
            uses[id(child)] = uses.get(id(child), 0) + 1
            if uses[id(child)] == 1:
                pending.append(child)
    return uses


def _value(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    """The value of a key of its own, merged ones left out."""
    for key_node, value_node in mapping.value:
        if key_node.value == key:
            return value_node  # type: ignore[no-any-return]
    return None


def _column(mapping: yaml.MappingNode) -> int:
    column: int = mapping.value[0][0].start_mark.column
    return column


def _last_key(mapping: yaml.MappingNode) -> str:
    key: str = mapping.value[-1][0].value
    return key


def _runs(components: Mapping[str, FLOPsCount], kept: set[str]) -> dict[str | None, list[str]]:
    """New components by the kept one they follow; `None` for those before every kept one."""
    runs: dict[str | None, list[str]] = {}
    after: str | None = None
    for path in components:
        if path in kept:
            after = path
        else:
            runs.setdefault(after, []).append(path)
    return runs
