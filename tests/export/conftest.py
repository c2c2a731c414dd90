"""Small checkpoints of LeRobot, for tests to damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module", params=["act", "diffusion"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of each kind that is converted; not to be changed."""
    from lerobot_checkpoints import ACT, DIFFUSION, write
    from lerobot_refusals import VECTORS

    folder = tmp_path_factory.mktemp("both") / "checkpoint"
    write(folder, (ACT if request.param == "act" else DIFFUSION) | VECTORS)
    return folder


@pytest.fixture
def checkpoint(both: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(both, tmp_path / "checkpoint"))
