"""The tutorial does what it says: its files are written, its commands run, its outputs compared.

Of blocks of docs/tutorial.md: `sh` is run; what begins with a comment that is a path is written there; `text`
is what the commands before it print, in this order, but for numbers, for ends of lines, and for what lies
between; ".." says so.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxscript", reason="training packages are not installed")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE)
BUILT = ROOT / "build/release/cpp/libkeystep.a"
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
NAMED = re.compile(r"(?://|#) (\S+\.\w+)\n")


def shape(line: str) -> str:
    """What stays the same on every machine."""
    return " ".join(NUMBER.sub("0", line).split())


def run(commands: str, folder: Path) -> str:
    environment = os.environ | {
        "KEYSTEP": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    shell = ["bash", "-euo", "pipefail", "-c", commands]
    ended = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, f"{commands}{ended.stdout}{ended.stderr}"
    return ended.stdout


def check(said: str, printed: str) -> None:
    lines = iter([shape(line) for line in printed.splitlines()])
    for line in said.splitlines():
        found = line == ".." or any(each.startswith(shape(line)) for each in lines)
        assert found, f"{line!r} is not there, or elsewhere:\n{printed}"


def first_actions(printed: str) -> list[np.ndarray]:
    found = re.findall(r"(?m)^first action: (.*)$", printed)
    return [np.array([float(value) for value in line.split()]) for line in found]


def test_a_stranger_follows_it(tmp_path: Path) -> None:
    if not BUILT.exists():
        pytest.skip("the C++ library is not built: make cpp-test")
    printed, everything = "", ""
    for kind, text in BLOCKS:
        if kind == "sh":
            printed = run(text, tmp_path)
            everything += printed
        elif kind == "text":
            check(text, printed)
        else:
            name = NAMED.match(text)
            assert name, f"a block that is neither run nor written: {text}"
            (tmp_path / name[1]).parent.mkdir(exist_ok=True)
            (tmp_path / name[1]).write_text(text)
    ours, theirs = first_actions(everything)
    assert np.ptp(ours) > 1 and np.abs(ours - theirs).max() < 0.01, "C++ acts as Python does"


def test_the_page_has_blocks() -> None:
    assert [kind for kind, _ in BLOCKS].count("sh") >= 5
    assert {"python", "cpp", "cmake", "text"} <= {kind for kind, _ in BLOCKS}
