"""The two simulators of Franka-3Blocks, as parameters of tests."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

V1, BULLET = "keystep/Franka3Blocks-v1", "keystep/Franka3Blocks-bullet"
_NEEDS = {V1: ("mani_skill", "sim"), BULLET: ("pybullet", "bullet")}


BLOCKED = """
import sys


class Blocked:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Blocked)
"""


def needs(env_id: str) -> pytest.MarkDecorator:
    """Skips where the simulator is not installed, and says which extra has it."""
    package, extra = _NEEDS[env_id]
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package}: needs the extra {extra!r}")


BOTH = [pytest.param(env_id, marks=needs(env_id), id=env_id.rpartition("-")[2]) for env_id in _NEEDS]


def run_python(
    code: str, *, without: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess:
    """`code` in a process of its own, in which the packages `without` cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED.format(without) + code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
