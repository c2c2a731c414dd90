#!/usr/bin/env bash
# HD-ExpIt's curves and tables from nothing: all runs, then every curve into docs/curves. Run again to go on.
#   scripts/curves.sh [RUNS] [OUTPUT]    folder of the runs, of the curves
#   BUDGET=4000 scripts/curves.sh        training steps of iteration 0, planner and controller together
#   EPISODES=20 CHAINS=100 scripts/curves.sh   what is played for tables (the runs' own evaluations stay)
set -euo pipefail
keystep=${KEYSTEP:-.venv/bin/keystep}
runs=${1:-runs/curves}
output=${2:-docs/curves}
budget=(${BUDGET:+--budget "$BUDGET"})
played=(--processes "${PROCESSES:-2}")

$keystep curves runs "${CONFIG:-examples/curves.toml}" --output "$runs" "${budget[@]}"

# curve NAME WHAT RUNS.. OPTIONS: NAME.md, NAME.json and NAME.png
curve() {
  local name=$1
  shift
  echo "== $name"
  $keystep curves "$@" "${budget[@]}" --markdown "$output/$name.md" --json "$output/$name.json" --plot "$output/$name.png"
}
ft=("$runs"/ft-0 "$runs"/ft-1 "$runs"/ft-2)
mkdir -p "$output"

# Nothing is played for these.
curve figure3a success "$runs"
curve figure7 families "${ft[@]}"
curve figure8 starts "$runs/ft-0"
curve figure9 steps "${ft[@]}" "$runs/standard-0"
curve table8 methods "$runs"
curve figure11 plans "$runs/ft-0"

# These are played once and kept in the runs' reports/.
curve failures failures "$runs/ft-0" --episodes "${EPISODES:-20}" "${played[@]}"
curve table3 replanning "${ft[@]}" --episodes "${EPISODES:-20}" "${played[@]}"
curve alignment alignment "${ft[@]}" --episodes "${EPISODES:-20}" "${played[@]}"
curve table2 cross "$runs/ft-0" "$runs/act-ft-0" --iterations 0 3 --episodes "${EPISODES:-20}" "${played[@]}"
curve table2-by-iteration cross "$runs/ft-0" --episodes "${EPISODES:-20}" "${played[@]}"
curve table7 chains "$runs" --episodes "${CHAINS:-200}" "${played[@]}"
curve table9 contexts "$runs/ft-0" "$runs/resets-ft-0" --episodes "${CHAINS:-200}" "${played[@]}"
