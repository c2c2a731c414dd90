"""Fixtures of all tests."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stub_bundle import stub_manifest, stub_observation, write_manifest, write_onnx_bundle, write_stub_bundle

import keystep

# For the processes that tests start.
SUPPORT = str(Path(__file__).parent / "support")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SUPPORT, os.environ.get("PYTHONPATH")]))

# Shells start background commands with Ctrl-C ignored, and children inherit that; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Torch's threads wait for each other by spinning: on a busy machine tiny networks then take minutes."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture
def observation() -> dict[str, Any]:
    """What the stub bundle's policy sees."""
    return stub_observation()


@pytest.fixture
def stub_bundle(tmp_path: Path) -> Path:
    return write_stub_bundle(tmp_path / "stub.keystep")


@pytest.fixture
def make_stub(tmp_path: Path) -> Callable[..., keystep.Runtime]:
    """Opens a stub policy; keyword arguments go to `keystep.load`, `manifest` changes the manifest."""

    def make(manifest: dict[str, Any] | None = None, **options: Any) -> keystep.Runtime:
        folder = tmp_path / f"stub{len(list(tmp_path.iterdir()))}.keystep"
        return keystep.load(write_stub_bundle(folder, **(manifest or {})), engine="stub", **options)

    return make


@pytest.fixture
def onnx_bundle(tmp_path: Path) -> Path:
    return write_onnx_bundle(tmp_path / "onnx.keystep")


@pytest.fixture
def edit_manifest() -> Callable[[Path, Callable[[dict[str, Any]], object]], None]:
    """Changes a bundle's manifest in place: `edit_manifest(folder, lambda manifest: ...)`."""

    def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        change(manifest)
        write_manifest(folder, manifest)

    return edit


@pytest.fixture
def goal_manifest() -> dict[str, Any]:
    """Changes that make the stub policy goal-conditioned, without a task."""
    manifest = stub_manifest()
    encode = manifest["graphs"]["encode"]
    seen = [tensor for tensor in encode["inputs"] if tensor["role"] != "task"]
    goals = [{key: rename(tensor[key]) for key in tensor} for tensor in seen]
    encode["inputs"] = seen + goals
    return {"goal": "observation", "tasks": [], "graphs": manifest["graphs"]}


def rename(value: Any) -> Any:
    return value.replace("observation.", "goal.", 1) if isinstance(value, str) else value


# ---- the tabletop suite; files whose tests need another environment have an `env` of their own


@pytest.fixture(scope="module")
def env() -> Iterator[Any]:
    """A tabletop environment that goes on after success."""
    pytest.importorskip("mani_skill", reason="needs the extra 'sim'")
    from keystep.suites.tabletop.environment import TabletopEnv

    made = TabletopEnv("Pick", terminate_on_success=False)
    yield made
    made.close()


@pytest.fixture
def fresh(env: Any) -> Any:
    """The environment with its own task and limit, whatever a test before did."""
    from keystep.suites.tabletop import TASKS

    env.task, env.max_episode_steps = TASKS["Pick"], TASKS["Pick"].max_steps
    env.reset(seed=0)
    return env


@pytest.fixture
def pair(env: Any) -> tuple[Any, Any, Any]:
    """An oracle, and the actors of a red and a blue cube."""
    from tabletop_scenes import BLUE, RED, stage

    oracle = stage(env, RED, BLUE)
    return oracle, oracle.get_actor("red cube"), oracle.get_actor("blue cube")
