"""YAML text as a tree of nodes that know where they stand; hostile documents are refused."""

from __future__ import annotations

import re
from typing import Any

import yaml

from pytest_flops.budgets.budget import Location
from pytest_flops.budgets.errors import BudgetFileError, Problem

MAX_DEPTH = 60
MAX_REPEATED_NODES = 100_000

_READ_DIFFERENTLY = re.compile(r"[\t\ufeff]|[|>][-+0-9]*#")
_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def compose(text: str, file: str) -> yaml.Node | None:
    """The one document of `text` as a tree, aliases being shared nodes; `None` when it is empty.

    The C parser does the work where PyYAML has it. What it refuses, and what the two parsers read
    differently, the Python parser judges, so results are the same on every machine.

    Args:
        text: The document without a byte order mark.
        file: The file's name in messages.

    Raises:
        BudgetFileError: Not YAML, nested too deep, several documents, or aliases that contain
            themselves or expand to more than `MAX_REPEATED_NODES` repeated nodes.
    """
    try:
        return _compose_with(_fast_loader(text), text, file)
    except yaml.YAMLError:
        try:
            return _compose_with(yaml.SafeLoader, text, file)
        except yaml.YAMLError as error:
            raise BudgetFileError([_syntax_problem(error, text, file)]) from None


def location(mark: Any, file: str) -> Location:
    """A parser's mark as a location, counted from 1."""
    return Location(file, mark.line + 1, mark.column + 1)


def _fast_loader(text: str) -> Any:
    """The C parser, unless the text has what it reads otherwise than the Python parser.

    These are tabs, byte order marks, a comment right behind `|` or `>`, and `?` in plain scalars.
    """
    differs = _READ_DIFFERENTLY.search(text) or any(map(_may_ask, text.split("\n")))
    return yaml.SafeLoader if differs else _FAST


def _may_ask(line: str) -> bool:
    """Whether a line may have a `?` outside a comment; behind a quote, `#` may begin none."""
    if "?" not in line:
        return False
    return "'" in line or '"' in line or "?" in f" {line}".partition(" #")[0]


def _compose_with(loader_class: Any, text: str, file: str) -> yaml.Node | None:
    has_aliases = _refuse_deep_nesting(loader_class, text, file)
    loader = loader_class(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    finally:
        loader.dispose()
    if node is not None and has_aliases:
        _refuse_runaway_aliases(node, file)
    return node


def _refuse_deep_nesting(loader_class: Any, text: str, file: str) -> bool:
    """Composing recurses, in C without any guard; parsing to events does not.

    Returns:
        Whether the document has aliases at all.
    """
    depth = 0
    has_aliases = False
    for event in yaml.parse(text, Loader=loader_class):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                where = location(event.start_mark, file)
                message = f"nested deeper than {MAX_DEPTH} levels"
                raise BudgetFileError([Problem(where, message)])
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            has_aliases = True
    return has_aliases


def children(node: yaml.Node) -> list[yaml.Node]:
    """The keys and values of a mapping, the items of a sequence, nothing of a scalar."""
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _refuse_runaway_aliases(root: yaml.Node, file: str) -> None:
    sizes: dict[int, int | None] = {}

    def expanded_size(node: yaml.Node) -> int:
        known = sizes.get(id(node), 0)
        if known is None:
            message = "this anchor's alias stands inside itself, so the document has no end"
            raise BudgetFileError([Problem(location(node.start_mark, file), message)])
        if not known:
            sizes[id(node)] = None
            sizes[id(node)] = known = 1 + sum(map(expanded_size, children(node)))
        return known

    repeated = expanded_size(root) - len(sizes)
    if repeated > MAX_REPEATED_NODES:
        message = (
            f"aliases expand this document by more than {MAX_REPEATED_NODES:,} nodes; "
            "write the entries out"
        )
        raise BudgetFileError([Problem(location(root.start_mark, file), message)])


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        character = f"U+{ord(text[error.position]):04X}"
        message = f"the control character {character} is not allowed in YAML"
        return Problem(Location(file, line, column), message)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    where = location(mark, file) if mark else Location(file, 1, 1)
    if mark and text[mark.index : mark.index + 1] == "\t":
        return Problem(where, "not valid YAML: a tab stands here; YAML accepts only spaces")
    return Problem(where, _in_words(error))


def _in_words(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    if "another document" in problem:
        return "a second document begins here (---); a budget file holds one"
    if "undefined alias" in problem:
        name = problem.removeprefix("found undefined alias").strip()
        return f"the alias {name} has no anchor above it"
    if "duplicate anchor" in str(context):
        return f"{context}; anchors need names of their own"
    return f"not valid YAML: {context + ', ' if context else ''}{problem}"
