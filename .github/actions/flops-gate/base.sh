#!/usr/bin/env bash
# Get the base's flops.json: given, or from the base commit's artifact, or counted in a worktree.
set -euo pipefail

work=${RUNNER_TEMP:?}/flops-gate
base=${FLOPS_BASE-}

note() { echo "::notice title=FLOPs gate::$1"; }

from_artifact() {
  [[ -n ${FLOPS_ARTIFACT-} && -n ${GITHUB_REPOSITORY-} && -n ${GH_TOKEN-} ]] || return 1
  command -v gh >/dev/null || return 1
  local artifacts=repos/$GITHUB_REPOSITORY/actions/artifacts id
  # A fork's run may have made an artifact of any content: only this repository's own count.
  id=$(gh api "$artifacts?name=$FLOPS_ARTIFACT&per_page=100" --jq "[.artifacts[]
    | select((.expired | not) and .workflow_run.head_sha == \"$base\")
    | select(.workflow_run.head_repository_id == .workflow_run.repository_id)][0].id // empty") || return 1
  [[ -n $id ]] || return 1
  gh api "$artifacts/$id/zip" >"$work/base.zip" || return 1
  "${FLOPS_PYTHON:-python}" -m zipfile -e "$work/base.zip" "$work/base-artifact" || return 1
  cp "$work/base-artifact/flops.json" "$work/base.json"
}

from_worktree() (
  tree=$work/base-tree
  inside=$(git rev-parse --show-prefix)
  checkout=$(git rev-parse --show-toplevel)
  git cat-file -e "$base^{commit}" 2>/dev/null || git fetch --quiet --depth=1 origin "$base" || return 1
  git worktree add --quiet --force --detach "$tree" "$base" || return 1
  trap 'git worktree remove --force "$tree"' EXIT
  cd "$tree/$inside" || return 1
  if [[ -n ${FLOPS_BASE_SETUP-} ]]; then
    bash -euo pipefail -c "$FLOPS_BASE_SETUP" || return 1
  fi
  # The base's own sources come before those of the checkout, wherever that is installed.
  sources=$("${FLOPS_PYTHON:-python}" "$(dirname "$0")/base_path.py" "$checkout" "$tree") || return 1
  # Its workflow commands would annotate the wrong commit. Its red tests do not matter here, and must
  # not end its run (`-x`), which would leave a report that is no base.
  PYTHONPATH=$sources${PYTHONPATH:+:$PYTHONPATH} GITHUB_ACTIONS='' \
    PYTEST_ADDOPTS="${PYTEST_ADDOPTS-} ${FLOPS_PYTEST_ARGS-}" \
    "${FLOPS_PYTHON:-python}" -m pytest --maxfail=0 --flops-report "$work/base-report" || true
  cp "$work/base-report/flops.json" "$work/base.json"
)

if [[ -n ${FLOPS_BASE_REPORT-} ]]; then
  if ! cp "$FLOPS_BASE_REPORT" "$work/base.json"; then
    echo "::error title=FLOPs gate::there is no base-report at $FLOPS_BASE_REPORT"
    : >"$work/base.json" # cannot be used, so the comparison goes red
  fi
elif [[ ! $base =~ [1-9a-f] ]]; then
  note 'there is no base to compare with; only the limits and the recorded counts are held'
elif from_artifact; then
  note "the base's report is that of the artifact of $base"
elif from_worktree; then
  note "the base's report was counted in a worktree of $base"
else
  echo "::warning title=FLOPs gate::no report of the base $base could be had; only the limits and the recorded counts are held"
fi
