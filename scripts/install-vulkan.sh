#!/usr/bin/env bash
# A software Vulkan driver (Mesa's lavapipe) for rgb mode. State mode needs none.
# Debian 12's own Mesa 22.3 is too old for the renderer, so there the packages come from bookworm-backports, fetched
# from the same archive that apt already uses.
set -euo pipefail
packages=(mesa-vulkan-drivers libvulkan1)
release=()

if ! command -v apt-get >/dev/null; then
  echo "install-vulkan.sh: expected apt-get, found none; install a Vulkan driver with your package manager" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "install-vulkan.sh needs root, run: sudo bash $0" >&2
  exit 1
fi

. /etc/os-release
if [ "${ID:-}" = debian ] && [ "${VERSION_CODENAME:-}" = bookworm ]; then
  archive=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
    awk -v release="$VERSION_CODENAME" '$1 == release { print $2; exit }')
  if [ -z "$archive" ]; then
    echo "install-vulkan.sh: expected an apt source with the suite $VERSION_CODENAME, found none" >&2
    exit 1
  fi
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  option=""
  if [ -f "$keyring" ]; then option="[signed-by=$keyring] "; fi
  echo "deb ${option}${archive} $VERSION_CODENAME-backports main" >/etc/apt/sources.list.d/keystep-backports.list
  release=(-t "$VERSION_CODENAME-backports")
fi

apt-get update -q
apt-get install -qy --no-install-recommends "${release[@]}" "${packages[@]}"
