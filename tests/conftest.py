"""For all Python tests."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Torch's threads wait for each other by spinning: on a busy machine tiny networks then take minutes."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
