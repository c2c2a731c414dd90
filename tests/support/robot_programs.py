"""The programs of examples/robot as processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import keystep
from keystep.libraries import find_onnxruntime

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/robot"
BUILT = [ROOT / "build/release/examples/robot/robot", ROOT / "build/consumer/robot/robot"]
TWINS = ["python", "cpp"]
PATIENT = ["--patience-s", "120"]  # machines may be busy
ROBOT = [*PATIENT, "--max-age-ms", "120000", "--wait-s", "300"]
STARTED: list[subprocess.Popen[str]] = []
"""That a test has started; a fixture ends them."""


def program(twin: str) -> list[str]:
    """How the twin is called."""
    if twin == "python":
        return [sys.executable, str(FOLDER / "robot.py")]
    for path in BUILT:
        if path.exists():
            return [str(path), "--onnxruntime", str(find_onnxruntime())]
    pytest.skip("the C++ twin is not built: make cpp-test")


def start(*command: object) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen([str(part) for part in command], stdout=pipe, stderr=pipe, text=True)
    STARTED.append(process)
    return process


def start_world(bundle: Path, name: str, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, FOLDER / "world.py", bundle, "--name", name, *options]
    return start(*command)


def ends(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it printed; what it has to say of an error if one is expected."""
    out, err = process.communicate(timeout=900)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    return out if code == 0 else out + err


def wait_until_ready(world: subprocess.Popen[str]) -> None:
    assert world.stdout is not None
    for line in world.stdout:
        if "ready" in line:
            return
    raise AssertionError(world.communicate())


def running(world: subprocess.Popen[str], name: str) -> keystep.SharedArrays:
    """The commands, once some were given."""
    wait_until_ready(world)
    commands = keystep.SharedArrays.open(f"{name}-command", wait_s=60)
    while world.poll() is None:
        record = commands.newest()
        if record is not None and record.arrays["number"][0] > 10:
            return commands
        time.sleep(0.01)
    raise AssertionError(world.communicate())


def write_world(stack: contextlib.ExitStack, name: str, width: int = 4) -> None:
    """A world that stands still, from here."""
    progress = [(key, "int64", (1,)) for key in ("step", "executed", "success")]
    parts = {
        "state": [*progress, ("observation.state", "float32", (width,))],
        "camera": [("observation.images.static", "uint8", (6, 8, 3))],
        "command": [("number", "int64", (1,)), ("action", "float32", (3,))],
    }
    for part, fields in parts.items():
        arrays = stack.enter_context(keystep.SharedArrays.create(f"{name}-{part}", fields))
        zeros = {key: np.zeros(extents, dtype) for key, dtype, extents in fields}
        if part != "command":  # the robot writes that
            arrays.write(zeros)
