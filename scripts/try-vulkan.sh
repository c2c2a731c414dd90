#!/usr/bin/env bash
# Before a demo: install the Vulkan driver if this is root on Debian or Ubuntu and there is none yet. Never fails:
# without a driver everything runs in state mode.
if ! ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && "$(dirname "$0")/install-vulkan.sh" >build/vulkan.log 2>&1; then
    echo "installed a Vulkan driver"
  else
    echo "no Vulkan driver, so no video; to get one run: sudo scripts/install-vulkan.sh"
  fi
fi
