#!/usr/bin/env bash
# `pip install .` alone gives a usable runtime: a wheel in a fresh environment, with neither torch nor a simulator.
set -euo pipefail
bundle="$(realpath "$1")"
rm -rf build/wheel build/wheel-venv
.venv/bin/python -m pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-deps \
 --wheel-dir build/wheel .
.venv/bin/python scripts/wheel_contents.py build/wheel/*.whl
.venv/bin/python -m venv build/wheel-venv
build/wheel-venv/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt build/wheel/*.whl
cd build # away from the sources
wheel-venv/bin/keystep inspect "$bundle"
wheel-venv/bin/keystep verify "$bundle"
wheel-venv/bin/keystep profile "$bundle" --ticks 200
wheel-venv/bin/python -c 'import importlib.util as u; assert u.find_spec("torch") is None'
# Every command explains itself; the demo finds the bundle in the wheel, runs it, and says what installs the simulator.
for command in $(wheel-venv/bin/keystep --help | sed -n 's/^  \([a-z0-9]*\) .*/\1/p'); do
  wheel-venv/bin/keystep "$command" --help >/dev/null
done
wheel-venv/bin/python -c 'from keystep.commands.demo import shipped_bundle as s; assert "site-packages" in str(s())'
wheel-venv/bin/keystep demo | tee wheel-demo.txt
grep -F "pip install 'keystep[train,sim]'" wheel-demo.txt
