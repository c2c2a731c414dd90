"""Builds the C++ programs of this folder with the project's own CMake."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.machine import REPOSITORY

BUILD = REPOSITORY / "build" / "benchmarks"


def build(target: str) -> Path:
    """Path of the program `target`, built (or brought up to date) in build/benchmarks."""
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DKEYSTEP_BUILD_BENCHMARKS=ON"]
    _run(["cmake", "-S", str(REPOSITORY), "-B", str(BUILD), *options])
    _run(["cmake", "--build", str(BUILD), "--target", target, "--parallel", "2"])
    found = [path for path in BUILD.rglob(target) if path.is_file()]
    if len(found) != 1:
        raise FileNotFoundError(f"{target}: expected one program under {BUILD}, got {len(found)}")
    return found[0]


def run_json(program: Path, *arguments: object) -> dict[str, Any]:
    """Runs a program that prints one JSON line."""
    result: dict[str, Any] = json.loads(_run([str(program), *map(str, arguments)]))
    return result


def _run(command: list[str]) -> str:
    # build tools and header packages of this interpreter's environment come first
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout
