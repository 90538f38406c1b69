"""Ordinary mistakes of use, each made while the model becomes four times dearer, as data.

`plant.py` makes each mistake in a small project whose gate was green: once against the base's
report, with a limit too high to see what happened, and once without a base, with a limit that is
passed. Each time the gate must end with another exit code than 0, or tell what happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from textwrap import indent

from regressions import Edit

COST = "cost.py"
TEST = "test_step.py"
BUDGETS = "budgets/net.yaml"
INI = "pytest.ini"
CONFTEST = "conftest.py"
BASE = "base/flops.json"

COUNTED = {
    COST: "COST = 1000\n",
    TEST: """\
import pytest
from cost import COST
from pytest_flops import FLOPsCount


@pytest.mark.flops_budget("step")
def test_step(flops):
    flops.check(FLOPsCount(COST))
""",
    "test_other.py": """\
import pytest
from pytest_flops import FLOPsCount


@pytest.mark.flops_budget(total="2 kFLOP")
def test_other(flops):
    flops.check(FLOPsCount(500))
""",
    BUDGETS: "version: 1\nbudgets:\n  step: {limits: {total: LIMIT}}\n",
    INI: "[pytest]\npythonpath = .\n",
    CONFTEST: "",
}
METERED = COUNTED | {
    "test_other.py": "def test_other():\n    pass\n",
    TEST: """\
import pytest
import torch
from cost import COST


@pytest.fixture
def model():
    return torch.nn.Linear(COST // 100, 4)


@pytest.mark.flops_budget("step")
def test_step(model):
    optimizer = torch.optim.SGD(model.parameters())
    loss = model(torch.ones(3, COST // 100)).sum()
    loss.backward()
    optimizer.step()
""",
    BUDGETS: """\
version: 1
budgets:
  step: {limits: {total: LIMIT, forward: 8 kFLOP, backward: 8 kFLOP, optimizer: 8 kFLOP}}
""",
}
PROJECTS = {"counted": COUNTED, "metered": METERED}

# Step and other are 1000 and 500 FLOP. With 10 inputs, 4 outputs and 3 rows the metered step is
# some 700; with 40 it is some 2,600.
LOW_LIMIT, HIGH_LIMIT = "1500 FLOP", "50 kFLOP"

MARK = '@pytest.mark.flops_budget("step")\n'
DEF = "def test_step(flops):\n"
CHECK = "    flops.check(FLOPsCount(COST))\n"
LOSS = "    loss = model(torch.ones(3, COST // 100)).sum()\n"
LINEAR = "torch.nn.Linear(COST // 100, 4)"
STEP = f"{LOSS}    loss.backward()\n    optimizer.step()\n"


@dataclass(frozen=True)
class Mistake:
    """One mistake: what is written, and how pytest is called.

    Attributes:
        name: What was done.
        edits: What is written; without an old text, the whole file is.
        moves: Files that get another name.
        arguments: What pytest is given beside the base.
        environment: Variables that are set.
        project: Which of `PROJECTS` it is made in.
        then: The arguments of a `pytest-flops` command that is run afterwards and judged instead.
        with_base: Whether it is made against a base, without one, or (`None`) both.
    """

    name: str
    edits: tuple[Edit, ...] = ()
    moves: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    project: str = "counted"
    then: tuple[str, ...] = ()
    with_base: bool | None = None


def marked(mark: str) -> tuple[Edit, ...]:
    return ((TEST, MARK, f"{mark}\n{MARK}"),)


SHARDED = """\
import os
def pytest_collection_modifyitems(items):
    if os.environ.get("SHARD") == "1":
        items[:] = [item for item in items if item.name == "test_other"]
"""
MARKING = """\
import pytest
@pytest.fixture(autouse=True)
def _mark(request):
    if request.node.name == "test_step":
        request.node.add_marker(pytest.mark.flops_budget("step"))
"""
UNWRAPPED = """\
def again(test):
    def test_step(flops): test(flops)
    return test_step


@again
"""
POOL = """\
import torch
from concurrent.futures import ThreadPoolExecutor
POOL = ThreadPoolExecutor(1)
POOL.submit(int).result()
"""
IN_THE_POOL = f"""\
    def work():
{indent(STEP, "    ")}
    POOL.submit(work).result()
"""
IN_THE_FIXTURE = f"""\
    model = {LINEAR}
    optimizer = torch.optim.SGD(model.parameters())
{STEP}    return model
"""
SUBPROCESS = """\
    import subprocess, sys
    product = "import torch; torch.ones(64, 64) @ torch.ones(64, 64)"
    subprocess.run([sys.executable, "-c", product], check=True)
"""
ROWS = """\
class Rows(torch.utils.data.Dataset):
    def __len__(self): return 3
    def __getitem__(self, _): return torch.ones(64, 64) @ torch.ones(64, 64)


@pytest.fixture
"""
LOADED = "    list(torch.utils.data.DataLoader(Rows(), num_workers=1))\n"
WIDE = "version: 1\nbudgets:\n  step: {limits: {total: 4 TFLOP}}\n"
LOOSE = "version: 1\nbudgets:\n  step: {limits: {total: 50 kFLOP}, tolerance: 1000%}\n"


NO_ENTRIES = """\
{"format": "pytest-flops report", "version": 1, "passed": false, "complete": true, "missing": [],
 "errors": [], "budgets_known": [], "tests": [], "entries": [], "environment": {}}
"""


def addopts(*options: str) -> Edit:
    return INI, None, f"[pytest]\npythonpath = .\nmarkers = slow\naddopts = {' '.join(options)}\n"


MISTAKES = (
    # The test.
    Mistake("the test is renamed", ((TEST, "test_step", "test_train_step"),)),
    Mistake("its file is renamed", moves=((TEST, "test_train.py"),)),
    Mistake("its file moves to a folder", moves=((TEST, "tests/unit/test_step.py"),)),
    Mistake(
        "a folder is moved", moves=((TEST, "tests/test_step.py"), (BUDGETS, "config/net.yaml"))
    ),
    Mistake("its name is none of a test any more", ((TEST, "test_step", "step"),)),
    Mistake("skip", marked('@pytest.mark.skip(reason="later")')),
    Mistake("skipif", marked('@pytest.mark.skipif(True, reason="no GPU")')),
    Mistake("skip in the body", ((TEST, CHECK, f'    pytest.skip("later")\n{CHECK}'),)),
    Mistake(
        "importorskip for the whole file",
        ((TEST, "import pytest\n", 'import pytest\npytest.importorskip("nothere")\n'),),
    ),
    Mistake(
        "a variable that skips",
        marked('@pytest.mark.skipif("CI" in __import__("os").environ, reason="not in CI")'),
        environment={"CI": "true"},
    ),
    Mistake("xfail for another reason", marked('@pytest.mark.xfail(reason="flaky on Windows")')),
    Mistake("xfail(run=False)", marked('@pytest.mark.xfail(run=False, reason="crashes")')),
    Mistake(
        "xfail, and a broken import",
        (*marked("@pytest.mark.xfail"), (TEST, CHECK, f"    import nothere\n{CHECK}")),
    ),
    Mistake(
        "parametrised by nothing",
        (
            (TEST, MARK, f'@pytest.mark.parametrize("size", [])\n{MARK}'),
            (TEST, DEF, "def test_step(flops, size):\n"),
        ),
    ),
    Mistake("collect_ignore", ((CONFTEST, None, f'collect_ignore = ["{TEST}"]\n'),)),
    # The marker.
    Mistake("a misspelt marker", ((TEST, MARK, MARK.replace("flops", "flop")),)),
    Mistake("the marker is lost", ((TEST, MARK, ""),)),
    Mistake(
        "a decorator that loses the marker",
        (
            (
                TEST,
                MARK,
                UNWRAPPED + MARK,
            ),
        ),
    ),
    Mistake(
        "a marker that a fixture adds",
        (
            (TEST, MARK, ""),
            (
                CONFTEST,
                None,
                MARKING,
            ),
        ),
    ),
    # The body.
    Mistake("return before the count", ((TEST, CHECK, f"    return\n{CHECK}"),)),
    Mistake("yield in the body", ((TEST, CHECK, f"    yield\n{CHECK}"),)),
    Mistake("async without a plugin for it", ((TEST, "def test_step", "async def test_step"),)),
    Mistake(
        "another count before the first",
        ((TEST, CHECK, f"    flops.check(FLOPsCount(1000))\n{CHECK}"),),
    ),
    Mistake(
        "pytest.raises around the count",
        ((TEST, CHECK, f"    with pytest.raises(AssertionError):\n    {CHECK}"),),
    ),
    Mistake(
        "try and except around the count",
        ((TEST, CHECK, f"    try:\n    {CHECK}    except Exception:\n        pass\n"),),
    ),
    Mistake("an empty measure()", ((TEST, CHECK, "    with flops.measure():\n        pass\n"),)),
    Mistake("return before the step", ((TEST, LOSS, f"    return\n{LOSS}"),), project="metered"),
    Mistake(
        "no_grad around the forward",
        ((TEST, LOSS, f"    with torch.no_grad():\n    {LOSS}    return\n"),),
        project="metered",
    ),
    Mistake(
        "optimizer.step() forgotten", ((TEST, "    optimizer.step()\n", ""),), project="metered"
    ),
    Mistake(
        "the step in a fixture",
        ((TEST, STEP, ""), (TEST, f"    return {LINEAR}\n", IN_THE_FIXTURE)),
        project="metered",
    ),
    Mistake(
        "the step in a thread that ran before",
        ((TEST, STEP, IN_THE_POOL), (TEST, "import torch\n", POOL)),
        project="metered",
    ),
    Mistake(
        "a dearer part in a subprocess",
        ((TEST, LOSS, f"{LOSS}{SUBPROCESS}"), (TEST, "COST // 100", "10")),
        project="metered",
    ),
    Mistake(
        "a dearer part in the workers of a DataLoader",
        (
            (TEST, "@pytest.fixture\n", ROWS),
            (TEST, LOSS, f"{LOSS}{LOADED}"),
            (TEST, "COST // 100", "10"),
        ),
        project="metered",
    ),
    # The budgets.
    Mistake(
        "the budget is renamed",
        ((TEST, '"step"', '"train-step"'), (BUDGETS, "step:", "train-step:")),
    ),
    Mistake("the budget is renamed in the file only", ((BUDGETS, "step:", "train-step:"),)),
    Mistake("the budget's file is renamed", moves=((BUDGETS, "budgets/nets.yaml"),)),
    Mistake("the budget's file gets another suffix", moves=((BUDGETS, "budgets/net.yaml.txt"),)),
    Mistake("a budget file that is broken", ((BUDGETS, "{limits", "{limits: [}"),)),
    Mistake("a budget file without its first lines", ((BUDGETS, "version: 1\nbudgets:\n", ""),)),
    Mistake("a misspelt key at the top", ((BUDGETS, "budgets:", "budget:"),)),
    Mistake("a budget file in Latin-1", ((BUDGETS, "}}\n", "}}  # co\xfbt\n"),)),
    Mistake("a budget file that is empty", ((BUDGETS, None, ""),)),
    Mistake(
        "a limit in a larger unit",
        ((BUDGETS, None, WIDE),),
    ),
    Mistake(
        "a raised tolerance",
        ((BUDGETS, None, LOOSE),),
        with_base=True,
    ),
    # The call.
    Mistake(
        "--flops-update in addopts",
        (addopts("--flops-update"),),
    ),
    Mistake(
        "--deselect in addopts",
        (addopts("--deselect", f"{TEST}::test_step"),),
    ),
    Mistake("-k in addopts", (addopts("-k", "other"),)),
    Mistake(
        "-m in addopts",
        (
            *marked("@pytest.mark.slow"),
            addopts("-m", "'not slow'"),
        ),
    ),
    Mistake(
        "--ignore in addopts",
        (addopts(f"--ignore={TEST}"),),
    ),
    Mistake(
        "-p no:flops in addopts",
        (addopts("-p", "no:flops"),),
        project="metered",
        with_base=False,
    ),
    Mistake(
        "the plugin is not loaded",
        environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        project="metered",
        with_base=False,
    ),
    Mistake("-k", arguments=("-k", "other")),
    Mistake("PYTEST_ADDOPTS", environment={"PYTEST_ADDOPTS": "-k other"}),
    Mistake(
        "-x, and another test fails first",
        ((TEST, MARK, f"def test_first():\n    assert False\n\n\n{MARK}"),),
        arguments=("-x",),
    ),
    Mistake(
        "a shard that is absent in the merge",
        ((CONFTEST, None, SHARDED),),
        environment={"SHARD": "1"},
        then=("merge", "reports/flops.json", "-o", "merged"),
        with_base=False,
    ),
    # The base.
    Mistake("a base that is not there", ((BASE, None, None),), with_base=True),
    Mistake("a base that is empty", ((BASE, None, ""),), with_base=True),
    Mistake(
        "a base of another project",
        (
            (BASE, "test_step.py", "test_theirs.py"),
            (BASE, "budgets/net.yaml", "theirs.yaml"),
            (BASE, '"step"', '"theirs"'),
            (BASE, "test_other", "test_theirs"),
        ),
        with_base=True,
    ),
    Mistake("a base without entries", ((BASE, None, NO_ENTRIES),), with_base=True),
    Mistake(
        "a base that was cut short",
        ((BASE, '"complete": true', '"complete": false'),),
        with_base=True,
    ),
)
