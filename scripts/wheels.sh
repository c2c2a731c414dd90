#!/usr/bin/env bash
# Wheels into dist/: manylinux x86-64 and, cross-built, aarch64, for the Python of .venv. Zig's Clang (PyPI package
# `ziglang`) links against an old glibc for both; auditwheel says by the symbols which tag is true.
#   scripts/wheels.sh [MACHINE ..]    x86_64, aarch64; both when not given
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/logged.sh
if [ $# = 0 ]; then set -- x86_64 aarch64; fi
for machine in "$@"; do
  case $machine in
    x86_64 | aarch64) ;;
    *) echo "wheels.sh: expected x86_64 or aarch64, got $machine" >&2 && exit 2 ;;
  esac
done
glibc=2.28 # no newer symbol can be linked; the wheels of ONNX Runtime ask for 2.27 or 2.28, too
python=.venv/bin/python
if ! $python -c 'import auditwheel, ziglang' 2>/dev/null; then
  echo "wheels.sh: expected ziglang and auditwheel in .venv, found none: make wheels installs them" >&2
  exit 1
fi
tag=$($python -c 'import sys; print("%d%d" % sys.version_info[:2])')
zig=$($python -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / "zig")')
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
mkdir -p dist

for machine in "$@"; do
  raw=build/wheels/$machine
  rm -rf "$raw" "$raw.log"
  mkdir -p "$raw"
  echo "$machine: building; its log is $raw.log"
  logged "$raw.log" env CMAKE_BUILD_PARALLEL_LEVEL="$jobs" _PYTHON_HOST_PLATFORM="linux-$machine" \
    SETUPTOOLS_EXT_SUFFIX=".cpython-$tag-$machine-linux-gnu.so" \
    $python -m pip --disable-pip-version-check wheel -v --no-build-isolation --no-deps --wheel-dir "$raw" \
    -C build-dir="build/zig-$machine" -C cmake.define.CMAKE_TOOLCHAIN_FILE="$PWD/cmake/zig.cmake" \
    -C cmake.define.KEYSTEP_ZIG="$zig" -C cmake.define.KEYSTEP_ZIG_TARGET="$machine-linux-gnu.$glibc" .
  # There are no libraries to copy in: ONNX Runtime is loaded from its own wheel, libc++ is inside.
  logged "$raw.log" $python -m auditwheel repair --plat auto --wheel-dir "$raw/named" "$raw"/*.whl
  $python scripts/wheel_contents.py "$raw"/named/*.whl
  rm -f dist/keystep-*-cp"$tag"-*_"$machine".whl # an older one stays until there is a good one
  mv "$raw"/named/*.whl dist/
done
