"""Which files hold the budgets of a run, and which budget a test means by a name."""

from __future__ import annotations

import os
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flops.budgets.errors import BudgetError, BudgetFileError, Problem
from pytest_flops.budgets.files.loader import load_budgets, says_budgets
from pytest_flops.budgets.files.lock import lock_file_of, read_lock
from pytest_flops.counting.text import some
from pytest_flops.options import DEFAULT_BUDGETS, folders_up, is_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_flops.budgets.budget import Budget, Location, Recorded
    from pytest_flops.budgets.files.lock import Records
    from pytest_flops.counting.builder import Builders


class Catalog:
    """The budget files of one run.

    A test finds its budgets in the folder `budgets` beside it, in that of the rootdir, and in those
    of the folders between. All YAML in these is ours; other YAML only if it says that it is.

    Args:
        rootdir: Paths are shown relative to it.
        named: Files and folders to look at instead of `budgets`, in each of a test's folders.
        given: Files and folders that pytest was told to run; a YAML file among them is ours.
        builders: Gives the registered builders, which check the workloads that name them.

    Attributes:
        budgets: Those of every file read so far, by file and name.
        problems: The mistakes of these files.
    """

    def __init__(
        self,
        rootdir: Path,
        named: Iterable[str] = (),
        given: Iterable[Path] = (),
        *,
        builders: Callable[[], Builders],
    ) -> None:
        self._rootdir = rootdir
        self._named = tuple(named)
        self._given = frozenset(given)
        self._builders = builders
        self._of_folder: dict[Path, list[Budget]] = {}
        self._locks: dict[Path, Records] = {}
        self.budgets: dict[Path, dict[str, Budget]] = {}
        self.problems: list[Problem] = []

    def shown(self, path: Path) -> str:
        """The path as messages and node ids show it: relative to rootdir, with slashes."""
        inside = path.is_relative_to(self._rootdir)
        return (path.relative_to(self._rootdir) if inside else path).as_posix()

    def file_of(self, location: Location) -> Path:
        """The file of a location that this catalog's budgets carry."""
        return self._rootdir / location.file

    def is_budget_file(self, path: Path) -> bool:
        """Whether a YAML file that pytest met is ours."""
        folders = folders_up(path, self._rootdir)
        if path in self._given or any(map(path.is_relative_to, self._places(folders))):
            return True
        try:
            return says_budgets(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return False

    def load(self, path: Path) -> dict[str, Budget]:
        """The budgets of one file with their records, loaded once.

        Mistakes in it or in its lock file go to `problems`, and it holds no budget.
        """
        if path not in self.budgets:
            try:
                budgets = load_budgets(path, name=self.shown(path), builders=self._builders())
                records = self.records(lock_file_of(path))
                self.budgets[path] = {
                    name: replace(budget, recorded=records.get(("budgets", name)))
                    for name, budget in budgets.items()
                }
            except BudgetFileError as error:
                self.budgets[path] = {}
                self.problems.extend(error.problems)
        return self.budgets[path]

    def load_named(self) -> None:
        """Load what the user named, and what tests there can name.

        Raises:
            BudgetError: A file or folder of budgets is not there.
        """
        for place in self._places([self._rootdir]) if self._named else ():
            if _yaml_files(place):
                continue
            if place.exists():
                raise BudgetError(f"there is no YAML file of budgets in {self.shown(place)}")
            raise BudgetError(f"there is no file or folder of budgets at {self.shown(place)}")
        self.load_for({self._rootdir, *self._given})

    def load_for(self, paths: Iterable[Path]) -> None:
        """Load every budget that tests in these files and folders can name."""
        for path in sorted(paths):
            for folder in folders_up(path, self._rootdir):
                self._budgets_of(folder)

    def find(self, name: str, test: str) -> Budget:
        """The budget that a test means by a name: the one nearest to it.

        Args:
            name: The budget's name.
            test: The test's node id.

        Raises:
            BudgetError: No file has it, or several files of the nearest folder that has it.
        """
        folders = folders_up(self._file_of_test(test).parent, self._rootdir)
        for folder in folders:
            found = [each for each in self._budgets_of(folder) if each.name == name]
            if len(found) > 1:
                places = ", ".join(str(each.location) for each in found)
                raise BudgetError(f"several files have a budget named {name!r}: {places}")
            if found:
                return found[0]
        known = sorted({each.name for folder in folders for each in self._budgets_of(folder)})
        places = ", ".join(map(self.shown, self._places(folders)))
        raise BudgetError(f"no budget is named {name!r}{_suggestion(name, known, places)}")

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
        name = test.partition("::")[2]
        return self.records(lock_file_of(self._file_of_test(test))).get(("tests", name))

    def _file_of_test(self, test: str) -> Path:
        return self._rootdir / test.partition("::")[0]

    def _places(self, folders: Iterable[Path]) -> list[Path]:
        """The files and folders of budgets that folders may have."""
        names = self._named or (DEFAULT_BUDGETS,)
        places = (os.path.normpath(folder / name) for folder in folders for name in names)
        return [Path(place) for place in dict.fromkeys(places)]

    def _budgets_of(self, folder: Path) -> list[Budget]:
        """All budgets of a folder's places, listed once."""
        if folder not in self._of_folder:
            files = [file for place in self._places([folder]) for file in _yaml_files(place)]
            self._of_folder[folder] = [
                budget for file in dict.fromkeys(files) for budget in self.load(file).values()
            ]
        return self._of_folder[folder]


def _suggestion(name: str, known: list[str], places: str) -> str:
    if not known:
        return f"; no budgets were found in {places}"
    near = get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}? (looked in {places})"
    return f"; known in {places}: {some(known, 10)}"


def _yaml_files(place: Path) -> list[Path]:
    """The YAML at a place, with links that dangle and folders that cannot be read: none is lost."""
    if not place.is_dir():
        is_one = is_yaml(place) if place.is_file() else place.is_symlink()
        return [place] if is_one else []
    unreadable: list[str] = []
    walk = os.walk(place, onerror=lambda error: unreadable.append(error.filename), followlinks=True)
    files = [Path(folder, name) for folder, _, names in walk for name in names]
    return sorted([*filter(is_yaml, files), *map(Path, unreadable)])
