#!/usr/bin/env bash
# build/arm64-root: Debian's arm64 Python and the emulator that runs it on this machine, to try aarch64 wheels. Nothing
# is installed: the packages are fetched from the archive that apt already uses, with an apt state of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD/build/arm64-root
new=$root.new state=$PWD/build/arm64-apt
trap 'rm -rf "$new" "$state"' EXIT # an older root stays until there is a whole one

. /etc/os-release
archive=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
  awk -v release="${VERSION_CODENAME:-}" '$1 == release { print $2; exit }' || true)
if [ "${ID:-}" != debian ] || [ -z "$archive" ]; then
  echo "arm64-root.sh: expected Debian with an apt source of its release, got ${ID:-another system}" >&2
  exit 1
fi

rm -rf "$new" "$state"
mkdir -p "$new" "$state"/{lists,cache/archives/partial,dpkg,sources}
touch "$state/dpkg/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
# Debian 12's own qemu 7.2 does not run ONNX Runtime's aarch64 library; that of its backports does.
for suite in "$VERSION_CODENAME" "$VERSION_CODENAME-backports"; do
  echo "deb [signed-by=$keyring] $archive $suite main"
done >"$state/sources.list"
apt() {
  apt-get -qq -y -o APT::Architecture=arm64 -o APT::Architectures=arm64,amd64 -o Dir::State="$state" \
    -o Dir::State::status="$state/dpkg/status" -o Dir::Cache="$state/cache" -o Dir::Etc::sourcelist="$state/sources.list" \
    -o Dir::Etc::sourceparts=- -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
apt install --download-only --no-install-recommends python3.11 libstdc++6 libpython3.11-dev >"$state/log"
(cd "$state/cache/archives" && apt download "qemu-user:$(dpkg --print-architecture)/$VERSION_CODENAME-backports")
for package in "$state"/cache/archives/*.deb; do dpkg-deb -x "$package" "$new"; done
rm -rf "$root"
mv "$new" "$root"
echo "$root"
