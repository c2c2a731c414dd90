#!/usr/bin/env bash
# From nothing to the shipped bundle, on a CPU. Every step can be stopped and started again.
set -euo pipefail
keystep=.venv/bin/keystep
bundle=bundles/franka3blocks-state.keystep

$keystep collect --output datasets/franka3blocks --episodes 100 --expert-noise 0.0 0.2 0.4 --processes 2
$keystep train --dataset datasets/franka3blocks --output checkpoints/franka3blocks-state \
  --preset small --steps 20000 --batch-size 256 --learning-rate 1e-3 --warmup-steps 300 --threads 2
$keystep export checkpoints/franka3blocks-state $bundle --overwrite
$keystep verify $bundle --checkpoint checkpoints/franka3blocks-state
$keystep eval $bundle --episodes 100 --processes 2 --json outputs/eval.json
