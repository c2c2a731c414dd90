#!/usr/bin/env bash
# LeRobot's own training of its own diffusion policy, on one core: examples/pusht/train.sh DEMONSTRATIONS OUTPUT [STEPS]
# Goes on from the last checkpoint where it was stopped, up to STEPS. THEIRS is the Python of LeRobot's environment.
set -euo pipefail
refuse() {
  echo "train.sh: $1" >&2
  exit 2
}
[ $# = 2 ] || [ $# = 3 ] || refuse "expected DEMONSTRATIONS OUTPUT [STEPS], got $# arguments"
data="$(realpath -m "$1")" output="$(realpath -m "$2")" steps="${3:-20000}"
[ -e "$data/meta/info.json" ] || refuse "expected a dataset, got $1 without meta/info.json"
here="$(cd "$(dirname "$0")" && pwd)"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" SDL_VIDEODRIVER=dummy
last="$output/checkpoints/last/pretrained_model/train_config.json"
if [ -e "$last" ]; then
  exec "${THEIRS:-python}" "$here/train.py" --config_path="$last" --resume=true --output_dir="$output" --steps="$steps"
fi
if [ -e "$output" ]; then # stopped before its first checkpoint was whole; LeRobot would refuse to begin in it
  others="$(find "$output" -mindepth 1 -maxdepth 1 ! -name checkpoints)"
  [ -d "$output" ] && [ -z "$others" ] || refuse "expected OUTPUT to be new or a training's, got $2 with other files"
  rm -rf "$output"
fi
# Everything is scaled by its least and greatest value; LeRobot leaves environment_state as it is unless it is told.
exec "${THEIRS:-python}" "$here/train.py" \
  --dataset.repo_id=keystep/pusht --dataset.root="$data" --output_dir="$output" \
  --policy.type=diffusion --policy.device=cpu --policy.push_to_hub=false \
  --policy.normalization_mapping='{"STATE": "MIN_MAX", "ENV": "MIN_MAX", "ACTION": "MIN_MAX"}' \
  --policy.n_obs_steps=2 --policy.horizon=16 --policy.n_action_steps=8 \
  --policy.down_dims="${WIDTHS:-[32, 64, 128]}" --policy.diffusion_step_embed_dim=64 \
  --policy.noise_scheduler_type=DDIM --policy.num_inference_steps=10 \
  --policy.optimizer_lr=1e-3 \
  --batch_size=64 --steps="$steps" --save_freq="${SAVE:-5000}" --eval_freq=0 --log_freq=100 --num_workers=0 --seed=0
