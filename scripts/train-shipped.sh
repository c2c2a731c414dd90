#!/usr/bin/env bash
# A shipped policy from nothing: expert iteration, and of the state policy a controller that continues chunks.
#   scripts/train-shipped.sh [state|rgb]      (make train; hours on two cores; run it again to go on)
set -euo pipefail
cd "$(dirname "$0")/.."
policy=${1:-state}
keystep=${KEYSTEP:-.venv/bin/keystep}
run=runs/shipped-$policy
$keystep expit "examples/shipped-$policy.toml"
[ "$policy" = state ] || exit 0

# 2,000 more steps on the same data, in which chunks begin with up to 4 actions of the one before (docs/merging.md).
best=$run/iteration-1
$keystep train controller --dataset "$run-d0" "$best/rollouts" --output "$run/continuing" \
  --condition goal --weights "$best/controller" --statistics "$run-d0" --rtc 4 --steps 2000 --seed 2 --batch-size 128 \
  --learning-rate 3e-4 --warmup-steps 33 --goal-noise 0.03 --symmetries --threads 1
bundle=$run/franka3blocks-state.keystep
$keystep export "$run/continuing" "$bundle" --overwrite --planner "$best/planner" --scorer "$best/scorer" \
  --planner-guidance 1.0 --name franka3blocks-state
