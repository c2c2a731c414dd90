#!/usr/bin/env bash
# A Debian package of the C++ library into dist/, and a program that is compiled against it as a user's would be.
#   scripts/deb.sh BUNDLE     the program runs this bundle
set -euo pipefail
if [ $# != 1 ] || [ ! -e "$1/manifest.json" ]; then
  echo "deb.sh: expected a BUNDLE, got ${*:-nothing}" >&2
  exit 2
fi
bundle=$(realpath "$1")
cd "$(dirname "$0")/.."
. scripts/logged.sh
if ! command -v dpkg-deb >/dev/null; then
  echo "make deb: expected dpkg-deb (Debian, Ubuntu), found none; elsewhere cmake --install (docs/install.md)" >&2
  exit 1
fi
jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-2}
mkdir -p dist
rm -rf build/deb.log build/deb/packages build/deb-root build/deb-consumer # packages: of other versions, too
logged build/deb.log cmake -S . -B build/deb -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr
logged build/deb.log cmake --build build/deb -j "$jobs"
logged build/deb.log cpack --config build/deb/CPackConfig.cmake -B build/deb/packages
package=$(echo build/deb/packages/libkeystep-dev_*.deb)

dpkg-deb -x "$package" build/deb-root # nothing is installed here
prefix=$PWD/build/deb-root/usr
logged build/deb.log cmake -S tests/consumer -B build/deb-consumer -G Ninja -DCMAKE_PREFIX_PATH="$prefix"
logged build/deb.log cmake --build build/deb-consumer -j "$jobs" --target tick
grep -q "^keystep_DIR:PATH=$prefix/" build/deb-consumer/CMakeCache.txt
build/deb-consumer/tick "$bundle"
rm -f dist/libkeystep-dev_*.deb # an older one stays until there is a good one
mv "$package" dist/
package=dist/${package##*/}
echo "$package: $(stat -c %s "$package") bytes, $(dpkg-deb -f "$package" Package Version Architecture | tr '\n' ' ')"
