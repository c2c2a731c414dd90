"""Runs of expert iteration in the world of a point, seconds long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
pytest.importorskip("onnx", reason="needs the extra 'export'")

import fake_rollouts
from expit_runs import FILE

from keystep.expit import ExpitConfig, expit, read_config


@contextmanager
def world(cache: Path) -> Iterator[None]:
    """With the fakes, which no other test must meet, and a cache of its own."""
    with pytest.MonkeyPatch.context() as patch, fake_rollouts.installed():
        patch.setenv("KEYSTEP_CACHE", str(cache))
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("expit-cache")


@pytest.fixture(autouse=True)
def fakes(cache: Path) -> Iterator[None]:
    with world(cache):
        yield


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., ExpitConfig]:
    """Writes the file and reads it; keyword arguments replace values of its first level."""

    def make(text: str = FILE, **changes: Any) -> ExpitConfig:
        path = tmp_path / "run.toml"
        path.write_text(text)
        return read_config(path, **changes)

    return make


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> dict[str, ExpitConfig]:
    """Two finished runs on one D0: ft, and standard from its iteration 0."""
    folder = tmp_path_factory.mktemp("runs")
    path = folder / "run.toml"
    path.write_text(FILE)
    first = {"output": str(folder / "ft-0")}
    settings: dict[str, dict[str, Any]] = {
        "ft-0": first,
        "standard-0": {"output": str(folder / "standard-0"), "mode": "standard", "start": first["output"]},
    }
    with world(cache):
        configs = {name: read_config(path, **changes) for name, changes in settings.items()}
        for config in configs.values():
            assert not expit(config).interrupted
    return configs


@pytest.fixture
def begun(runs: dict[str, ExpitConfig], tmp_path: Path) -> Path:
    """A folder in which a run may have `d0` and the finished iteration 0 of `ft-0`."""
    from shutil import copytree

    copytree(runs["ft-0"].dataset, tmp_path / "d0")
    copytree(runs["ft-0"].output / "iteration-0", tmp_path / "run" / "iteration-0")
    (tmp_path / "run" / "expit.json").write_bytes((runs["ft-0"].output / "expit.json").read_bytes())
    return tmp_path / "run"


@pytest.fixture(scope="session")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """D0 of the point world."""
    return fake_rollouts.demonstrations(tmp_path_factory.mktemp("demonstrations") / "d0")


@pytest.fixture
def d0(demonstrations: Path, tmp_path: Path) -> Path:
    """The same where the settings of a test look for it."""
    from shutil import copytree

    return Path(copytree(demonstrations, tmp_path / "d0"))
