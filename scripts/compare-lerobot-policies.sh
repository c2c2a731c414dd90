#!/usr/bin/env bash
# Random ACT and diffusion policies written by LeRobot's own code, converted, and played: its `select_action` beside our
# runtime over whole episodes of random observations. Not part of `make test`: it needs the environment of
# compare-lerobot.sh (FOLDER, default build/lerobot) and diffusers in it. torchvision has no build for the pinned torch:
# what the policies import of it is stood in for by tests/support/plain_resnet.py and compare_lerobot_policies.py.
# Usage: scripts/compare-lerobot-policies.sh [FOLDER] [COUNT, default 28]
set -euo pipefail
cd "$(dirname "$0")/.."
folder="$(realpath -m "${1:-build/lerobot}")"
theirs="$folder/venv/bin/python"
if [ ! -e "$folder/installed" ]; then scripts/compare-lerobot.sh "$folder"; fi
if [ ! -e "$folder/installed-policies" ]; then
  "$theirs" -m pip --disable-pip-version-check install --quiet 'diffusers>=0.27.2,<0.36' 'safetensors<1' \
    'gymnasium>=1.1,<2' imageio pyserial termcolor # the last four are only imported
  touch "$folder/installed-policies"
fi
export HF_HUB_OFFLINE=1 HF_HOME="$folder/huggingface" PYTHONPATH=tests/support OMP_NUM_THREADS=1
rm -rf "$folder/policies" && mkdir -p "$folder/policies"
"$theirs" scripts/compare_lerobot_policies.py make "$folder/policies" "${2:-28}"
.venv/bin/python scripts/compare_lerobot_policies.py convert "$folder/policies"
"$theirs" scripts/compare_lerobot_policies.py act "$folder/policies"
.venv/bin/python scripts/compare_lerobot_policies.py compare "$folder/policies"
