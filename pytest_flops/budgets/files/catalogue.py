"""Which budgets a run knows: files found, loaded once, their mistakes gathered."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError, BudgetFileError, Problem
from pytest_flops.budgets.files.loader import load_budgets, looks_like_budgets
from pytest_flops.budgets.files.lock import lock_file_of, read_lock
from pytest_flops.options import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_flops.budgets.budget import Budget, Location, Recorded
    from pytest_flops.budgets.files.lock import Records
    from pytest_flops.counting.builder import Builders


class Catalog:
    """The budget files of one run.

    Args:
        rootdir: Paths are shown relative to it.
        named: Files and folders that somebody named; whatever they hold must fit the schema.
        default: The folder that is looked into when nobody named one; foreign YAML in it is left
            alone.
        given: Files that pytest was told to run; they must fit the schema as well.
        builders: Gives the registered builders, which check the workloads that name them.

    Attributes:
        problems: The mistakes of all files loaded so far.
        foreign: YAML of the default folder that does not look like budgets.
    """

    def __init__(
        self,
        rootdir: Path,
        named: Iterable[Path],
        default: Path,
        given: Iterable[Path] = (),
        *,
        builders: Callable[[], Builders],
    ) -> None:
        self._rootdir = rootdir
        self._named = tuple(named)
        self._default = default
        self._given = frozenset(given)
        self._builders = builders
        self._loaded: dict[Path, dict[str, Budget]] = {}
        self._locks: dict[Path, Records] = {}
        self.problems: list[Problem] = []
        self.foreign: set[Path] = set()

    def shown(self, path: Path) -> str:
        """The path as messages and node ids show it: relative to rootdir, with slashes."""
        inside = path.is_relative_to(self._rootdir)
        return (path.relative_to(self._rootdir) if inside else path).as_posix()

    def file_of(self, location: Location) -> Path:
        """The file of a location that this catalog's budgets carry."""
        return self._rootdir / location.file

    def is_budget_file(self, path: Path) -> bool:
        """Whether a YAML file that the run met is one that somebody named, or holds budgets."""
        if path.suffix not in SUFFIXES:
            return False
        is_named = path in self._given or any(path.is_relative_to(each) for each in self._named)
        return is_named or _looks_like_budgets(path)

    def load(self, path: Path) -> dict[str, Budget]:
        """The budgets of one file with their records, loaded once.

        Mistakes in it or in its lock file go to `problems`, and it holds no budget.
        """
        if path not in self._loaded:
            try:
                budgets = load_budgets(path, name=self.shown(path), builders=self._builders())
                records = self.records(lock_file_of(path))
                self._loaded[path] = {
                    name: replace(budget, recorded=records.get(("budgets", name)))
                    for name, budget in budgets.items()
                }
            except BudgetFileError as error:
                self._loaded[path] = {}
                self.problems.extend(error.problems)
        return self._loaded[path]

    def records(self, lock: Path) -> Records:
        """What a lock file says, read once.

        Raises:
            BudgetFileError: With every mistake of the file.
        """
        if lock not in self._locks:
            self._locks[lock] = read_lock(lock, self.shown(lock))
        return self._locks[lock]

    def recorded(self, test: str) -> Recorded | None:
        """The record of a marked test that names no budget; of its second count, `... (count 2)`.

        Raises:
            BudgetFileError: Its lock file has mistakes.
        """
        file, _, name = test.partition("::")
        return self.records(lock_file_of(self._rootdir / file)).get(("tests", name))

    def load_all(self) -> dict[Path, dict[str, Budget]]:
        """Every budget the run knows, by file.

        Raises:
            BudgetError: A named file or folder does not exist.
        """
        for named in self._named:
            if not named.exists():
                raise BudgetError(f"there is no file or folder of budgets at {self.shown(named)}")
        for place in self._named or (self._default,):
            files = _yaml_files(place)
            if not files and place in self._named:
                raise BudgetError(f"there is no YAML file of budgets in {self.shown(place)}")
            for path in files:
                if self.is_budget_file(path):
                    self.load(path)
                else:
                    self.foreign.add(path)
        return self._loaded

    def find(self, name: str) -> Budget:
        """The budget of that name.

        Raises:
            BudgetError: No file has it, or several have.
        """
        files = [path for path, budgets in self.load_all().items() if name in budgets]
        if not files:
            raise BudgetError(f"no budget is named {name!r}{self._suggestion(name)}")
        if len(files) > 1:
            shown = ", ".join(map(self.shown, files))
            raise BudgetError(f"several files have a budget named {name!r}: {shown}")
        return self._loaded[files[0]][name]

    def _suggestion(self, name: str) -> str:
        known = sorted(known for budgets in self._loaded.values() for known in budgets)
        if not known:
            places = ", ".join(map(self.shown, self._named or (self._default,)))
            return f"; no budgets were found in {places}"
        near = get_close_matches(name, known, n=1)
        if near:
            return f"; did you mean {near[0]!r}?"
        return f"; known: {', '.join(known[:10])}{', ...' if len(known) > 10 else ''}"


def _yaml_files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(path for path in place.rglob("*") if path.suffix in SUFFIXES)
    return [place] if place.exists() else []


def _looks_like_budgets(path: Path) -> bool:
    try:
        return looks_like_budgets(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False
