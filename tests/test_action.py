"""The GitHub action: its steps run as GitHub runs them, with a local repository as the remote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_flops import __file__ as package

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github/actions/flops-gate"
ACTION = yaml.safe_load((FOLDER / "action.yml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
_EXPRESSION = re.compile(r"\$\{\{ *(.*?) *\}\}")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the action runs on Linux")
needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")

BUDGET = """\
version: 1
budgets:
  step:
    limits: {total: 1 kFLOP}
"""
LOCK = """\
{"format": "pytest-flops lock file", "version": 1, "budgets":
 {"step": {"flops": {"count": {"forward": 100, "backward": 200, "optimizer": 30}}}}}
"""
COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
from pytest_flops.counting.measurement import Measurement
LAYERS = {'layer_0': FLOPsCount(60, 120, 10), 'layer_1': FLOPsCount(40, 80, 20)}
@pytest.mark.flops_budget('step')
def test_step(flops):
    whole = sum(LAYERS.values(), FLOPsCount())
    flops.check(Measurement(whole, LAYERS, source='meter', rules='executed'))
"""
DEARER = COUNTED.replace("FLOPsCount(40", "FLOPsCount(50")
SHIFTED = COUNTED.replace("FLOPsCount(40", "FLOPsCount(41").replace(
    "FLOPsCount(60", "FLOPsCount(59"
)

MARKER = "<!-- flops-gate: flops-report . -->"

# Answers as `gh api` does: with --jq it is jq that answers.
GH = """\
#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$GH_LOG"
for argument in "$@"; do [[ $argument == body=@* ]] && cp "${argument#body=@}" "$GH_LOG.body"; done
case "$*" in
  *POST*|*PATCH*) exit "${GH_WRITE_CODE:-0}" ;;
  *artifacts/7/zip*) cat "$GH_ZIP" ;;
  "api user "*) exit 1 ;; # as for a job's token, which is nobody's
  *--jq*) while [[ $1 != --jq ]]; do shift; done; jq -r "$2" "$GH_ANSWER" ;;
esac
"""


@dataclass
class Run:
    """What one run of the action left behind."""

    codes: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    log: str = ""
    summary: str = ""

    @property
    def red(self) -> bool:
        return any(self.codes.values())


@dataclass
class Checkout:
    """A checkout of a project, and GitHub's machine around it."""

    root: Path
    runner: Path
    environment: dict[str, str] = field(default_factory=dict)

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.com")
        done = subprocess.run(
            ["git", *identity, *arguments],
            cwd=self.root,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        """Write files, named as `budgets__model_yaml` for `budgets/model.yaml`, and commit them."""
        for name, text in files.items():
            dotted = re.sub(r"_(?=(yaml|py|ini|lock_json|json)$)", ".", name.replace("__", "/"))
            path = self.root / dotted
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Change something")
        return self.git("rev-parse", "HEAD")

    def gate(self, *, comment: bool = False, **inputs: str) -> Run:
        """Run every step of the action that is a script, in order, as GitHub does."""
        run = Run()
        summary = self.runner / "summary.md"
        summary.write_text("")
        given = {name.replace("_", "-"): value for name, value in inputs.items()}
        for step in ACTION["runs"]["steps"]:
            wanted = "run" in step and (comment or step["name"] != "Comment")
            if wanted and not run.red:
                self._run(step, given, run)
        run.summary = summary.read_text(encoding="utf-8")
        return run

    def _run(self, step: dict[str, Any], inputs: dict[str, str], run: Run) -> None:
        output = self.runner / "output"
        output.write_text("")
        environment = {
            "HOME": str(self.runner),
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(package).parents[1]),
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(FOLDER),
            "GITHUB_OUTPUT": str(output),
            "GITHUB_REPOSITORY": "them/model",
            "GITHUB_STEP_SUMMARY": str(self.runner / "summary.md"),
            "GITHUB_WORKSPACE": str(self.root),
            "RUNNER_TEMP": str(self.runner / "temp"),
            **self.environment,
            **{name: self._value(text, inputs, run) for name, text in step["env"].items()},
        }
        folder = self._value(step.get("working-directory", "."), inputs, run)
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=self.root / folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        run.log += done.stdout
        run.codes[step["name"]] = done.returncode
        for line in output.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            run.outputs[f"steps.{step.get('id')}.outputs.{name}"] = value

    def _value(self, text: str, inputs: dict[str, str], run: Run) -> str:
        """A step's text with the expressions that this action uses filled in."""

        def fill(found: re.Match[str]) -> str:
            name = found[1]
            if name.startswith("inputs."):
                name = name.removeprefix("inputs.")
                default = str(ACTION["inputs"][name]["default"])
                chosen = inputs.get(name, {"python": sys.executable}.get(name, default))
                return self._value(chosen, inputs, run)
            if name.startswith("steps."):
                return run.outputs[name]
            return {"github.event.pull_request.number": "12"}.get(name, "")

        return _EXPRESSION.sub(fill, text)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A repository with one commit, whose model costs what is recorded."""
    found = Checkout(tmp_path / "checkout", tmp_path / "runner")
    found.root.mkdir()
    found.runner.mkdir()
    found.git("init", "--quiet", "--initial-branch", "main")
    found.commit(budgets__model_yaml=BUDGET, budgets__model_lock_json=LOCK, test_model_py=COUNTED)
    return found


@pytest.fixture
def gh(checkout: Checkout) -> Checkout:
    """The same with a `gh` that answers what the test says."""
    tools = checkout.runner / "tools"
    tools.mkdir()
    (tools / "gh").write_text(GH)
    (tools / "gh").chmod(0o755)
    (checkout.runner / "answer.json").write_text('{"artifacts": []}')
    checkout.environment |= {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "GH_ANSWER": str(checkout.runner / "answer.json"),
        "GH_LOG": str(checkout.runner / "gh.log"),
    }
    return checkout


def test_without_a_base_the_budgets_alone_are_held(checkout: Checkout) -> None:
    run = checkout.gate()
    assert not run.red
    assert run.outputs["steps.compare.outputs.verdict"] == "passed"
    report = Path(run.outputs["steps.measure.outputs.report"])
    assert {file.name for file in report.iterdir()} == {"flops.json", "flops.html", "flops.md"}
    assert "Green: the one budget holds" in run.summary
    assert "::notice title=FLOPs gate::there is no base to compare with" in run.log


SKIPPED = COUNTED.replace("@pytest", "@pytest.mark.skip(reason='later')\n@pytest")
UNJUDGED = COUNTED.replace("flops.check(", "list(")
WRONG = {"budgets__model_yaml": BUDGET.replace("total", "totl")}
VERDICTS = {
    "passed": ({"test_model_py": f"{COUNTED}# a comment\n"}, "passed", "## ✅ ", 0),
    "failed": ({"test_model_py": DEARER}, "failed", "## ❌ ", 2),
    "regressed": ({"test_model_py": SHIFTED}, "regressed", "## ❌ ", 1),
    "could not be judged": ({"test_model_py": UNJUDGED}, "failed", "## ❌ ", 2),
    "usage": (WRONG, "error", "❌ ", 1),
    "nothing measured": ({"test_model_py": SKIPPED}, "error", "❌ ", 1),
}


@pytest.mark.long
@pytest.mark.parametrize("name", VERDICTS)
def test_verdict_job_summary_and_annotations_agree(checkout: Checkout, name: str) -> None:
    files, verdict, summary, annotations = VERDICTS[name]
    base = checkout.git("rev-parse", "HEAD")
    checkout.commit(**files)
    run = checkout.gate(base=base)
    assert run.outputs["steps.compare.outputs.verdict"] == verdict
    assert run.codes["Judge"] == int(verdict != "passed")
    assert run.summary.startswith(summary)
    assert len(re.findall(r"^::error ", run.log, re.MULTILINE)) == annotations


def test_nothing_measured_is_an_error_without_a_base_too(checkout: Checkout) -> None:
    checkout.commit(test_model_py=SKIPPED)
    assert checkout.gate().outputs["steps.compare.outputs.verdict"] == "error"


def test_a_red_report_is_red_whatever_the_exit_code_was(checkout: Checkout) -> None:
    checkout.commit(test_model_py=DEARER)
    checkout.gate()
    # As a wrapper of pytest leaves it that ends with 0 always.
    (checkout.runner / "temp/flops-gate/pytest-code").write_text("0")
    (compare,) = (step for step in ACTION["runs"]["steps"] if step["name"] == "Compare")
    run = Run()
    checkout._run(compare, {}, run)
    assert run.outputs["steps.compare.outputs.verdict"] == "failed"


def test_a_dearer_layer_is_red_named_in_the_summary_and_annotated_at_its_budget(
    checkout: Checkout,
) -> None:
    base = checkout.git("rev-parse", "HEAD")
    checkout.commit(test_model_py=DEARER)
    run = checkout.gate(base=base)
    assert run.codes["Judge"] == 1
    assert run.outputs["steps.compare.outputs.verdict"] == "failed"
    assert "`layer_1 total from 140 to 150 FLOP (+7.1 %)`" in run.summary
    assert "costs more than recorded" in run.summary
    assert "\n::error file=budgets/model.yaml,line=3,col=3," in run.log
    page = Path(run.outputs["steps.measure.outputs.report"]) / "flops.html"
    assert "Change against the base" in page.read_text(encoding="utf-8")


def test_growth_that_no_record_sees_is_red_against_the_base(checkout: Checkout) -> None:
    base = checkout.git("rev-parse", "HEAD")
    checkout.commit(test_model_py=SHIFTED)
    run = checkout.gate(base=base)
    assert run.codes["Judge"] == 1
    assert run.outputs["steps.compare.outputs.verdict"] == "regressed"
    assert "layer_1 total from 140 to 141 FLOP" in run.summary


def test_a_tolerance_lets_little_growth_through(checkout: Checkout) -> None:
    base = checkout.git("rev-parse", "HEAD")
    checkout.commit(test_model_py=SHIFTED)
    run = checkout.gate(base=base, tolerance="2.5%")
    assert not run.red
    assert "within tolerance" in run.summary


def test_an_increase_that_is_recorded_and_committed_is_green_and_told(checkout: Checkout) -> None:
    base = checkout.git("rev-parse", "HEAD")
    accepted = LOCK.replace('"forward": 100', '"forward": 110')
    checkout.commit(test_model_py=DEARER, budgets__model_lock_json=accepted)
    run = checkout.gate(base=base)
    assert not run.red
    assert run.outputs["steps.compare.outputs.verdict"] == "passed"
    assert "grew, as newly recorded" in run.summary


@pytest.mark.long
def test_a_shallow_clone_fetches_the_base_and_leaves_no_worktree(
    checkout: Checkout, tmp_path: Path
) -> None:
    base = checkout.git("rev-parse", "HEAD")
    checkout.commit(test_model_py=SHIFTED)
    clone = Checkout(tmp_path / "clone", checkout.runner)
    checkout.git("clone", "--quiet", "--depth=1", f"file://{checkout.root}", str(clone.root))
    run = clone.gate(base=base)
    assert f"was counted in a worktree of {base}" in run.log
    assert run.outputs["steps.compare.outputs.verdict"] == "regressed"
    assert len(clone.git("worktree", "list").splitlines()) == 1
    assert clone.git("status", "--porcelain", "--", "test_model.py", "budgets") == ""


@pytest.mark.long
def test_a_project_in_a_subfolder_is_counted_and_annotated_there(checkout: Checkout) -> None:
    base = checkout.commit(ml__budgets__model_yaml=BUDGET, ml__test_model_py=COUNTED)
    checkout.commit(ml__test_model_py=SHIFTED)
    run = checkout.gate(base=base, working_directory="ml")
    assert run.outputs["steps.compare.outputs.verdict"] == "regressed"
    assert "::error file=ml/budgets/model.yaml,line=3," in run.log


def test_the_bases_own_sources_are_counted_wherever_the_project_is_installed(
    checkout: Checkout,
) -> None:
    model = "FORWARD = 40\n"
    test = COUNTED.replace("import pytest\n", "import pytest\nfrom mymodel import FORWARD\n")
    test = test.replace("FLOPsCount(40", "FLOPsCount(FORWARD")
    base = checkout.commit(src__mymodel_py=model, test_model_py=test)
    checkout.commit(
        src__mymodel_py="FORWARD = 50\n",
        budgets__model_lock_json=LOCK.replace("100", "200"),
    )
    # As an editable installation does it.
    checkout.environment["PYTHONPATH"] = str(checkout.root / "src")
    run = checkout.gate(base=base)
    assert "layer_1 total from 140 to 150 FLOP" in run.summary


def test_a_sibling_in_the_checkout_is_the_bases_own_too(checkout: Checkout) -> None:
    test = COUNTED.replace("import pytest\n", "import pytest\nfrom core import FORWARD\n")
    test = test.replace("FLOPsCount(40", "FLOPsCount(FORWARD")
    base = checkout.commit(
        packages__core__python__core_py="FORWARD = 40\n",
        packages__app__pytest_ini="[pytest]\n",
        packages__app__budgets__model_yaml=BUDGET,
        packages__app__test_model_py=test,
    )
    checkout.commit(packages__core__python__core_py="FORWARD = 50\n")
    checkout.environment["PYTHONPATH"] = str(checkout.root / "packages/core/python")
    run = checkout.gate(base=base, working_directory="packages/app")
    assert run.outputs["steps.compare.outputs.verdict"] == "regressed"
    assert "layer_1 total from 140 to 150 FLOP" in run.summary


def test_a_red_base_is_a_base_also_where_the_first_failure_ends_a_run(checkout: Checkout) -> None:
    red = COUNTED + "def test_another(): assert False\n"
    base = checkout.commit(a_test_first_py="def test_first(): assert False\n", test_model_py=red)
    checkout.commit(a_test_first_py="", test_model_py=COUNTED)
    run = checkout.gate(base=base, pytest_args="-x")
    assert run.outputs["steps.compare.outputs.verdict"] == "passed"
    assert "no regression (1 same)" in run.summary


@pytest.mark.long
def test_a_setup_command_prepares_the_base(checkout: Checkout) -> None:
    test = COUNTED.replace("FLOPsCount(40", "FLOPsCount(int(open('made').read())")
    base = checkout.commit(test_model_py=test)
    (checkout.root / "made").write_text("45")
    run = checkout.gate(base=base, base_setup="echo 40 >made")
    assert "layer_1 total from 140 to 145 FLOP" in run.summary


@pytest.mark.long
def test_a_report_of_the_base_that_the_workflow_has_is_taken(checkout: Checkout) -> None:
    first = checkout.gate()
    report = Path(first.outputs["steps.measure.outputs.report"]) / "flops.json"
    kept = shutil.copy(report, checkout.runner / "kept.json")
    checkout.commit(test_model_py=SHIFTED)
    run = checkout.gate(base_report=str(kept))
    assert run.outputs["steps.compare.outputs.verdict"] == "regressed"
    assert "worktree" not in run.log


def test_a_named_report_that_is_not_there_is_red(checkout: Checkout) -> None:
    run = checkout.gate(base_report="gone.json")
    assert run.codes["Judge"] == 1
    assert run.outputs["steps.compare.outputs.verdict"] == "error"
    assert "::error title=FLOPs gate::there is no base-report at gone.json" in run.log


def test_an_unusable_report_of_the_base_is_red_and_said_so(checkout: Checkout) -> None:
    (checkout.runner / "base.json").write_text("{}")
    run = checkout.gate(base_report=str(checkout.runner / "base.json"))
    assert run.codes["Judge"] == 1
    assert run.outputs["steps.compare.outputs.verdict"] == "error"
    assert "could not be compared with the one of the base" in run.summary


@needs_jq
@pytest.mark.long
def test_the_artifact_of_the_base_commit_spares_the_worktree(gh: Checkout) -> None:
    base = gh.git("rev-parse", "HEAD")
    first = gh.gate()
    archive = gh.runner / "report.zip"
    with zipfile.ZipFile(archive, "w") as file:
        report = Path(first.outputs["steps.measure.outputs.report"]) / "flops.json"
        file.write(report, "flops.json")
    gh.environment["GH_ZIP"] = str(archive)

    def artifact(number: int, *, sha: str, repository: int, expired: bool) -> str:
        origin = f'{{"head_sha": "{sha}", "head_repository_id": {repository}, "repository_id": 1}}'
        return f'{{"id": {number}, "expired": {str(expired).lower()}, "workflow_run": {origin}}}'

    artifacts = (
        artifact(4, sha="0" * 40, repository=1, expired=False),
        artifact(5, sha=base, repository=1, expired=True),
        artifact(6, sha=base, repository=2, expired=False),
        artifact(7, sha=base, repository=1, expired=False),
    )
    (gh.runner / "answer.json").write_text(f'{{"artifacts": [{", ".join(artifacts)}]}}')
    gh.commit(test_model_py=SHIFTED)
    run = gh.gate(base=base, token="a token")
    assert f"the base's report is that of the artifact of {base}" in run.log
    assert run.outputs["steps.compare.outputs.verdict"] == "regressed"
    assert "artifacts?name=flops-report&per_page=100" in (gh.runner / "gh.log").read_text()


@needs_jq
def test_without_an_artifact_the_base_is_counted(gh: Checkout) -> None:
    base = gh.git("rev-parse", "HEAD")
    run = gh.gate(base=base, token="a token")
    assert f"was counted in a worktree of {base}" in run.log
    assert not run.red


@pytest.mark.parametrize(("required", "red"), [("false", False), ("true", True)])
def test_a_base_without_budgets_is_a_warning_unless_it_is_required(
    checkout: Checkout, required: str, red: bool
) -> None:
    checkout.git("rm", "--quiet", "-r", "budgets", "test_model.py")
    base = checkout.commit(readme_py="")
    checkout.commit(budgets__model_yaml=BUDGET, test_model_py=COUNTED)
    run = checkout.gate(base=base, require_base=required)
    assert run.red == red
    assert f"::warning title=FLOPs gate::no report of the base {base} could be had" in run.log


def test_a_run_without_any_budget_is_red(checkout: Checkout) -> None:
    checkout.git("rm", "--quiet", "-r", "budgets", "test_model.py")
    checkout.commit(test_model_py="def test_it(): pass\n")
    run = checkout.gate()
    assert run.codes["Judge"] == 1
    assert run.outputs["steps.compare.outputs.verdict"] == "error"
    assert "no budget was measured" in run.summary


def test_a_broken_budget_file_is_red(checkout: Checkout) -> None:
    checkout.commit(budgets__model_yaml=BUDGET.replace("total:", "totl:"))
    run = checkout.gate()
    assert run.outputs["steps.compare.outputs.verdict"] == "error"
    assert "budgets/model.yaml:4:14" in run.log


def test_arguments_are_split_as_a_shell_does_and_nothing_in_them_is_run(
    checkout: Checkout,
) -> None:
    trap = checkout.runner / "trapped"
    run = checkout.gate(pytest_args=f"-k 'step and not $(touch {trap})' test_model.py")
    assert run.outputs["steps.compare.outputs.verdict"] == "error"
    assert not trap.exists()
    assert not checkout.gate(pytest_args="-k 'step and not other' test_model.py").red


BOT = "github-actions[bot]"


def comments(*written: tuple[str, str]) -> str:
    """The answer of GitHub to what is written below a pull request, by author and text."""
    listed = [
        {"id": number, "user": {"login": author}, "body": body}
        for number, (author, body) in enumerate(written)
    ]
    return json.dumps(listed)


@needs_jq
@pytest.mark.parametrize(
    ("answer", "method"),
    [
        ("[]", "--method POST repos/them/model/issues/12/comments"),
        (
            comments(("somebody", "hello"), (BOT, f"{MARKER} and more")),
            "--method PATCH repos/them/model/issues/comments/1",
        ),
        (
            comments(("somebody", f"{MARKER} no regression"), (BOT, "hello")),
            "--method POST repos/them/model/issues/12/comments",
        ),
    ],
    ids=["first", "again", "somebody-elses"],
)
def test_one_comment_is_kept(gh: Checkout, answer: str, method: str) -> None:
    (gh.runner / "answer.json").write_text(answer)
    run = gh.gate(comment=True, token="a token")
    assert not run.red
    assert method in (gh.runner / "gh.log").read_text()
    body = (gh.runner / "gh.log.body").read_text()
    assert body.startswith(f"{MARKER}\n")
    assert "Green: the one budget holds" in body


@needs_jq
def test_without_leave_to_comment_the_gate_goes_on(gh: Checkout) -> None:
    (gh.runner / "answer.json").write_text("[]")
    gh.environment["GH_WRITE_CODE"] = "1"
    run = gh.gate(comment=True, token="a token")
    assert not run.red
    assert "::notice title=FLOPs gate::no comment could be written" in run.log


def test_every_input_and_output_that_the_action_uses_is_declared_and_described() -> None:
    text = (FOLDER / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(ACTION["inputs"])
    ids = {step.get("id") for step in ACTION["runs"]["steps"]}
    assert set(re.findall(r"steps\.([\w-]+)", text)) <= ids
    assert set(ACTION["outputs"]) == {"verdict", "report"}
    for declared in (*ACTION["inputs"].values(), *ACTION["outputs"].values()):
        assert declared["description"]


def test_every_variable_a_script_needs_is_given_to_its_step() -> None:
    for step in ACTION["runs"]["steps"]:
        if "run" in step:
            script = FOLDER / step["run"].strip('"').removeprefix("$GITHUB_ACTION_PATH/")
            assert os.access(script, os.X_OK)
            used = set(re.findall(r"\bFLOPS_\w+", script.read_text(encoding="utf-8")))
            assert used == set(step["env"]) - {"GH_TOKEN"}


@pytest.mark.parametrize("file", [FOLDER / "action.yml", *WORKFLOWS], ids=lambda file: file.name)
def test_third_party_actions_are_pinned_by_commit(file: Path) -> None:
    for used in re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8")):
        assert used.startswith("./") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used)


def test_the_documentation_tells_every_input_with_its_name() -> None:
    text = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE))
    assert set(ACTION["inputs"]) | set(ACTION["outputs"]) <= told


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing() -> None:
    done = subprocess.run(
        ["actionlint", *map(str, WORKFLOWS)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing() -> None:
    scripts = [*FOLDER.glob("*.sh"), *(ROOT / "examples").glob("*.sh")]
    done = subprocess.run(
        ["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_the_example_goes_red_names_the_layer_and_goes_green(tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "PYTHON": sys.executable,
        "PYTHONPATH": str(Path(package).parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [str(ROOT / "examples/pull_request.sh")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    red, green = done.stdout.split("=== the increase is meant")
    assert "FLOPs gate: failed" in red
    assert "`layer_1 total from 257,860 to 386,308 FLOP (+49.8 %)`" in red
    assert "FLOPs gate: passed" in green
    assert "as newly recorded" in green
