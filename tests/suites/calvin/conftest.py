"""A checkout of CALVIN, and a split of its data, as the fake has them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_calvin import MODULES, write_checkout, write_config, write_split

from keystep.suites.calvin.tasks import TASKS

SEGMENTS = [("open_drawer", 3, 9), ("turn_on_led", 6, 12), ("open_drawer", 20, 24)]


def forget_modules() -> None:
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    forget_modules()
    folder = write_checkout(tmp_path)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("CALVIN_ROOT", raising=False)
    yield folder
    forget_modules()


@pytest.fixture
def calvin(checkout: Path, tmp_path: Path) -> dict[str, Any]:
    """Options of an environment that can be made."""
    write_config(tmp_path / "validation")
    return {"dataset": str(tmp_path / "validation"), "renderer": "cpu"}


@pytest.fixture
def split(tmp_path: Path) -> Path:
    return write_split(tmp_path / "training", SEGMENTS)


@pytest.fixture(scope="session")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two segments of every task, three of the first."""
    tasks = [*TASKS, *TASKS, next(iter(TASKS))]
    segments = [(task, 2 * i, 2 * i + 2) for i, task in enumerate(tasks)]
    return write_split(tmp_path_factory.mktemp("calvin") / "validation", segments)
