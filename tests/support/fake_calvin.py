"""A small world with calvin_env's interface, and files in CALVIN's layouts; nothing of CALVIN's own.

The fake's tool centre goes where it is told at once. With the gripper closed the slider follows it along x,
and the drawer along y; below z = 0.5 m it turns the LED on. Cameras see one colour, which tells the slider.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from keystep.suites.calvin.tasks import TASKS

ENVIRONMENT = """
import sys
import numpy as np
from calvin_env import FAULTS


class Robot:
    gripper_action = 1


class PlayTableSimEnv:
    def __init__(self, cameras):
        self.cameras, self.robot, self.closed = cameras, Robot(), False
        self.tcp, self.rest, self.scene = np.zeros(3), np.zeros(12), np.zeros(24)

    def reset(self, robot_obs=None, scene_obs=None):
        self.tcp, self.rest, self.scene = robot_obs[:3].copy(), robot_obs[3:].copy(), scene_obs.copy()
        return self.get_obs()

    def step(self, action):
        if len(action) == 7:
            moved, gripper = 0.02 * np.asarray(action[:3]), action[6]
        else:
            assert isinstance(action, tuple) and [len(part) for part in action] == [3, 3, 1]
            moved, gripper = np.asarray(action[0]) - self.tcp, action[2][0]
        assert gripper in (-1, 1), gripper
        self.robot.gripper_action = int(gripper)
        self.tcp = self.tcp + moved
        if gripper < 0:
            self.scene[0] = np.clip(self.scene[0] - moved[0], 0, 0.3)
            self.scene[1] = np.clip(self.scene[1] - moved[1], 0, 0.24)
        if self.tcp[2] < 0.5:
            self.scene[5] = 1
        return self.get_obs(), 0, False, self.get_info()

    def get_obs(self):
        state = np.concatenate([self.tcp, self.rest[:11], [self.robot.gripper_action]])
        colour = int(500 * self.scene[0])
        sizes = {"rgb_static": 200, "rgb_gripper": 84}
        pictures = {name: np.full((sizes[name],) * 2 + (3,), colour, np.uint8) for name in self.cameras}
        found = {"robot_obs": state, "scene_obs": self.scene.copy(), "rgb_obs": pictures, "depth_obs": {}}
        found.pop(FAULTS.get("without"), None)
        return found

    def get_info(self):
        doors = {"base__slide": self.scene[0], "base__drawer": self.scene[1]}
        scene = {
            "doors": {name: {"current_state": float(value)} for name, value in doors.items()},
            "lights": {
                name: {"logical_state": int(state)}
                for name, state in zip(("lightbulb", "led"), self.scene[4:6], strict=True)
            },
            "movable_objects": dict.fromkeys(("block_red", "block_blue", "block_pink")),
        }
        if "sorted" in FAULTS:
            scene["doors"] = dict(sorted(doors.items()))
        return {"robot_info": {"uid": 0}, "scene_info": scene}

    def close(self):
        pass


def get_env(dataset_path, obs_space=None, show_gui=True, **kwargs):
    assert not show_gui and obs_space["depth_obs"] == []
    if "exits" in FAULTS:
        sys.exit()
    if "raises" in FAULTS:
        raise RuntimeError("no such mesh")
    return PlayTableSimEnv(obs_space["rgb_obs"])
"""
ORACLE = """
class Tasks:
    def __init__(self, tasks):
        self.tasks = {name: (getattr(self, call[0]), call[1:]) for name, call in dict(tasks).items()}

    def get_task_info_for_set(self, start_info, end_info, task_filter):
        scenes = start_info["scene_info"], end_info["scene_info"]
        return {name for name in task_filter if self.tasks[name][0](*scenes, *self.tasks[name][1])}

    def door(self, start, end, name, least):
        moved = end["doors"][name]["current_state"] - start["doors"][name]["current_state"]
        return moved > least > 0 or moved < least < 0

    def light(self, start, end, name, before, after):
        states = [scene["lights"][name]["logical_state"] for scene in (start, end)]
        return states == [before, after]

    def never(self, start, end):
        return False
"""
ORACLE_TASKS = {
    **{task: ["never"] for task in TASKS},
    "move_slider_left": ["door", "base__slide", 0.15],
    "move_slider_right": ["door", "base__slide", -0.15],
    "open_drawer": ["door", "base__drawer", 0.12],
    "turn_on_led": ["light", "led", 0, 1],
}
MODULES = ("calvin_env", "calvin_env.envs", "calvin_env.envs.play_table_env", "calvin_env.envs.tasks")


def write_checkout(root: Path) -> Path:
    """A checkout of CALVIN as the fake has it; returns the folder to import calvin_env from."""
    checkout = root / "calvin/calvin_env"
    files = {
        "calvin_env/__init__.py": "FAULTS = {}\n",
        "calvin_env/envs/__init__.py": "",
        "calvin_env/envs/play_table_env.py": ENVIRONMENT,
        "calvin_env/envs/tasks.py": ORACLE,
        "data/README": "assets",
        "conf/tasks/new_playtable_tasks.yaml": json.dumps({"tasks": ORACLE_TASKS}),  # JSON is YAML
        "../calvin_models/conf/annotations/new_playtable.yaml": json.dumps(
            {task: [f"training {i} of {task}" for i in range(3)] for task in TASKS}
        ),
        "../calvin_models/conf/annotations/new_playtable_validation.yaml": json.dumps(
            {task: [f"unseen of {task}"] for task in TASKS}
        ),
    }
    for name, text in files.items():
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return checkout


def write_config(split: Path, egl: bool = False) -> None:
    (split / ".hydra").mkdir(parents=True, exist_ok=True)
    (split / ".hydra/merged_config.yaml").write_text(
        json.dumps({"data_path": "data", "env": {"use_egl": egl}, "cameras": {}})
    )


def frame(number: int) -> dict[str, np.ndarray]:
    """A frame that can be told from every other."""
    rng = np.random.default_rng(number)
    robot, scene = rng.uniform(-1, 1, 15), rng.uniform(0, 0.1, 24)
    robot[14], scene[4:6] = 1, 0
    action = rng.uniform(-1, 1, 7)
    action[6] = 1 if number % 2 else -1
    return {
        "robot_obs": robot,
        "scene_obs": scene,
        "rel_actions": action,
        "actions": action / 2,
        "rgb_static": np.full((200, 200, 3), number % 251, np.uint8),
        "rgb_gripper": np.full((84, 84, 3), number % 241, np.uint8),
        "depth_static": np.zeros((2, 2), np.float32),
    }


def write_split(split: Path, segments: list[tuple[str, int, int]], egl: bool = False) -> Path:
    """Frames and annotations: (task, start, stop) of each segment."""
    write_config(split, egl)
    for number in sorted({number for _, start, stop in segments for number in range(start, stop)}):
        np.savez(split / f"episode_{number:07d}.npz", **frame(number))  # type: ignore[arg-type]
    write_annotations(split, segments)
    return split


def annotations(segments: list[tuple[str, int, int]]) -> dict[str, Any]:
    return {
        "language": {
            "ann": [f"words {i} for {task}" for i, (task, _, _) in enumerate(segments)],
            "task": [task for task, _, _ in segments],
            "emb": np.ones((len(segments), 1, 4), np.float32),
        },
        "info": {"episodes": [], "indx": [(start, np.int64(stop)) for _, start, stop in segments]},
    }


def write_annotations(split: Path, segments: list[tuple[str, int, int]]) -> None:
    folder = split / "lang_annotations"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "auto_lang_ann.npy", annotations(segments))  # type: ignore[arg-type]
