#!/usr/bin/env bash
# From nothing to a shipped bundle. Every step can be stopped and started again.
#   scripts/train.sh state   the state hierarchy, an hour and a half on two CPU cores
#   scripts/train.sh rgb     the image hierarchy at 64 x 64, two hours on two CPU cores; needs a graphics driver
#   scripts/train.sh paper   HD-ExpIt's sizes at 96 x 96, for a machine with GPUs; GPUS=8 scripts/train.sh paper
set -euo pipefail
keystep=.venv/bin/keystep
policy=${1:-state}
bundle=bundles/franka3blocks-$policy.keystep
data=datasets/franka3blocks-$policy
planner=checkpoints/$policy-planner
controller=checkpoints/$policy-controller

# Planner and controller learn from the same demonstrations of 64 frames. They start anywhere near the first pose,
# and the actions are those executed, noise included: what led to the goal.
collect() {
  $keystep collect --output "$data" --processes 2 "$@"
}

case $policy in
state)
  collect --episodes 500 --seed 2000000 --preset shipped
  $keystep train planner --dataset "$data" --output "$planner" --preset small --latest-start 32 \
    --steps 10000 --learning-rate 1e-3 --warmup-steps 300 --threads 1
  $keystep train controller --dataset "$data" --output "$controller" --preset small --condition goal \
    --steps 10000 --learning-rate 1.5e-3 --warmup-steps 300 --goal-noise 0.03 --threads 1
  $keystep export "$controller" "$bundle" --planner "$planner" --planner-guidance 0.5 --overwrite
  ;;
rgb)
  collect --obs-mode rgb --image-size 64 --episodes 100 --seed 3000000 --expert-noise 0.0 0.2 --wander-frames 8
  $keystep train planner --dataset "$data" --output "$planner" --preset small-rgb --latest-start 32 \
    --subgoal observation.images.static --batch-size 8 --steps 2000 --learning-rate 5e-4 --warmup-steps 200 --threads 1
  $keystep train controller --dataset "$data" --output "$controller" --preset small-rgb --condition goal \
    --observe images --batch-size 64 --steps 6000 --learning-rate 6e-4 --warmup-steps 200 --threads 1
  $keystep export "$controller" "$bundle" --planner "$planner" --planner-guidance 0.5 --resize --overwrite
  ;;
paper)
  # D0 of the paper: 100 demonstrations a task, plans from the first frame, the text of CLIP ViT-B/32 (CLIP may name
  # a local folder).
  train() {
    .venv/bin/accelerate launch --num_processes "${GPUS:-1}" $keystep train "$@" --mixed-precision bf16
  }
  collect --obs-mode rgb --image-size 96 --episodes 100 --seed 4000000
  train planner --dataset "$data" --output "$planner" --preset paper --text-encoder "${CLIP:-clip}" \
    --subgoal observation.images.static --batch-size 64 --steps 200000 --schedule constant --betas 0.9 0.99 --ema-every 10
  train controller --dataset "$data" --output "$controller" --preset paper --condition goal \
    --observe images --batch-size 256 --steps 200000 --schedule constant
  $keystep export "$controller" "$bundle" --planner "$planner" --overwrite
  ;;
*)
  echo "train.sh: expected state, rgb or paper, got $policy" >&2
  exit 2
  ;;
esac
$keystep verify "$bundle" --checkpoint "$controller" --planner "$planner"
$keystep eval "$bundle" --episodes 100 --processes 2 --json "outputs/$policy.json"
