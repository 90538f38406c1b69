"""The sdist and the wheel as a stranger gets them. `make packaging`, in a checkout, with network.

They are built twice from copies of what git tracks, looked into, and tried in an empty environment
with the newest and with the oldest of every dependency that they declare. torch alone is the one
that constraints.txt pins.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Sequence
from email.parser import Parser
from pathlib import Path

import pytest

import pytest_flops

ROOT = Path(__file__).parents[1]
VERSION = pytest_flops.__version__
NOT_IN_SDIST = re.compile(r"\.ci/|\.pre-commit-config\.yaml$")
METADATA = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def run(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """Run a command that must succeed, in a folder from which nothing of ours is importable."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [*map(str, command)],
        cwd=folder,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}"
    return result.stdout


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git tracks, in a folder of its own, where nobody edits it."""
    folder = tmp_path_factory.mktemp("checkout")
    for file in run(["git", "ls-files"], ROOT).splitlines():
        if (ROOT / file).is_file():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / file, folder / file)
    return folder


@pytest.fixture(scope="session")
def tracked(checkout: Path) -> list[str]:
    """The files that a release is made of, by their paths from the root."""
    return [str(file.relative_to(checkout)) for file in checkout.rglob("*") if file.is_file()]


def build(checkout: Path, dist: Path) -> tuple[Path, Path]:
    """The sdist and the wheel."""
    command = [sys.executable, "-m", "build", "--outdir", dist]
    run(command, checkout, SOURCE_DATE_EPOCH="1700000000")
    (sdist,) = dist.glob("*.tar.gz")
    (wheel,) = dist.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(checkout, tmp_path_factory.mktemp("dist"))


def test_a_second_build_elsewhere_is_the_same_to_the_byte(
    checkout: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        copy = shutil.copytree(checkout, tmp_path / "copy", copy_function=shutil.copyfile)
        again = build(copy, tmp_path / "dist")
    finally:
        os.umask(before)
    for first, second in zip(built, again, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_the_sdist_holds_what_git_tracks(tracked: list[str], built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {member.name for member in archive.getmembers()}
    wanted = {"PKG-INFO", *(file for file in tracked if not NOT_IN_SDIST.match(file))}
    assert names == {f"pytest_flops-{VERSION}/{file}" for file in wanted}


def test_the_wheel_holds_the_package_and_nothing_else(
    tracked: list[str], built: tuple[Path, Path]
) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        names = set(archive.namelist())
    package = {file for file in tracked if file.startswith("pytest_flops/")}
    assert {"pytest_flops/py.typed", "pytest_flops/budgets/schema.json"} <= package
    assert "pytest_flops/counting/roofline/devices/h100-sxm.yaml" in package
    assert names == package | {f"pytest_flops-{VERSION}.dist-info/{file}" for file in METADATA}


def test_the_index_takes_them(built: tuple[Path, Path], tmp_path: Path) -> None:
    run([sys.executable, "-m", "twine", "check", "--strict", *built], tmp_path)


@pytest.fixture(scope="session")
def stranger(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds nothing but the wheel and what it asks for."""
    folder = tmp_path_factory.mktemp("stranger") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    install(python, built[1])
    return python


def install(python: Path, *requirements: str | Path) -> None:
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    run([*pip, *requirements], python.parent)


def requirements(wheel: Path) -> list[str]:
    """What the wheel declares to need, as `name>=version`, without torch."""
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"pytest_flops-{VERSION}.dist-info/METADATA").decode()
    needed = Parser().parsestr(text).get_all("Requires-Dist", [])
    return [need for need in needed if ";" not in need and not need.startswith("torch")]


BUDGETS = """\
version: 1
budgets:
  baseline:
    workload:
      model: resnet_bk
      config: {d_model: 64, n_layers: 4, n_seq: 128, vocab_size: 30000, num_experts: 4, top_k: 1}
      batch_size: 32
      seq_len: 128
    limits: {forward: 16287760384, backward: 32568016896, optimizer: 62191800}
    scaling: {seq_len: {sizes: [128, 256, 512], max_exponent: 1.0}}
"""
TESTS = """\
import pytest
import torch

def step():
    model = torch.nn.Linear(3, 4)
    model(torch.ones(2, 3)).sum().backward()

# A product of 2 * 2 * 3 * 4 FLOPs, and a bias and a sum of 2 * 4 each.
@pytest.mark.flops_budget(forward=64)
def test_green(): step()

@pytest.mark.flops_budget(forward=63)
def test_red(): step()
"""


def try_out(python: Path, folder: Path) -> None:
    """A green and a red gate, an update and the command line."""
    (folder / "budgets").mkdir()
    (folder / "budgets/model.yaml").write_text(BUDGETS)
    (folder / "test_model.py").write_text(TESTS)
    strict = ["-W", "error", "-W", "ignore:Failed to initialize NumPy"]
    pytest_run = [python, "-m", "pytest", "-p", "no:cacheprovider", *strict]
    output = run([*pytest_run, "--deselect", "test_model.py::test_red", "--flops-update"], folder)
    assert "5 passed" in output
    assert "recorded in budgets/model.lock.json: baseline" in output
    assert '"optimizer": 62191800' in (folder / "budgets/model.lock.json").read_text()
    assert "5 passed" in run([*pytest_run, "--deselect", "test_model.py::test_red"], folder)
    command = python.parent / "pytest-flops"
    run([command, "compare", "reports/flops.json", "reports/flops.json"], folder)
    run([command, "merge", "reports/flops.json", "-o", "merged"], folder)
    assert "seq_len" in run([command, "explain", "budgets/model.yaml::baseline"], folder)
    with pytest.raises(AssertionError, match=r"limit 63 FLOP, over by 1 FLOP[^$]*1 failed"):
        run([*pytest_run, "test_model.py"], folder)


def test_it_works_with_the_newest_of_what_it_needs(
    stranger: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    install(stranger, "--upgrade", *requirements(built[1]))
    try_out(stranger, tmp_path)


def test_it_works_with_the_oldest_of_what_it_needs(
    stranger: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    oldest = [need.replace(">=", "==") for need in requirements(built[1])]
    assert [need.partition("==")[0] for need in sorted(oldest)] == [
        "jinja2",
        "jsonschema",
        "pluggy",
        "pytest",
        "pyyaml",
    ]
    install(stranger, *oldest)
    try_out(stranger, tmp_path)


def test_what_a_user_writes_is_typed(stranger: Path, tmp_path: Path) -> None:
    example = tmp_path / "user_example.py"
    shutil.copyfile(Path(__file__).with_name("user_example.py"), example)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", stranger]
    run([*mypy, example.name], tmp_path)
    wrong = example.read_text().replace("dearest: str", "dearest: int")
    example.write_text(wrong)
    with pytest.raises(AssertionError, match='has type "str"'):
        run([*mypy, example.name], tmp_path)
    run([stranger, "-m", "pytest", "-p", "no:cacheprovider", example.name], tmp_path)
