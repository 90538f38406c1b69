#!/usr/bin/env bash
# Keep one comment on the pull request; without leave to write one, as in forks, go on without.
set -euo pipefail

work=${RUNNER_TEMP:?}/flops-gate
marker="<!-- flops-gate: ${FLOPS_COMMENT_ID-} -->"
longest=65000 # GitHub takes 65,536 characters

# Anybody can begin a comment with the marker; into somebody else's nothing is written.
author() { gh api user --jq .login 2>/dev/null || echo 'github-actions[bot]'; }

comment() {
  local comments="repos/$GITHUB_REPOSITORY/issues/$FLOPS_PULL_REQUEST/comments"
  local me ours id
  me=$(author)
  ours="map(select(.user.login == \"$me\" and (.body | startswith(\"$marker\")))) | .[0].id // empty"
  id=$(gh api --paginate "$comments?per_page=100" --jq "$ours" | head -n 1) || return 1
  if [[ -n $id ]]; then
    gh api --silent --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" -F "body=@$1"
  else
    gh api --silent --method POST "$comments" -F "body=@$1"
  fi
}

{ echo "$marker" && head -c "$longest" "$work/summary.md" | iconv -c -f utf-8 -t utf-8; } >"$work/comment.md"
if ! command -v gh >/dev/null || ! comment "$work/comment.md"; then
  echo '::notice title=FLOPs gate::no comment could be written; the job summary has all of it'
fi
