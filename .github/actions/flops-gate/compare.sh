#!/usr/bin/env bash
# Hold the report against the base's; tell the result in the job's summary, annotations, outputs.
set -euo pipefail

work=${RUNNER_TEMP:?}/flops-gate
head=$work/report/flops.json

flops() { "${FLOPS_PYTHON:-python}" -m pytest_flops "$@"; }

compare() {
  flops compare "$work/base.json" "$head" --format "$1" ${FLOPS_TOLERANCE:+--tolerance "$FLOPS_TOLERANCE"}
}

page() {
  flops html "$head" --base "$work/base.json" ${FLOPS_TOLERANCE:+--tolerance "$FLOPS_TOLERANCE"}
}

# Whether something is true of the report, in Python.
is() {
  "${FLOPS_PYTHON:-python}" -c "import json, sys
report = json.load(open(sys.argv[1]))
sys.exit(not ($1))" "$head"
}

error() { echo "::error title=FLOPs gate::$1" && echo "❌ $1" >>"$work/summary.md"; }

verdict=passed
case $(<"$work/pytest-code") in
  0) ;;
  1) verdict=failed ;;
  *) verdict=error ;;
esac
: >"$work/summary.md"

if [[ ! -f $head ]]; then
  verdict=error
  error 'no budget was measured, so nothing was judged: pytest wrote no report'
elif is 'not report["passed"] and not report["entries"]'; then
  verdict=error
  error 'no budget was measured, so nothing was judged'
elif [[ -f $work/base.json ]]; then
  code=0
  compare markdown >>"$work/summary.md" || code=$?
  if ((code > 1)); then
    verdict=error
    error 'the report could not be compared with the one of the base'
  else
    compare github || true
    page >/dev/null
    if ((code == 1)) && [[ $verdict == passed ]]; then verdict=regressed; fi
  fi
elif [[ ${FLOPS_REQUIRE_BASE-} == true ]]; then
  verdict=error
  error 'there is no report of the base to compare with, and require-base is set'
fi
# The report's own verdict, whatever became of pytest's exit code on the way here.
if [[ $verdict == passed ]] && ! is 'report["passed"]'; then verdict=failed; fi
if [[ -f $work/report/flops.md ]]; then
  { echo && cat "$work/report/flops.md"; } >>"$work/summary.md"
fi

cat "$work/summary.md" >>"$GITHUB_STEP_SUMMARY"
echo "verdict=$verdict" >>"$GITHUB_OUTPUT"
