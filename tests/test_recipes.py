"""The recipes of docs/ci.md for other places than GitHub, run as they are written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.posix("shell that these recipes are for")

PAGE = (Path(__file__).parents[1] / "docs/ci.md").read_text(encoding="utf-8")
BUDGET = "version: 1\nbudgets:\n  step: {limits: {total: 100 FLOP}}\n"
COUNTED = """\
import pytest
from pytest_flops import FLOPsCount
@pytest.mark.flops_budget('step')
def test_step(flops): flops.check(FLOPsCount(50))
"""
DEARER = COUNTED.replace("50", "51")
OVER = COUNTED.replace("50", "101")


def block(containing: str) -> str:
    (found,) = (
        text for text in re.findall(r"```\w+\n(.*?)```", PAGE, re.DOTALL) if containing in text
    )
    return str(found)


class Repository:
    """A clone with a bare remote, `main` pushed."""

    def __init__(self, place: Path) -> None:
        self.root = place / "clone"
        self.environment = {
            "HOME": str(place),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **{
                f"GIT_{who}_{what}": "me"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        self.run("git init --quiet --bare --initial-branch main remote.git", folder=place)
        self.run("git clone --quiet remote.git clone 2>/dev/null", folder=place)
        self.run("git switch --quiet --orphan main")
        self.commit(COUNTED)
        self.run("git push --quiet origin main")

    def run(
        self, command: str, *, folder: Path | None = None, check: bool = True, **more: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-c", command],
            cwd=folder or self.root,
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=check,
        )

    def commit(self, counted: str) -> None:
        folder = self.root / "budgets"
        folder.mkdir(exist_ok=True)
        (folder / "model.yaml").write_text(BUDGET)
        (folder / "test_step.py").write_text(counted)
        self.run("git add budgets && git commit --quiet --message 'Change the model'")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


@pytest.mark.parametrize(("counted", "pushed"), [(DEARER, True), (OVER, False)])
def test_the_pre_push_hook_keeps_a_red_commit_from_the_remote(
    repository: Repository, counted: str, pushed: bool
) -> None:
    hook = repository.root / ".git/hooks/pre-push"
    hook.write_text(block(".git/hooks/pre-push"))
    hook.chmod(0o755)
    repository.commit(counted)
    done = repository.run("git push origin main", check=False)
    assert (done.returncode == 0) == pushed, done.stdout
    head, remote = repository.run("git rev-parse HEAD origin/main").stdout.split()
    assert (head == remote) == pushed


def gitlab(repository: Repository) -> subprocess.CompletedProcess[str]:
    script = yaml.safe_load(block(".gitlab-ci.yml"))["flops"]["script"]
    install, *commands = script
    assert install.startswith("pip install")
    return repository.run(
        "\n".join(commands),
        check=False,
        CI="true",
        CI_DEFAULT_BRANCH="main",
        CI_PROJECT_DIR=str(repository.root),
    )


def test_the_gitlab_job_holds_a_merge_request_against_its_target(repository: Repository) -> None:
    repository.commit(DEARER)
    done = gitlab(repository)
    assert done.returncode == 1, done.stdout
    assert "'step' costs more than its base" in done.stdout
    assert 'name="flops.step.total"' in (repository.root / "junit.xml").read_text()
    assert (repository.root / "reports/flops.html").exists()


def test_the_gitlab_job_passes_what_costs_the_same(repository: Repository) -> None:
    assert gitlab(repository).returncode == 0


def test_the_gitlab_job_runs_again_on_a_machine_that_keeps_its_folders(
    repository: Repository,
) -> None:
    assert gitlab(repository).returncode == 0
    assert gitlab(repository).returncode == 0


def test_the_gitlab_job_passes_where_the_target_has_no_budgets_yet(repository: Repository) -> None:
    repository.run("git rm --quiet -r budgets && git commit --quiet -m 'Begin' && git push -q")
    repository.commit(COUNTED)
    done = gitlab(repository)
    assert done.returncode == 0, done.stdout
