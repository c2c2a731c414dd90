#!/usr/bin/env bash
# From nothing to the shipped bundle, on a CPU. Every step can be stopped and started again.
set -euo pipefail
keystep=.venv/bin/keystep
bundle=bundles/franka3blocks-state.keystep

# Episodes end soon after success and begin anywhere: see keystep.envs.demonstrations for why.
$keystep collect --output datasets/franka3blocks --episodes 400 --seed 1000000 --expert-noise 0.0 0.2 0.4 \
  --frames-after-success 5 --wander-frames 12 --processes 2
$keystep train --dataset datasets/franka3blocks --output checkpoints/franka3blocks-state \
  --preset small --steps 18000 --learning-rate 1.5e-3 --warmup-steps 300 --threads 1
$keystep export checkpoints/franka3blocks-state $bundle --overwrite
$keystep verify $bundle --checkpoint checkpoints/franka3blocks-state
$keystep eval $bundle --episodes 100 --processes 2 --json outputs/eval.json
