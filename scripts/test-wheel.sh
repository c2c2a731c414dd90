#!/usr/bin/env bash
# `pip install .` alone gives a usable runtime: a wheel in a fresh environment, with neither torch nor a simulator.
set -euo pipefail
bundle="$(realpath "$1")"
rm -rf build/wheel build/wheel-venv
.venv/bin/python -m pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-deps \
 --wheel-dir build/wheel .
.venv/bin/python -m venv build/wheel-venv
build/wheel-venv/bin/python -m pip --disable-pip-version-check install --quiet -c constraints.txt build/wheel/*.whl
cd build # away from the sources
wheel-venv/bin/keystep inspect "$bundle"
wheel-venv/bin/keystep verify "$bundle"
wheel-venv/bin/keystep profile "$bundle" --ticks 200
wheel-venv/bin/python -c 'import importlib.util as u; assert u.find_spec("torch") is None'
