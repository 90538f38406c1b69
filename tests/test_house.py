"""The house itself: which room may know which, and what each of them may import.

Read from the source by `ast`, imports inside functions and under `TYPE_CHECKING` included, so that
nothing here imports torch.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "pytest_flops"
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
}
COSTS = [name for name in MODULES if name.startswith("pytest_flops.counting.costs")]

ROOMS = {
    "": {"session", "reports", "resnet_bk", "budgets", "scaling", "counting"},
    "session": {"reports", "resnet_bk", "budgets", "scaling", "counting"},
    "reports": {"budgets", "scaling", "counting"},
    "resnet_bk": {"budgets", "scaling", "counting"},
    "budgets": {"scaling", "counting"},
    "scaling": {"counting"},
    "counting": set(),
}
"""What each room may import besides itself and the ground floor; `""` are the faces."""

GROUND_FLOOR = {"hookspecs", "options", "files"}
COUNTING_ORDER = ["count", "metric", "registration", "costs", "metrics", "meter", "measure"]
"""The parts of `counting` that have an order: each may import those before it, none after it."""

MAY_KNOW_RESNET_BK = {
    "pytest_flops",
    "pytest_flops.session.extensions",
    "pytest_flops.session.fixtures",
}
HEAVY = {"torch", "numpy", "yaml", "jinja2", "jsonschema"}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> frozenset[str]:
    """Every module that this one imports, ours by the name of the file."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= submodules or {str(node.module)}
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imports_of(module) if name.split(".")[0] == PACKAGE}


def room_of(module: str) -> str:
    """The folder a module is in; `""` for a face or the ground floor."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else ""


def is_on_the_ground_floor(module: str) -> bool:
    return module.removeprefix(f"{PACKAGE}.") in GROUND_FLOOR


def part_of_counting(module: str) -> int | None:
    parts = module.split(".")
    known = len(parts) > 2 and parts[1] == "counting" and parts[2] in COUNTING_ORDER
    return COUNTING_ORDER.index(parts[2]) if known else None


def test_arrows_between_rooms_run_one_way() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in MODULES
        for imported in ours(module)
        if room_of(imported) != room_of(module)
        and room_of(imported) not in ROOMS[room_of(module)]
        and not is_on_the_ground_floor(imported)
        and imported != PACKAGE
    ]
    assert not wrong


def test_arrows_inside_counting_run_one_way() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module in MODULES
        for imported in ours(module)
        if (part_of_counting(module) is not None and part_of_counting(imported) is not None)
        and (part_of_counting(imported) or 0) > (part_of_counting(module) or 0)
    ]
    assert not wrong


@pytest.mark.parametrize("module", sorted(GROUND_FLOOR))
def test_the_ground_floor_imports_nothing_of_ours(module: str) -> None:
    assert not ours(f"{PACKAGE}.{module}")


def test_no_module_imports_itself_by_way_of_others() -> None:
    reached: dict[str, set[str]] = {}

    def reach(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in reached:
            for imported in sorted(ours(module) - {PACKAGE}):
                reach(imported, (*path, module))
            reached[module] = ours(module)

    for module in MODULES:
        reach(module, ())


def test_only_three_modules_know_the_reference_model() -> None:
    knowing = {
        module
        for module in MODULES
        if room_of(module) != "resnet_bk"
        and any(room_of(imported) == "resnet_bk" for imported in ours(module))
    }
    assert knowing <= MAY_KNOW_RESNET_BK


def test_only_the_plugin_and_the_session_import_pytest() -> None:
    importing = {
        module
        for module in MODULES
        if room_of(module) != "session"
        and module != "pytest_flops.plugin"
        and any(name.split(".")[0] in ("pytest", "_pytest") for name in imports_at_run_time(module))
    }
    assert not importing


def imports_at_run_time(module: str) -> set[str]:
    """What this module imports, leaving out what stands under `TYPE_CHECKING`."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree_of(module)):
        if id(node) not in typing_only and isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif id(node) not in typing_only and isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("room", ["budgets", "reports"])
def test_rooms_of_plain_data_name_neither_torch_nor_pytest(room: str) -> None:
    named = {name.split(".")[0] for m in MODULES if room_of(m) == room for name in imports_of(m)}
    assert not named & {"torch", "pytest", "_pytest"}


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    program = (
        "import sys, pytest_flops.plugin\n"
        f"heavy = set(sys.modules) & {HEAVY!r}\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("room", ["budgets", "reports", "scaling", "resnet_bk.config"])
def test_importing_a_room_of_plain_data_imports_neither_torch_nor_pytest(room: str) -> None:
    name = f"{PACKAGE}.{room}"
    modules = [module for module in MODULES if module == name or module.startswith(f"{name}.")]
    program = (
        f"import sys, {', '.join(modules)}\nassert not {{'torch', 'pytest'}} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("module", COSTS)
def test_costs_read_arguments_by_name(module: str) -> None:
    by_position = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Subscript)
        and ast.unparse(node.value).split(".")[-1] == "args"
        and isinstance(node.ctx, ast.Load)
        and not isinstance(node.slice, ast.Name)
    ]
    assert not by_position


def test_every_room_says_in_one_sentence_what_it_holds() -> None:
    for folder in sorted({path.parent for path in MODULES.values()}):
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        sentence = (docstring or "").split("\n\n")[0]
        assert sentence.endswith("."), f"{folder}: {docstring!r}"
        assert ". " not in sentence, f"{folder}: more than one sentence"
