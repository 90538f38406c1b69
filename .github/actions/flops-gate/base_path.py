"""Print a PYTHONPATH by which the base's worktree is imported in place of the checkout.

    python base_path.py CHECKOUT WORKTREE

What is on Python's path inside the checkout, as editable installations put it there, stands at the
same place in the worktree.
"""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit


def main() -> None:
    """Print the path."""
    checkout, worktree = (Path(place).resolve() for place in sys.argv[1:3])
    here = [Path.cwd(), Path.cwd() / "src"]
    there = [worktree / folder.relative_to(checkout) for folder in folders_in(checkout)]
    found = dict.fromkeys(folder for folder in [*here, *there] if folder.is_dir())
    print(os.pathsep.join(map(str, found)))


def folders_in(checkout: Path) -> list[Path]:
    """The folders of the checkout from which Python imports, or may import."""
    projects = [project for project in editable_projects() if project.is_dir()]
    sources = [project / name for project in projects for name in ("", "src", "python", "lib")]
    folders = [Path(entry).resolve() for entry in sys.path[1:]]
    return [folder for folder in [*folders, *sources] if folder.is_relative_to(checkout)]


def editable_projects() -> list[Path]:
    """Where the projects are that are installed as editable (PEP 610)."""
    found = []
    for distribution in distributions():
        record = json.loads(distribution.read_text("direct_url.json") or "{}")
        if record.get("dir_info", {}).get("editable"):
            found.append(Path(unquote(urlsplit(record["url"]).path)).resolve())
    return found


if __name__ == "__main__":
    main()
