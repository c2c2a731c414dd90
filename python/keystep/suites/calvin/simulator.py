"""The calls of `calvin_env` that the environment makes, and what may go wrong with them."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from keystep.suites.calvin import layout
from keystep.suites.calvin.sources import Calvin, missing, read_yaml
from keystep.suites.calvin.tasks import TASKS

Info = Mapping[str, Any]


class CalvinSimulator:
    """calvin_env's PlayTableSimEnv and its oracle of tasks.

    Args:
        images: whether cameras are drawn: rgb_static and rgb_gripper, never the tactile one.

    Raises:
        ArgumentError: calvin_env cannot be imported or made; what is missing is named.
    """

    def __init__(self, calvin: Calvin, images: bool) -> None:
        play, oracle = (_module(f"calvin_env.envs.{name}") for name in ("play_table_env", "tasks"))
        # Without images the smallest camera stays: the EGL plugin is loaded with the cameras' sizes.
        cameras = [f"rgb_{name}" for name in (layout.CAMERAS if images else ("gripper",))]
        space = {"rgb_obs": cameras, "depth_obs": []}
        try:
            self._env = play.get_env(str(calvin.dataset), obs_space=space, show_gui=False)
        except SystemExit:  # which it leaves with when the plugin does not load
            raise missing("EGL", "a graphics driver that PyBullet's EGL plugin loads with", "none") from None
        except Exception as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise missing("calvin_env", f"an environment of {calvin.dataset}", what) from error
        tasks = read_yaml(calvin.oracle).get("tasks")
        if not isinstance(tasks, dict) or set(tasks) != set(TASKS):
            raise missing(f"{calvin.oracle}: tasks", f"CALVIN's {len(TASKS)}", _told(tasks))
        self._oracle = oracle.Tasks(tasks)
        _check_scene(self.info())
        self._images = images
        self._relative = calvin.actions == "relative"
        self._gripper = 1.0

    def reset(self, robot_obs: np.ndarray, scene_obs: np.ndarray) -> dict[str, np.ndarray]:
        """The observation there.

        calvin_env's own reset leaves the last episode's gripper command in robot_obs; here it becomes that of
        `robot_obs`, so that an episode does not depend on the one before.
        """
        self._gripper = 1.0 if robot_obs[layout.GRIPPER_COMMAND] > 0 else -1.0
        robot: Any = getattr(self._env, "robot", None)
        if hasattr(robot, "gripper_action"):
            robot.gripper_action = int(self._gripper)
        return self._seen(self._env.reset(robot_obs=np.array(robot_obs), scene_obs=np.array(scene_obs)))

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], Info]:
        """One control period. A gripper command of exactly 0 keeps the last one, else its sign counts."""
        if action[6] != 0:
            self._gripper = 1.0 if action[6] > 0 else -1.0
        command: Any = np.append(action[:6], self._gripper)
        if not self._relative:
            command = (command[:3], command[3:6], command[6:])
        observation, _, _, info = self._env.step(command)
        return self._seen(observation), info

    def observe(self) -> tuple[dict[str, np.ndarray], Info]:
        """As it stands."""
        return self._seen(self._env.get_obs()), self.info()

    def info(self) -> Info:
        """What the oracle compares."""
        return self._env.get_info()

    def is_solved(self, task: str, start: Info, now: Info) -> bool:
        """calvin_env's own answer."""
        return task in self._oracle.get_task_info_for_set(start, now, {task})

    def close(self) -> None:
        self._env.close()
        self._env.cid = -1  # it closes again when it is collected, by then perhaps another one's connection

    def _seen(self, observation: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """robot_obs and scene_obs as float64, and the cameras' pictures."""
        found = {
            "robot_obs": _checked(observation, "robot_obs", (len(layout.STATE_NAMES),), np.float64),
            "scene_obs": _checked(observation, "scene_obs", (len(layout.SCENE_NAMES),), np.float64),
        }
        if self._images:
            pictures = observation["rgb_obs"]
            for name, shape in layout.CAMERAS.items():
                found[name] = _checked(pictures, f"rgb_{name}", shape, np.uint8)
        return found


def _check_scene(info: Info) -> None:
    """scene_obs follows the order of the configuration: sorted keys would swap slider and drawer."""
    for group, names in layout.SCENE_ORDER.items():
        found = tuple(info["scene_info"][group])
        if found != names:
            wanted = f"{', '.join(names)} in this order of the configuration"
            raise missing(f"calvin_env: {group}", wanted, ", ".join(found) or "none")


def _checked(values: Mapping[str, Any], name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if name not in values:
        raise missing(f"calvin_env: {name}", "among its observations", ", ".join(values) or "none")
    array = np.asarray(values[name], dtype)
    if array.shape != shape:
        raise missing(f"calvin_env: {name}", f"shape {shape}", array.shape)
    return array


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise missing(name, "a module that can be imported", " ".join(str(error).split())) from error


def _told(tasks: object) -> str:
    if not isinstance(tasks, dict):
        return type(tasks).__name__
    odd = sorted(map(str, set(tasks) ^ set(TASKS)))
    return f"{len(tasks)} (differing in {', '.join(odd[:3])})"
