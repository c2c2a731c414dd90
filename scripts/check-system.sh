#!/usr/bin/env bash
# What a fresh machine needs before anything can be built: a C++20 compiler and Python with headers and venv.
# Installs it on Debian and Ubuntu when run as root, otherwise says the one line to run.
set -euo pipefail
python="${1:-python3}"

missing=()
command -v c++ >/dev/null || missing+=(g++)
command -v "$python" >/dev/null || missing+=(python3)
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
"$python" -c 'import os, sysconfig; assert os.path.exists(sysconfig.get_paths()["include"] + "/Python.h")' 2>/dev/null ||
  missing+=(python3-dev)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -q && apt-get install -qy --no-install-recommends "${missing[@]}"
  else
    echo "missing: ${missing[*]}. On Debian and Ubuntu run: sudo apt-get install -y ${missing[*]}" >&2
    exit 1
  fi
fi
"$python" -c 'import sys; v = sys.version_info; sys.exit(f"Python: expected 3.11 or newer, got {v[0]}.{v[1]}") if v < (3, 11) else None'
