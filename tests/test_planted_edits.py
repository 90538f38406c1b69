"""What `make mutants` plants is still found where it is planted; the command itself takes long."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PLANTED = runpy.run_path(str(ROOT / "mutants" / "regressions.py"))
EDITS = {
    **{each.name: [(each.file, each.old, each.new)] for each in PLANTED["MUTANTS"]},
    **{each.name: [*each.before, *each.edits] for each in PLANTED["TRICKS"]},
}


@pytest.mark.parametrize("name", EDITS)
def test_a_planted_edit_finds_its_text(name: str) -> None:
    files: dict[str, Any] = {}
    for file, old, new in EDITS[name]:
        if old is None or new is None:  # written anew, or deleted
            files[file] = new
            continue
        text = files.get(file) or (ROOT / file).read_text()
        assert old in text
        files[file] = text.replace(old, new)
