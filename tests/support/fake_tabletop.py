"""A tabletop suite without a simulator, importable by spawned processes: environments and an oracle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest

from keystep.code.samples import TextEpisode
from keystep.data import DatasetReader
from keystep.record.collect import collect
from keystep.suites import headless
from keystep.suites.base import Rollout
from keystep.suites.tabletop import TASKS, layout
from keystep.suites.tabletop import source as tabletop

ENV_ID = "fake_tabletop:keystep-test/Tabletop-<Task>-v0"
OBJECTS = ["red cube", "blue hexagon", "red cube"]
LENGTH = 9
OBSERVED = layout.MAX_BODIES * len(layout.OBJECT_NAMES)


def texts(suite: Any, tasks: Any, grid: int) -> Iterator[TextEpisode]:
    """Programs about the objects here, without end, in `keystep.train.program_texts.texts`' place."""
    names, rng = tuple(sorted(set(OBJECTS))), np.random.default_rng(0)
    codes = ("pick(get_actor('red cube'))", "done()")
    for seed in count():
        boxes = np.sort(rng.random((len(codes), len(names), 2, 2)), axis=2).reshape(len(codes), -1, 4)
        yield TextEpisode("Pick", seed, "Pick up the red cube", codes, names, boxes.astype(np.float32))


class FakeTabletop(gymnasium.Env):
    """Chaotic and deterministic: the last bit of an action changes what follows. Solved by a long episode.

    `opened` counts the environments that are open, per task.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    opened: dict[str, int] = {}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        obs_mode: str = "state",
        image_size: int = 16,
        render_mode: str | None = None,
        terminate_on_success: bool = True,
    ) -> None:
        self.task, self.obs_mode, self.image_size = task, obs_mode, image_size
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Box(layout.ACTION_LOW, layout.ACTION_HIGH)
        spaces: dict[str, gymnasium.Space] = {
            "observation.state": gymnasium.spaces.Box(0, 1, (len(layout.STATE_NAMES),), np.float32)
        }
        if obs_mode == "rgb":
            picture = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
            spaces |= {f"observation.images.{camera}": picture for camera in layout.CAMERAS}
        else:
            spaces["observation.objects"] = gymnasium.spaces.Box(0, 1, (OBSERVED,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(spaces)
        self.opened[task] = self.opened.get(task, 0) + 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.random(len(layout.STATE_NAMES), dtype=np.float32)
        self.steps = 0
        bodies = [SimpleNamespace(thing=SimpleNamespace(name=name)) for name in OBJECTS]
        self.scenario = SimpleNamespace(bodies=bodies, prompt=prompt(self.task, seed or 0))
        return self.observation(), self.info()

    def step(self, action: np.ndarray) -> Any:
        assert action.dtype == np.float32
        self.state = np.float32(3.9) * self.state * (1 - self.state)
        self.state = (self.state + np.float32(0.01) * np.resize(action, self.state.shape)) % np.float32(1)
        self.steps += 1
        return self.observation(), 0.0, False, False, self.info()

    def info(self) -> dict[str, Any]:
        return {"instruction": self.scenario.prompt, "success": self.steps >= LENGTH}

    def observation(self) -> dict[str, np.ndarray]:
        found = {"observation.state": self.state}
        if self.obs_mode == "rgb":
            found |= {f"observation.images.{camera}": self.render() for camera in layout.CAMERAS}
        else:
            found["observation.objects"] = np.resize(self.state, OBSERVED)
        return found

    def poses(self) -> np.ndarray:
        found = np.zeros((layout.MAX_BODIES, 7), np.float32)
        found[: len(OBJECTS)] = self.state[:7] * np.arange(1, len(OBJECTS) + 1, dtype=np.float32)[:, None]
        return found

    def boxes(self) -> np.ndarray:
        found = np.full((layout.MAX_BODIES, 4), -1, np.float32)
        found[0] = np.sort(self.state[:4])
        return found

    def render(self) -> np.ndarray:
        return np.full((self.image_size, self.image_size, 3), 20 * self.steps, np.uint8)

    def close(self) -> None:
        self.opened[self.task] -= 1


def prompt(task: str, seed: int) -> str:
    return f"{task}: please do number {seed % 5}."


for _task in TASKS:
    gymnasium.register(f"keystep-test/Tabletop-{_task}-v0", FakeTabletop, kwargs={"task": _task})


@dataclass(frozen=True)
class Demonstration:
    """As keystep.suites.tabletop.oracle.demonstrations has it."""

    frames: dict[str, Any]
    prompt: str
    names: list[str]


def demonstrate(env: gymnasium.Env, task: str, seed: int, grid: int = 32) -> Demonstration | None:
    """Fails on seeds divisible by 3."""
    if seed % 3 == 0:
        return None
    scene: Any = env.unwrapped
    assert scene.task == task
    observation, _ = env.reset(seed=seed)
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for step in range(LENGTH + seed % 4):
        call = step // 3
        code = f"pose_dict['T{call}'] = get_pose(get_actor('red cube'))\nmove3d(pose_dict['T{call}'])"
        starts = step % 3 == 0
        action = rng.uniform(-1, 1, 7).astype(np.float32)
        rows.append(
            {
                **observation,
                "action": action,
                "objects.poses": scene.poses().reshape(-1),
                "objects.boxes": scene.boxes().reshape(-1),
                "code": code if starts else "\n".join(f"# {line}" for line in code.splitlines()),
                "keystep": starts,
            }
        )
        observation, *_ = env.step(action)
    frames: dict[str, Any] = {key: np.stack([row[key] for row in rows]) for key in rows[0] if key != "code"}
    frames["code"] = [row["code"] for row in rows]
    return Demonstration(frames, scene.scenario.prompt, OBJECTS)


def demonstrations_module() -> ModuleType:
    """To stand in for keystep.suites.tabletop.oracle.demonstrations."""
    module = ModuleType("keystep.suites.tabletop.oracle.demonstrations")
    module.demonstrate = demonstrate  # type: ignore[attr-defined]
    return module


def open_fake_oracle(obs_mode: str, image_size: int, grid: int = 32) -> Rollout:
    """`keystep.suites.tabletop.source.open_oracle` in a process of its own, with this module behind it."""
    tabletop.ENV_ID = ENV_ID
    sys.modules["keystep.suites.tabletop.oracle.demonstrations"] = demonstrations_module()
    return tabletop.open_oracle(obs_mode, image_size, grid)


def collector(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DatasetReader]:
    """Collects datasets of Pick and Swap, two episodes each, by observation mode and grid."""
    monkeypatch.setattr(tabletop, "ENV_ID", ENV_ID)
    name = "keystep.suites.tabletop.oracle.demonstrations"
    monkeypatch.setitem(sys.modules, name, demonstrations_module())
    monkeypatch.setattr(headless, "missing_driver", lambda: None)
    monkeypatch.setenv("KEYSTEP_CACHE", str(folder / "cache"))

    def make(obs_mode: Any, grid: int = 32) -> DatasetReader:
        options = {"tasks": ["Pick", "Swap"], "episodes": 2, "obs_mode": obs_mode, "image_size": 16}
        collect(folder / obs_mode, suite="tabletop", grid=grid, **options)
        return DatasetReader(folder / obs_mode)

    return make
