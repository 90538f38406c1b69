"""Whether the code that ran is this checkout's, and not that of another worktree of the repository.

A pull request is compared with its base by counting the base in a second worktree. Where the
project is installed from the first one (`pip install --editable`), the base's run imports the pull
request's code, and compares it with itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}
"""What is in such a folder was copied there, also where the folder is in a checkout."""


def modules_of_another_worktree(rootdir: Path) -> list[str]:
    """The modules that were imported from another worktree of this repository, each with its place.

    Args:
        rootdir: A folder of the checkout that should have been imported.
    """
    ours = _worktree(rootdir)
    if ours is None:
        return []
    worktrees: dict[Path, tuple[Path, Path] | None] = {}
    found = []
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not INSTALLED.isdisjoint(Path(file).parts):
            continue
        folder = Path(file).resolve().parent
        if folder not in worktrees:
            worktrees[folder] = _worktree(folder)
        theirs = worktrees[folder]
        if theirs is not None and theirs[0] != ours[0] and theirs[1] == ours[1]:
            found.append(f"{name} ({theirs[0]})")
    return found


def _worktree(folder: Path) -> tuple[Path, Path] | None:
    """The top of the worktree that holds a folder, and the repository that it is a worktree of."""
    folder = folder.resolve()
    for top in (folder, *folder.parents):
        git = top / ".git"
        if git.is_dir():
            return top, git
        if git.is_file():  # a linked worktree: the file names its folder inside the repository
            own = top / git.read_text(encoding="utf-8").removeprefix("gitdir:").strip()
            common = own / "commondir"
            if common.is_file():
                return top, (own / common.read_text(encoding="utf-8").strip()).resolve()
            return top, own.resolve()  # a submodule
    return None
