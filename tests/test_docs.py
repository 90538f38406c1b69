"""Every page of the documentation is told as one story in one temporary project, block by block.

- A block whose first line is a comment with a file's name is written to that file. Budget files are
  loaded as they are written; a `diff` block replaces its `-` lines by its `+` lines.
- Any other `python` block is executed, in one namespace per page. Other YAML with `version` and
  `budgets` is loaded as budgets; other YAML and JSON is parsed.
- A `console` block that begins with `$ pytest`, `$ pytest-flops`, `$ python` or `$ cat` is run,
  command by command. What it shows must be shown, in order; a line `...` stands for any number of
  lines, and `...` within a line for anything. A command that shows nothing must succeed.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from pytest_flops import cli
from pytest_flops.budgets.files.loader import load_budgets
from pytest_flops.counting import costs

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGE = ROOT / "pytest_flops"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]

_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_NAME = re.compile(r"# (?P<path>[\w./-]+\.(?:py|yaml|toml|ini|md))(?: .*)?\n")
_LINK = re.compile(r"\[[^]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (?P<title>.+)$", re.MULTILINE)
_RUNNABLE = ("$ pytest", "$ pytest-flops", "$ python ", "$ cat ")
_NOT_TOLD = {"bash", "ini", "text", "toml"}
_WIDTH = 88

Program: TypeAlias = Callable[[list[str]], tuple[int, str]]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page.name, text[: found.start()].count("\n") + 1, found[1], found[2])
        for found in _BLOCK.finditer(text)
    ]


@dataclass
class Story:
    """A page's project as its blocks make it."""

    project: Any
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "page"})
    files: list[Path] = field(default_factory=list)

    def tell(self, block: Block) -> None:
        named = _FILE_NAME.match(block.text)
        if named and block.language in {"python", "yaml", "toml", "ini"}:
            self._write(named["path"], block)
        elif block.language not in _NOT_TOLD:
            tell = getattr(self, f"_{block.language}", None)
            assert tell, f"{block.place}: a block in {block.language!r} is told by nothing"
            tell(block)

    def _write(self, path: str, block: Block) -> None:
        file = self.project.write(path, block.text)
        self.files.append(file)
        if block.language == "yaml":
            self._yaml(block)

    def _python(self, block: Block) -> None:
        code = compile("\n" * block.line + block.text, f"<{block.page}>", "exec")
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, self.names)

    def _yaml(self, block: Block) -> None:
        found = yaml.safe_load(block.text)
        if isinstance(found, dict) and {"version", "budgets"} <= found.keys():
            load_budgets(self.project.write("block.txt", block.text))

    def _json(self, block: Block) -> None:
        json.loads(block.text)

    def _diff(self, block: Block) -> None:
        old, new = (
            "".join(line[1:] for line in block.text.splitlines(keepends=True) if line[0] in kept)
            for kept in ("- ", "+ ")
        )
        holders = [file for file in self.files if old in file.read_text(encoding="utf-8")]
        assert holders, f"{block.place}: no file of this page holds what the diff takes away"
        text = holders[-1].read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{block.place}: the diff fits in several places"
        holders[-1].write_text(text.replace(old, new), encoding="utf-8")

    def _console(self, block: Block) -> None:
        if block.text.startswith(_RUNNABLE):
            for command, shown in _commands(block.text):
                self._run(command, shown, block.place)

    def _run(self, command: str, shown: list[str], place: str) -> None:
        program, *arguments = shlex.split(command)
        code, output = self._programs[program](arguments)
        if shown:
            missing = first_difference(shown, output.splitlines())
            assert missing is None, f"{place}: $ {command}\nnot shown: {missing}\n\n{output}"
        else:
            assert code == 0, f"{place}: $ {command} ended with {code}\n\n{output}"

    @property
    def _programs(self) -> dict[str, Program]:
        return {
            "pytest": self._pytest,
            "pytest-flops": self._pytest_flops,
            "python": self._python_script,
            "cat": self._cat,
        }

    def _pytest(self, arguments: list[str]) -> tuple[int, str]:
        result = self.project.run(*arguments)
        return result.ret, f"{result.stdout.str()}\n{result.stderr.str()}"

    def _pytest_flops(self, arguments: list[str]) -> tuple[int, str]:
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                code = cli.main(arguments)
            except SystemExit as error:
                code = int(error.code or 0)
        for name, module in [*sys.modules.items()]:  # the page may change them
            if str(getattr(module, "__file__", "")).startswith(str(self.project.root)):
                del sys.modules[name]
        return code, output.getvalue()

    def _python_script(self, arguments: list[str]) -> tuple[int, str]:
        result = self.project.pytester.run(sys.executable, *arguments)
        return result.ret, f"{result.stdout.str()}\n{result.stderr.str()}"

    def _cat(self, arguments: list[str]) -> tuple[int, str]:
        return 0, "".join((self.project.root / path).read_text("utf-8") for path in arguments)


def _commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of a console block without its remark, and the lines shown below it."""
    commands: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            commands.append((re.split(r"\s+# ", line[2:])[0], []))
        else:
            commands[-1][1].append(line)
    return commands


def first_difference(shown: list[str], output: list[str]) -> str | None:
    """The first shown line that the output does not have at its place; None if it has all."""
    at, anywhere = 0, True
    for line in shown:
        if line.strip() == "...":
            anywhere = True
            continue
        fits = [i for i in range(at, len(output)) if _fits(line, output[i])]
        if not fits or not (anywhere or fits[0] == at):
            return line
        at, anywhere = fits[0] + 1, False
    return None


def _fits(shown: str, line: str) -> bool:
    pattern = ".*".join(map(re.escape, shown.rstrip().split("...")))
    return re.fullmatch(pattern, line.rstrip()) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_does_what_the_page_says(
    page: Path, project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(_WIDTH))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a file changes within a second
    monkeypatch.setattr(costs.lookup, "_registered", dict(costs.lookup._registered))
    monkeypatch.syspath_prepend(str(project.root))
    story = Story(project)
    for block in blocks_of(page):
        story.tell(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    dead = [
        target
        for target in (found["target"] for found in _LINK.finditer(prose))
        if not target.startswith(("https://", "http://", "mailto:")) and not _leads(page, target)
    ]
    assert dead == []


def _leads(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    if not file.exists():
        return False
    return not anchor or anchor in _anchors(file)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site's generator makes them."""
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", found["title"]).strip().lower())
        for found in _HEADING.finditer(prose)
    }


def test_a_shown_line_must_be_there_and_in_order() -> None:
    output = ["one", "two", "three"]
    assert first_difference(["...", "two", "three"], output) is None
    assert first_difference(["one", "...", "thr..."], output) is None
    assert first_difference(["one", "three"], output) == "three"
    assert first_difference(["...", "two", "one"], output) == "one"
    assert first_difference(["four"], output) == "four"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "assert 1 + 1 == 3\n"),
        ("yaml", "version: 1\nbudgets: {net: {limts: {total: 1}}}\n"),
        ("json", "{\n"),
        ("console", "$ pytest\n...\nwhat nobody prints\n"),
        ("console", "$ pytest-flops compare no.json such.json\n"),
        ("diff", "-what no file holds\n+something\n"),
        ("pyhton", "1\n"),
    ],
)
def test_a_page_that_is_wrong_is_found_out(language: str, text: str, project: Any) -> None:
    with pytest.raises((AssertionError, ValueError)):
        Story(project).tell(Block("page.md", 1, language, text))


def test_every_message_of_the_failure_page_is_one_that_the_code_says() -> None:
    titles = re.findall(r"^### `(.+)`$", (DOCS / "faq.md").read_text("utf-8"), re.MULTILINE)
    assert titles
    said = "\n".join(_constant_texts())
    pieces = [piece.strip(" :;?") for title in titles for piece in title.split("...")]
    assert [piece for piece in pieces if piece not in said] == []


def _constant_texts() -> list[str]:
    trees = (ast.parse(file.read_text("utf-8")) for file in PACKAGE.rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree))
    constants = (node.value for node in nodes if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, str)]


def test_every_option_and_fixture_is_documented() -> None:
    page = (DOCS / "pytest.md").read_text("utf-8")
    options = re.findall(r'"(flops_[a-z_]+)"', (PACKAGE / "options.py").read_text("utf-8"))
    names = {f"`{name}`" for name in {*options, *_fixtures()} - {"flops_budget"}}
    assert {name for name in names if name not in page} == set()


def _fixtures() -> list[str]:
    text = (PACKAGE / "session/fixtures.py").read_text("utf-8")
    return re.findall(r"^@pytest\.fixture.*\ndef ([a-z]\w+)", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "schema"),
    [("budgets.md", "budgets/schema.json"), ("report.md", "reports/schema.json")],
    ids=["budgets", "report"],
)
def test_every_key_of_a_format_is_documented(page: str, schema: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    keys = _keys(json.loads((PACKAGE / schema).read_text("utf-8")))
    assert {key for key in keys if f"`{key}`" not in text} == set()


def _keys(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(_keys, schema))
    if not isinstance(schema, dict):
        return set()
    own = schema.get("properties", {})
    return set(own).union(*map(_keys, schema.values()))
