#!/usr/bin/env bash
# Run the budget tests of the checkout; a red run is judged later, when its report is told.
set -euo pipefail

work=${RUNNER_TEMP:?}/flops-gate
rm -rf "$work"
mkdir -p "$work"

# pytest splits these options as a shell would; nothing in them is executed.
export PYTEST_ADDOPTS="${PYTEST_ADDOPTS-} ${FLOPS_PYTEST_ARGS-}"

code=0
"${FLOPS_PYTHON:-python}" -m pytest --flops-report "$work/report" || code=$?
echo "$code" >"$work/pytest-code"
echo "report=$work/report" >>"$GITHUB_OUTPUT"
