#!/usr/bin/env bash
# The wheels of dist/ as a user gets them: a fresh environment, binary packages alone, no compiler to be found.
#   scripts/check-wheels.sh               the wheel of this machine, and that of aarch64 under build/arm64-root
#   scripts/check-wheels.sh --simulate    also with the extra `sim`: the demo in simulation, gigabytes of packages
set -euo pipefail
cd "$(dirname "$0")/.."
case "$*" in
  "" | --simulate) ;;
  *) echo "check-wheels.sh: expected nothing or --simulate, got $*" >&2 && exit 2 ;;
esac
root=$PWD
version=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
constraints=$root/constraints.txt
unset KEYSTEP_ONNXRUNTIME KEYSTEP_ORT_EXTENSIONS PYTHONPATH # the packages find their libraries

# The newest wheel of .venv's Python for a machine; "" where there is none.
wheel_of() {
  find dist -name "keystep-*-cp${version/./}-*_$1.whl" -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2
}

# From here on in a shell of its own whose PATH has the fresh environment and nothing else.
fresh() {
  local wheel venv=$root/build/check-wheels
  wheel=$root/$(wheel_of "$(uname -m)")
  [ -f "$wheel" ] || { echo "check-wheels: expected a wheel of $(uname -m) in dist/, found none: make wheels" >&2; exit 1; }
  rm -rf "$venv"
  .venv/bin/python -m venv "$venv"
  cd "$venv"
  PATH=$venv/bin
  for compiler in cc c++ gcc g++ clang cmake ninja; do
    if command -v $compiler; then echo "check-wheels: expected no compiler, found this one" >&2 && exit 1; fi
  done
  pip=(python -m pip --disable-pip-version-check install --quiet -c "$constraints")
  "${pip[@]}" --only-binary=:all: "$wheel"
  echo "installed ${wheel##*/} and what it needs, without a compiler; keystep demo:"
  keystep demo
  if [ "${1:-}" = --simulate ]; then
    "${pip[@]}" --only-binary=:all: torch
    "${pip[@]}" "$wheel[sim]"
    echo "with the extra sim; keystep demo --episodes 1:"
    keystep demo --episodes 1
  fi
}

# The same below qemu, by Debian's arm64 Python; pip chooses binary packages for that machine.
emulated() {
  local wheel site=$root/build/check-wheels-aarch64 arm64=$root/build/arm64-root
  wheel=$(wheel_of aarch64)
  [ -n "$wheel" ] || { echo "aarch64: no wheel in dist/"; return; }
  [ -x "$arm64/usr/bin/qemu-aarch64" ] || { echo "aarch64: not run, no build/arm64-root: scripts/arm64-root.sh"; return; }
  [ -x "$arm64/usr/bin/python$version" ] || { echo "aarch64: not run, build/arm64-root has no Python $version"; return; }
  rm -rf "$site"
  .venv/bin/python -m pip --disable-pip-version-check install --quiet -c "$constraints" --target "$site" \
    --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
    --python-version "$version" --only-binary=:all: "$wheel"
  echo "${wheel##*/} under qemu; keystep demo:"
  cd "$site"
  PYTHONPATH=$site "$arm64/usr/bin/qemu-aarch64" -L "$arm64" "$arm64/usr/bin/python$version" -m keystep demo
}

(fresh "${1:-}")
(emulated)
