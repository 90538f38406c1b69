"""What a plugin adds to the start of every pytest run, in instructions.

    python benchmarks/startup.py

Needs valgrind. Counts the instructions of `pytest --collect-only -q` in a project without budgets,
with one plugin at a time, and prints the difference to no plugin at all. Instructions, unlike
seconds, do not depend on what else the machine is doing. Two plugins that the benchmark writes
itself say how much of that no plugin can avoid: an empty one, and one that declares our options
and nothing else. pytest-benchmark is measured where it is installed (`pip install
pytest-benchmark`; it is no part of the development environment, since it warns about every run
under pytest-xdist).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import Mock

from pytest_flops.options import add_options

PLUGIN_OF_OPTIONS = """
def pytest_addoption(parser):
    group = parser.getgroup("others", "options")
    for number in range({options}):
        group.addoption("--other-" + str(number), dest="other" + str(number), help="text")
    for number in range({ini}):
        parser.addini("other" + str(number), "text", type=None, default="")
"""
PLUGINS = {
    "empty": "empty_plugin",
    "options alone": "plugin_of_options",
    "pytest-flops": "pytest_flops.plugin",
    "pytest-xdist": "xdist.plugin",
    "pytest-benchmark": "pytest_benchmark.plugin",
}
LIMIT = 30_000_000


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        # Bytecode goes beside the project: inside, pytest would collect a folder for each of ours.
        project = Path(folder) / "project"
        project.mkdir()
        (project / "test_nothing.py").write_text("def test_nothing(): pass\n")
        (project / "empty_plugin.py").touch()
        (project / "plugin_of_options.py").write_text(plugin_of_options())
        bare = instructions(project)
        print(f"{'plugin':<18} {'instructions added':>20}")
        added = {}
        for name, module in PLUGINS.items():
            written = (project / f"{module}.py").exists()
            if not written and find_spec(module.partition(".")[0]) is None:
                print(f"{name:<18} {'not installed':>20}")
                continue
            added[name] = instructions(project, "-p", module) - bare
            print(f"{name:<18} {added[name]:>20,}")
    ours = added["pytest-flops"]
    print(f"\nOurs: {ours / 1e6:.1f} million, at most {LIMIT / 1e6:.0f} million allowed.")
    if "pytest-xdist" in added:
        print(f"Ratio to pytest-xdist: {ours / added['pytest-xdist']:.2f}")
    return 0 if ours <= LIMIT else 1


def plugin_of_options() -> str:
    """A plugin that declares as many options as ours, and does nothing else."""
    parser = Mock()
    add_options(parser)
    options = parser.getgroup.return_value.addoption.call_count
    return PLUGIN_OF_OPTIONS.format(options=options, ini=parser.addini.call_count)


def instructions(project: Path, *arguments: str) -> int:
    """Instructions of one collection, its bytecode compiled by a run before."""
    pytest = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONHASHSEED": "0",
        "PYTHONPYCACHEPREFIX": str(project.with_name("bytecode")),
    }
    subprocess.run(pytest, cwd=project, env=environment, check=True, capture_output=True)
    valgrind = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ]
    counted = subprocess.run(
        [*valgrind, *pytest],
        cwd=project,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    # A plugin may fork; each process reports, and pytest's own is by far the longest.
    totals = re.findall(r"I\s+refs:\s+([\d,]+)", counted.stderr)
    return max(int(total.replace(",", "")) for total in totals)


if __name__ == "__main__":
    sys.exit(main())
