#!/usr/bin/env bash
# PushT end to end: demonstrations, LeRobot's training, the bundle, and both evaluations of the same episodes.
#   THEIRS=build/lerobot-plugin/venv/bin/python examples/pusht/run.sh FOLDER
# Each part is done once: run it again to go on. EPISODES, STEPS and EVALUATED make it smaller.
set -euo pipefail
refuse() {
  echo "run.sh: $1" >&2
  exit 2
}
[ $# = 1 ] || refuse "expected one FOLDER, got $# arguments"
for program in python keystep "${THEIRS:=}"; do # before hours of work that nobody can use
  command -v "$program" >/dev/null || refuse "expected python and keystep to be found, and THEIRS=LeRobot's python, got ${program:-none}"
done
here="$(cd "$(dirname "$0")" && pwd)" run="$(realpath -m "$1")"
demonstrations="${EPISODES:-800}" steps="${STEPS:-20000}" episodes="${EVALUATED:-100}" seed=10000000
export THEIRS HF_HUB_OFFLINE=1 HF_HOME="$run/huggingface" OMP_NUM_THREADS=1 SDL_VIDEODRIVER=dummy

settings="EPISODES=$demonstrations STEPS=$steps EVALUATED=$episodes WIDTHS=${WIDTHS:-}"
mkdir -p "$run"
[ -e "$run/settings" ] || echo "$settings" >"$run/settings"
begun="$(cat "$run/settings")" # what is done there is of these
[ "$settings" = "$begun" ] || refuse "expected $begun as $run was begun with, got $settings; take another folder"
done_once() { # NAME COMMAND..
  [ -e "$run/$1.done" ] || { "${@:2}" && touch "$run/$1.done"; }
}

done_once demonstrations python "$here/demonstrations.py" "$run/demonstrations" --episodes "$demonstrations"
done_once training "$here/train.sh" "$run/demonstrations" "$run/training" "$steps"
checkpoint="$run/training/checkpoints/last/pretrained_model" bundle="$run/pusht.keystep"
done_once bundle keystep convert lerobot "$checkpoint" "$bundle" --rate-hz 10 --overwrite
keystep verify "$bundle"
done_once ours keystep eval "$bundle" --env gym_pusht/PushT-v0 --env-kwargs obs_type=environment_state_agent_pos \
  --measure coverage --episodes "$episodes" --seed "$seed" --json "$run/keystep.json"
done_once theirs "$THEIRS" -m lerobot.scripts.lerobot_eval --policy.path="$checkpoint" --policy.device=cpu \
  --env.type=pusht --env.obs_type=environment_state_agent_pos --eval.n_episodes="$episodes" --eval.batch_size=1 \
  --seed="$seed" --output_dir="$run/lerobot"
python "$here/compare.py" "$run/keystep.json" "$run/lerobot/eval_info.json"
"$THEIRS" "$here/beside.py" "$checkpoint" "$bundle"
