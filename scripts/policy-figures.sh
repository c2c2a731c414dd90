#!/usr/bin/env bash
# Every success rate of docs/policies.md that is of the shipped state bundle, into benchmarks/results (half an hour on two cores).
#   scripts/policy-figures.sh [BUNDLE]
set -euo pipefail
keystep=${KEYSTEP:-.venv/bin/keystep}
bundle=${1:-bundles/franka3blocks-state.keystep}
output=${OUTPUT:-benchmarks/results}
fresh=(--resets fresh) # another one for every task, as in HD-ExpIt

# shown NAME OPTIONS: what `keystep eval` finds, into NAME.md and NAME.json
shown() {
  local name=$1
  shift
  echo "== $name"
  $keystep eval "$bundle" --processes "${PROCESSES:-2}" "$@" --json "$output/$name.json" --markdown "$output/$name.md"
}
shown state-mtlc "${fresh[@]}" --episodes 100 --plot "$output/state-mtlc.png"
shown state-lh-mtlc --protocol lh-mtlc --episodes 100 --noise-seeds 0 1 --plot "$output/state-lh-mtlc.png"
shown state-mtlc-other-seeds "${fresh[@]}" --episodes 100 --seed 60000000 # no bundle was chosen by these
shown state-lh-mtlc-other-seeds --protocol lh-mtlc --episodes 100 --seed 43000000
shown state-lh-mtlc-fresh --protocol lh-mtlc --episodes 300 --seed 63000000 # nor by these
shown state-bullet "${fresh[@]}" --episodes 100 --env keystep/Franka3Blocks-v1 --also-in keystep/Franka3Blocks-bullet
shown state-no-replan "${fresh[@]}" --episodes 30 --replan off
shown state-no-replan-of-16 "${fresh[@]}" --episodes 30 --replan off --planner-candidates 16 --planner-score density
shown state-ground-truth "${fresh[@]}" --episodes 30 --subgoals ground_truth
shown state-held-out "${fresh[@]}" --episodes 30 --phrasing held_out
for precision in fp32 bf16 int8; do
  shown "state-native-$precision" "${fresh[@]}" --episodes 30 --precision "$precision"
done
