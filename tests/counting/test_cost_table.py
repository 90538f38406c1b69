"""The cost table as code: where a rule stands, and how its formula reads a call."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from pytest_flops.counting import costs
from pytest_flops.counting.costs.table import FREE, TABLE, bound, enter

FOLDER = Path(costs.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
# flex_attention has no schema, by whose names the rules of a family are read.
MACHINERY = {"__init__", "table", "lookup", "kernels", "elements", "nested", "flex_attention"}
FAMILIES = [file for file in FILES if file.stem not in MACHINERY]
MODULES = {
    ".".join((costs.__name__, *file.relative_to(FOLDER).with_suffix("").parts)): file
    for file in FAMILIES
}
aten = torch.ops.aten


def by_position(tree: ast.AST) -> list[int]:
    """Lines that take arguments of a call by where they stand."""

    def is_args(node: ast.AST) -> bool:
        return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node).endswith("args")

    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and is_args(node.value):
            taken = not isinstance(node.slice, ast.Name)  # a position from the schema is a name
        else:
            taken = isinstance(node, ast.Assign) and is_args(node.value)
            taken = taken and isinstance(node.targets[0], ast.Tuple)
        if taken:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = args[0]", [1]),
        ("x, y = args", [1]),
        ("x = args[2:4]", [1]),
        ("x = args[position]", []),
        ("x = kwargs.get('self')", []),
    ],
)
def test_reading_by_position_is_seen(code, found):
    assert by_position(ast.parse(code)) == found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_formula_reads_arguments_by_position(file):
    assert by_position(ast.parse(file.read_text())) == []


@pytest.mark.parametrize("file", FAMILIES, ids=lambda file: file.stem)
def test_the_head_of_a_family_says_in_one_sentence_what_it_holds(file):
    head = ast.get_docstring(ast.parse(file.read_text()))
    assert head is not None
    assert re.fullmatch(r"[A-Z].*\.", head.splitlines()[0])


def test_every_formula_stands_in_the_file_that_names_its_operators():
    sources = {module: file.read_text() for module, file in MODULES.items()}
    per_element = f"{costs.__name__}.elements"  # so many per element, as the file says beside it
    for name, rule in TABLE.items():
        formula = rule.cost
        if formula is None or formula.__module__ == per_element:
            continue
        _, _, kernel = name.rpartition("::")
        kernel = re.sub("_(forward|backward)$", "", kernel)  # as attention's are listed
        assert re.search(rf"\b{kernel}(_forward|_backward)?\b", sources[formula.__module__]), name


def test_every_family_has_rules_that_are_found():
    for module, file in MODULES.items():
        if file.parent == FOLDER:  # others are entered when one of their operators is met
            assert set(" ".join(import_module(module).RULES).split()) <= TABLE.keys()
    assert costs.rule_of(aten.mm.default).cost is not None
    assert costs.rule_of(aten.view.default).cost is None


def read(formula: Callable[..., object], *args: object, **kwargs: object) -> object:
    return bound(formula, aten.avg_pool2d.default)(args, kwargs, "result")


def test_an_argument_is_what_was_given_by_position_or_by_name_or_the_default():
    assert read(lambda kernel_size: kernel_size, "x", [2, 2]) == [2, 2]
    assert read(lambda kernel_size: kernel_size, "x", kernel_size=[3, 3]) == [3, 3]
    assert read(lambda padding: padding, "x", [2, 2]) == [0, 0]
    assert read(lambda out: out, "x", [2, 2]) == "result"


def test_an_argument_that_the_schema_lacks_is_an_error_unless_it_has_a_default():
    with pytest.raises(TypeError, match="avg_pool2d.default has no argument 'kernel'"):
        read(lambda kernel: kernel, "x", [2, 2])
    assert read(lambda kernel=None: kernel, "x", [2, 2]) is None


def test_one_name_serves_both_libraries_of_operators():
    """`prims.sum(inp, dims)` is `aten.sum(self, dim)`."""
    x = torch.ones(3, 4)
    for operator in (aten.sum.dim_IntList, torch.ops.prims.sum.default):
        assert costs.rule_of(operator).cost((x, [0]), {}, x.sum(0)) == 12


def test_an_operator_has_one_rule():
    with pytest.raises(ValueError, match="has a rule already: mm"):
        enter({"mm": FREE})
