#!/usr/bin/env bash
# A planner that writes code, from nothing: demonstrations, programs with their scenes in words (two core-hours), sight (one),
# pictures (one and a half), figures.
# Needs a Vulkan driver. Run again to go on; the figures at the end begin anew.
#   scripts/tabletop-planner.sh [RUNS]    folder of all that is made
set -euo pipefail
cd "$(dirname "$0")/.."
keystep=${KEYSTEP:-.venv/bin/keystep}
runs=${1:-runs/tabletop-planner}
demonstrations=${DEMONSTRATIONS:-$runs/demonstrations}

# Seeds 4,000,000 and on; evaluations have those from 10,000,000, texts those from 2,000,000,000.
$keystep collect --suite tabletop --episodes "${EPISODES:-100}" --seed 4000000 --obs-mode state+rgb --image-size 128 \
  --output "$demonstrations"

# bf16 makes a step 1.4 times as fast here. Attention is half of the decoder's time in rows of 768 tokens.
training=(code-planner --dataset "$demonstrations" --preset tiny --device cpu --threads 1 --mixed-precision bf16 --log-every 50)

# Programs with their scenes in words: what is read in them is read in pictures.
learning=(--learning-rate 1.5e-3 --betas 0.9 0.98 --weight-decay 0.05 --warmup-steps 100 --checkpoint-every 100)
$keystep train "${training[@]}" --stage text --output "$runs/text" --programs 20000 --scenes 0.8 --questions 0.3 \
  --cell-weight 5 --steps 5000 --batch-size 12 --row-tokens 640 "${learning[@]}"
$keystep train "${training[@]}" --stage sight --output "$runs/sight" --weights "$runs/text" --scene-pictures 18600 \
  --steps-per-row 8 --steps 3000 --batch-size 5 --learning-rate 2e-3 --betas 0.9 0.98 --warmup-steps 200 --checkpoint-every 250
# To read what is found is learned from questions, above all from telling all there is.
$keystep train "${training[@]}" --stage pictures --output "$runs/pictures" --weights "$runs/sight" \
  --steps-per-row 8 --row-tokens 640 --keystep-weight 12 --questions 0.4 --cell-weight 5 --texts 1.0 --scenes 0.8 \
  --steps 2000 --batch-size 8 "${learning[@]}"

$keystep replies "$runs/pictures" --dataset "$demonstrations" --output "$runs/replies.json"
$keystep eval "$runs/pictures" --suite tabletop --act oracle --blind --episodes 64 --processes "${PROCESSES:-1}" \
  --json "$runs/oracle.json" --markdown "$runs/oracle.md"
