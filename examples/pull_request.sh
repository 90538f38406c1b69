#!/usr/bin/env bash
# A pull request makes one layer dearer: the gate goes red and names the layer. Its author records
# the increase on purpose, in a commit that a reviewer sees: the gate goes green.
#
# Runs the steps of the GitHub action on this machine, in a temporary repository:
#     examples/pull_request.sh
# PYTHON names another Python than `python`; it needs pytest-flops.
set -euo pipefail

action=$(cd "$(dirname "$0")/../.github/actions/flops-gate" && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export FLOPS_PYTHON=${PYTHON:-python}
export FLOPS_PYTEST_ARGS=budgets
export GITHUB_STEP_SUMMARY=$place/summary.md
export GITHUB_OUTPUT=$place/output
export RUNNER_TEMP=$place/runner
unset CI GITHUB_ACTIONS # as on a developer's machine, wherever this runs

heading() { printf '\n=== %s\n' "$1"; }

commit() { git add --all && git -c user.name=me -c user.email=me@example.com commit --quiet -m "$1"; }

# The steps of the action, in its order; the result is that of the last.
gate() {
  : >"$GITHUB_STEP_SUMMARY"
  : >"$GITHUB_OUTPUT"
  "$action/measure.sh" && "$action/base.sh" && "$action/compare.sh" || return 2
  FLOPS_VERDICT=$(sed -n 's/^verdict=//p' "$GITHUB_OUTPUT") "$action/judge.sh"
}

mkdir "$place/project" "$place/project/budgets" && cd "$place/project"
git init --quiet --initial-branch main
echo 'reports/' >.gitignore

cat >network.py <<'EOF'
from torch import nn, randn


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer_0 = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
        self.layer_1 = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.layer_1(self.layer_0(x)))


def build(batch_size):
    return Network(), randn(batch_size, 32)
EOF

cat >budgets/network.yaml <<'EOF'
version: 1
budgets:
  network:    # one training step
    workload: {model: "network:build", batch_size: 8, optimizer: adamw}
    limits: {total: 1 MFLOP}
EOF

heading 'main: a model, its budget, its recorded counts'
"$FLOPS_PYTHON" -m pytest --quiet --flops-update budgets
commit 'Add a network and its budget'
FLOPS_BASE=$(git rev-parse HEAD)
export FLOPS_BASE

heading 'pull request: layer_1 gets wider'
git switch --quiet --create wider
sed -i.old '/layer_1 =/ s/64/96/g' network.py && rm network.py.old
commit 'Widen the second layer'
if gate; then
  echo 'the gate should be red' >&2
  exit 1
fi
heading 'its summary'
cat "$GITHUB_STEP_SUMMARY"
grep -q 'layer_1' "$GITHUB_STEP_SUMMARY"

heading 'the increase is meant: record it, commit it, try again'
"$FLOPS_PYTHON" -m pytest --quiet --flops-update budgets
commit 'Accept what the wider layer costs'
git show --format=%s --unified=0 -- budgets
gate
heading 'its summary'
cat "$GITHUB_STEP_SUMMARY"
