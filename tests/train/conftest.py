"""Of the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYSTEP_CACHE", str(tmp_path / "cache"))
