"""Where a run happens."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from pytest_flops.reports.environment import environment

GITHUB = {
    "GITHUB_SHA": "1234",
    "GITHUB_HEAD_REF": "widen-head",
    "GITHUB_REF_NAME": "12/merge",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "example/models",
    "GITHUB_RUN_ID": "99",
}
GITLAB = {
    "CI_COMMIT_SHA": "5678",
    "CI_COMMIT_REF_NAME": "widen-head",
    "CI_JOB_URL": "https://gitlab.com/example/models/-/jobs/7",
}


@pytest.fixture
def no_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")


@pytest.mark.usefixtures("no_git")
def test_without_git_and_ci_nothing_is_known_of_the_commit():
    found = environment({})
    assert (found["commit"], found["branch"], found["ci_run"]) == (None, None, None)


@pytest.mark.usefixtures("no_git")
def test_github_tells_the_commit_the_branch_and_the_run():
    found = environment(GITHUB)
    assert found["commit"] == "1234"
    assert found["branch"] == "widen-head"
    assert found["ci_run"] == "https://github.com/example/models/actions/runs/99"


@pytest.mark.usefixtures("no_git")
def test_gitlab_tells_the_commit_the_branch_and_the_job():
    found = environment(GITLAB)
    assert (found["commit"], found["branch"]) == ("5678", "widen-head")
    assert found["ci_run"] == "https://gitlab.com/example/models/-/jobs/7"


def test_the_checkout_knows_its_own_commit_and_branch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "trunk"], check=True)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "Begin"], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    found = environment({"GITHUB_SHA": "the merge commit"})
    assert (found["commit"], found["branch"]) == (head.stdout.strip(), "trunk")


def test_versions_are_told_without_importing_torch():
    program = (
        "import sys; from pytest_flops.reports.environment import environment; "
        "print(environment({})['torch']); sys.exit('torch' in sys.modules)"
    )
    assert printed_by(program) == version("torch")


def test_importing_reports_imports_neither_torch_nor_pytest_nor_a_template_engine():
    program = (
        "import sys, pytest_flops.reports.write, pytest_flops.reports.pages.terminal, "
        "pytest_flops.reports.merge, pytest_flops.reports.pages.comparison; "
        "print({'torch', 'pytest', 'jinja2', 'jsonschema'} & set(sys.modules))"
    )
    assert printed_by(program) == "set()"


def printed_by(program):
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
