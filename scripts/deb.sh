#!/usr/bin/env bash
# A Debian package of the C++ library into dist/, and a program that is compiled against it as a user's would be.
#   scripts/deb.sh BUNDLE     the program runs this bundle
set -euo pipefail
cd "$(dirname "$0")/.."
bundle=$1
if ! command -v dpkg-deb >/dev/null; then
  echo "make deb: expected dpkg-deb (Debian, Ubuntu), found none; elsewhere cmake --install (docs/install.md)" >&2
  exit 1
fi
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
mkdir -p dist
rm -rf dist/libkeystep-dev_*.deb build/deb-root build/deb-consumer
cmake -S . -B build/deb -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr >build/deb.log
cmake --build build/deb -j "$jobs" >>build/deb.log
cpack --config build/deb/CPackConfig.cmake -B build/deb/packages >>build/deb.log
cp build/deb/packages/libkeystep-dev_*.deb dist/
package=$(echo dist/libkeystep-dev_*.deb)

dpkg-deb -x "$package" build/deb-root # nothing is installed here
prefix=$PWD/build/deb-root/usr
cmake -S tests/consumer -B build/deb-consumer -G Ninja -DCMAKE_PREFIX_PATH="$prefix" >>build/deb.log
cmake --build build/deb-consumer -j "$jobs" --target tick >>build/deb.log
grep -q "^keystep_DIR:PATH=$prefix/" build/deb-consumer/CMakeCache.txt
build/deb-consumer/tick "$bundle"
echo "$package: $(stat -c %s "$package") bytes, $(dpkg-deb -f "$package" Package Version Architecture | tr '\n' ' ')"
