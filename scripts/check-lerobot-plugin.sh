#!/usr/bin/env bash
# integrations/lerobot in LeRobot's own tools: lerobot-eval in gym-pusht beside LeRobot's own policy, lerobot-record
# with a pretended robot. Not part of `make test`: it makes an environment (FOLDER, default build/lerobot-plugin),
# because LeRobot pins other versions than keystep.
# Usage: scripts/check-lerobot-plugin.sh [FOLDER]
set -euo pipefail
root="$(realpath "$(dirname "$0")/..")"
folder="$(realpath -m "${1:-$root/build/lerobot-plugin}")"
cd "$root"
theirs="$folder/venv/bin"
export HF_HUB_OFFLINE=1 HF_HOME="$folder/huggingface" PYTHONPATH=tests/support OMP_NUM_THREADS=1 SDL_VIDEODRIVER=dummy
if [ ! -e "$folder/installed" ]; then
  mkdir -p "$folder"
  "${PYTHON:-python3.11}" -m venv "$folder/venv"
  pip=("$theirs/python" -m pip --disable-pip-version-check install --quiet)
  "${pip[@]}" torch==2.13.0 # first and pinned, so that no other package chooses one
  "${pip[@]}" --no-deps lerobot==0.4.4 torchvision==0.28.0 gym-pusht==0.1.8
  # What they need, in their own ranges but for torch and torchvision.
  "${pip[@]}" 'numpy>=2,<2.3' 'datasets>=4,<5' 'huggingface_hub<0.36' 'pandas<3' pillow 'av>=15,<16' jsonlines \
    'packaging<26' einops draccus==0.10.0 'deepdiff<9' accelerate 'diffusers>=0.27.2,<0.36' 'safetensors<1' \
    'gymnasium>=1.1,<2' 'imageio[ffmpeg]<3' pyserial termcolor 'rerun-sdk>=0.24,<0.27' 'setuptools<81' \
    'opencv-python-headless<4.13' 'pygame<2.7' 'pymunk>=6.6,<7' 'shapely<3' onnxruntime tyro rich pytest pytest-timeout
  # The wheel's compiled operators want CUDA's torch. LeRobot uses none of them, but importing asks for their names.
  site="$("$theirs/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  cp tests/support/torchvision_names.py "$site"
  echo "import torchvision_names" >"$site/torchvision_names.pth"
  touch "$folder/installed"
fi
left=(integrations/lerobot/build integrations/lerobot/src/lerobot_policy_keystep.egg-info) # by pip, which takes old files from it
rm -rf "$folder/wheels" "$folder/run" "${left[@]}"
.venv/bin/python -m pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-deps \
  --wheel-dir "$folder/wheels" .
"$theirs/python" -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation \
  --force-reinstall "$folder"/wheels/keystep-*.whl integrations/lerobot
rm -rf "${left[@]}"
"$theirs/python" -m pytest -q tests/lerobot_plugin tests/test_pusht.py

run="$folder/run" && mkdir -p "$run"
"$theirs/python" scripts/check_lerobot_plugin.py make "$run"
.venv/bin/keystep convert lerobot "$run/checkpoint" "$run/pusht.keystep" --rate-hz 10
"$theirs/python" scripts/check_lerobot_plugin.py compare "$run"

"$theirs/python" -m lerobot_policy_keystep "$run/pusht.keystep" "$run/pretrained"
evaluate() { # NAME OPTIONS..: what it printed last, and eval_info.json
  echo "lerobot-eval --env.type=pusht ${*:2}"
  "$theirs/lerobot-eval" --env.type=pusht --env.episode_length=40 --eval.n_episodes=4 --seed=7 \
    --policy.threads=1 --output_dir="$run/$1" "${@:2}" >"$run/$1.log" 2>&1 || { tail -5 "$run/$1.log" && exit 1; }
}
evaluate one --policy.type=keystep --policy.bundle="$run/pusht.keystep" --eval.batch_size=1
evaluate two --policy.type=keystep --policy.bundle="$run/pusht.keystep" --eval.batch_size=2
evaluate folder --policy.path="$run/pretrained" --eval.batch_size=2
"$theirs/python" scripts/check_lerobot_plugin.py same "$run" one two folder

"$theirs/python" scripts/check_lerobot_plugin.py record "$run"
