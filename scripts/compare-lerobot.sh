#!/usr/bin/env bash
# Datasets of every style, read by LeRobot's own class and by keystep, compared value by value. Not part of `make test`:
# it makes a second environment (FOLDER, default build/lerobot), because LeRobot pins other versions than keystep.
# torchvision has no build for the pinned torch: what reading needs of it is stood in for by compare_lerobot.py.
set -euo pipefail
cd "$(dirname "$0")/.."
folder="$(realpath -m "${1:-build/lerobot}")"
theirs="$folder/venv/bin/python"
if [ ! -e "$folder/installed" ]; then
  mkdir -p "$folder"
  "${PYTHON:-python3.11}" -m venv "$folder/venv"
  pip=("$theirs" -m pip --disable-pip-version-check install --quiet)
  "${pip[@]}" torch==2.13.0 # first and pinned, so that no other package chooses one
  "${pip[@]}" --no-deps lerobot==0.4.4
  # What it needs to read and write, in its own ranges but for torch and torchvision.
  "${pip[@]}" 'numpy>=2,<2.3' 'datasets>=4,<5' 'huggingface_hub<0.36' 'pandas<3' polars pillow 'av>=15,<16' jsonlines \
    'packaging<26' einops draccus==0.10.0 'deepdiff<9' accelerate
  touch "$folder/installed"
fi
export HF_HUB_OFFLINE=1 HF_HOME="$folder/huggingface" PYTHONPATH=tests/support
rm -rf "$folder/datasets"
.venv/bin/python scripts/compare_lerobot.py write "$folder/datasets"
"$theirs" scripts/compare_lerobot.py read "$folder/datasets"
.venv/bin/python scripts/compare_lerobot.py compare "$folder/datasets"
