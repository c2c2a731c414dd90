"""What a further session costs: its buffers, not the weights, which both sessions use."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from unit_policy import TINY, unit_checkpoint

import keystep
from keystep.export.bundle import export_bundle

MB = 1 << 20

# Resident bytes that each session adds once it has acted, in a process that imports nothing else.
GROWTH = """
import json, mmap, sys
import numpy as np
import keystep

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * mmap.PAGESIZE

def act(session):
    session.reset(seed=1)
    return [session.act(observation).tolist() for _ in range(20)]

observation = {"observation.state": np.zeros(26, np.float32)}
before = resident()
first = keystep.load(sys.argv[1], threads=1, engine=sys.argv[2])
actions = act(first)
middle = resident()
second = first.session()
assert act(second) == actions
print(json.dumps([middle - before, resident() - middle]))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net of some 20 MB."""
    folder = tmp_path_factory.mktemp("policy")
    unit_checkpoint(folder / "run", replace(TINY, down_dims=(96, 192, 256)))
    return export_bundle(folder / "run", folder / "x.keystep")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_a_further_session_has_no_weights_of_its_own(engine: str, bundle: Path) -> None:
    weights = (bundle / keystep.read_manifest(bundle)["unet"]["file"]).stat().st_size
    assert 15 * MB < weights < 40 * MB
    command = [sys.executable, "-c", GROWTH, str(bundle), engine]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert first > weights  # they are resident, so that a copy of them would show
    assert second < min(first / 4, weights / 2)
