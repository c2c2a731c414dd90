"""CALVIN as a Gymnasium environment, around the user's own `calvin_env`: numpy in and out, 30 Hz."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np

import keystep
from keystep.suites.actions import checked_action
from keystep.suites.calvin import layout, starts
from keystep.suites.calvin.images import resized
from keystep.suites.calvin.rules import RULES, start_scenes
from keystep.suites.calvin.sequences import SceneChain, read_chains
from keystep.suites.calvin.settings import Setting, checked_numbers, read_settings
from keystep.suites.calvin.simulator import CalvinSimulator
from keystep.suites.calvin.sources import find_calvin, missing, read_sentences, simulator_of, training_file
from keystep.suites.calvin.tasks import TASKS

OBS_MODES = ("state", "rgb", "state+rgb")
STATE_SHAPES: dict[str, tuple[int, ...]] = {
    "robot_obs": (len(layout.STATE_NAMES),),
    "scene_obs": (len(layout.SCENE_NAMES),),
    "start_robot_obs": (len(layout.STATE_NAMES),),
    "start_scene_obs": (len(layout.SCENE_NAMES),),
    "elapsed_steps": (),
    "success": (),
    "task": (),
}


class CalvinEnv(gymnasium.Env):
    """A Franka arm at a table with drawer, slider, two lights and three blocks; 34 tasks, 30 Hz control.

    Observations: `observation.state` float32 (15,) is robot_obs, `observation.scene` float32 (24,) scene_obs
    (see `layout`); with images `observation.images.static` uint8 (200, 200, 3) and
    `observation.images.gripper` uint8 (84, 84, 3).

    The action is float32 (7,), clipped to its bounds. Relative: the target pose moves by 0.02 m and 0.05 rad
    (Euler angles x, y, z of the world) for 1; absolute: the target pose itself, metres and radians. The last
    one is the gripper's: above 0 opens, below closes, and exactly 0 keeps the last command.

    Args:
        dataset: a split of CALVIN's data, which has calvin_env's configuration in .hydra/merged_config.yaml.
        obs_mode: "state", or with images "rgb" or "state+rgb".
        image_size: side of both cameras' pictures, which are resized; as CALVIN has them when None.
        actions: "relative" or "absolute".
        renderer: "egl" or "cpu", whichever the configuration has; scores of the two do not compare.
        settings: file of MTLC's fixed settings (`keystep calvin settings`).
        sequences: file of LH-MTLC's chains (`keystep calvin sequences`).
        oracle, unseen_sentences, training_sentences: other files than those of CALVIN's checkout.
        sentences: which kind `info["instruction"]` has: the one unseen in training, or a training one that
            the seed of the reset chooses.
        expected: hashes by name (`sources.Calvin.hashes`) that are required, so that scores compare.
        task: name; `reset(options={"task": name})` changes it.
        max_episode_steps: `truncated` is True from this many steps on.
        terminate_on_success: False lets an episode go on after the first success.

    Raises:
        ArgumentError: a piece of CALVIN is missing, or is not what is expected; which one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": layout.CONTROL_RATE_HZ}  # noqa: RUF012
    feature_names: ClassVar[dict[str, tuple[str, ...]]] = {
        "observation.state": layout.STATE_NAMES,
        "observation.scene": layout.SCENE_NAMES,
    }

    def __init__(
        self,
        dataset: str | Path | None = None,
        obs_mode: str = "rgb",
        image_size: int | None = None,
        actions: str = "relative",
        renderer: str = "egl",
        settings: str | Path | None = None,
        sequences: str | Path | None = None,
        oracle: str | Path | None = None,
        unseen_sentences: str | Path | None = None,
        training_sentences: str | Path | None = None,
        sentences: str = "unseen",
        expected: Mapping[str, str] | None = None,
        task: str = "rotate_red_block_right",
        max_episode_steps: int = layout.LH_STEPS,
        terminate_on_success: bool = True,
        render_mode: str | None = None,
    ) -> None:
        choices = {"obs_mode": (obs_mode, OBS_MODES), "sentences": (sentences, ("unseen", "training"))}
        for name, (value, known) in choices.items():
            if value not in known:
                raise missing(name, " or ".join(known), repr(value))
        sizes = range(1, layout.MAX_IMAGE_SIZE + 1)
        if image_size is not None and (type(image_size) is not int or image_size not in sizes):
            raise missing("image_size", f"1 to {layout.MAX_IMAGE_SIZE} pixels", repr(image_size))
        self.image_size = image_size
        self.calvin = find_calvin(
            dataset, renderer, actions, oracle, unseen_sentences, settings, sequences, expected
        )
        self.simulator = simulator_of(self.calvin.dataset)
        hashes = self.calvin.hashes()
        self.source = f"calvin_env {hashes['calvin_env'][:12]}, assets {hashes['assets'][:12]}"
        told = self.calvin.unseen if sentences == "unseen" else training_file(training_sentences)
        self._sentences = read_sentences(told)
        self._settings: dict[str, list[Setting]] = read_settings(Path(settings)) if settings else {}
        self._chains: list[SceneChain] = read_chains(Path(sequences)) if sequences else []
        self.task = task_named(task)
        self.terminate_on_success = terminate_on_success
        self.render_mode = render_mode
        self._max_episode_steps = max_episode_steps
        self._images = "rgb" in obs_mode
        self._high = layout.ACTION_HIGH[actions]
        self.action_space = gymnasium.spaces.Box(-self._high, self._high, dtype=np.float32)
        self.observation_space = gymnasium.spaces.Dict(_spaces(self._images, image_size))
        self.simulation = CalvinSimulator(self.calvin, self._images)
        self._instruction = self._sentences[task][0]

    # ---- episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: draws a start of LH-MTLC's that the task makes sense in, if there is one; and a training
                sentence.
            options: `task`: name. And at most one of: `setting` or `chain`, the number of a fixed start; or
                `robot_obs` and `scene_obs`, any start.

        Raises:
            ArgumentError: options that there are not.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        task = task_named(options.pop("task", self.task))
        robot_obs, scene_obs = self._start_of(task, options)
        self._seen = self.simulation.reset(robot_obs, scene_obs)
        self._begin(task)
        return self.observation(), self.info()

    def set_task(self, task: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Another task from the scene as it stands; returns what `reset` returns. The steps count from 0."""
        self._require_reset()
        self._begin(task_named(task))
        return self.observation(), self.info()

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control period (1/30 s). The reward is 1.0 when the oracle says that the task is solved."""
        self._require_reset()
        bounded = checked_action(action, -self._high, self._high)
        self._seen, now = self.simulation.step(bounded)
        self.elapsed_steps += 1
        self.success = self.simulation.is_solved(self.task, self._start_info, now)
        terminated = self.success and self.terminate_on_success
        truncated = self.elapsed_steps >= self.max_episode_steps
        return self.observation(), float(self.success), terminated, truncated, self.info()

    @property
    def max_episode_steps(self) -> int:
        """The limit given to `gymnasium.make`, which keeps it to itself, else the constructor's."""
        made_with = self.spec.max_episode_steps if self.spec is not None else None
        return made_with or self._max_episode_steps

    def get_state(self) -> dict[str, np.ndarray]:
        """The episode as it stands, see STATE_SHAPES ("task" is its number), as CALVIN's files keep it."""
        self._require_reset()
        now = {name: self._seen[name].copy() for name in ("robot_obs", "scene_obs")}
        return now | {
            "start_robot_obs": self._start["robot_obs"].copy(),
            "start_scene_obs": self._start["scene_obs"].copy(),
            "elapsed_steps": np.array(self.elapsed_steps),
            "success": np.array(self.success),
            "task": np.array(TASKS[self.task]),
        }

    def set_state(self, state: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Continue from a `get_state`, here or in another process; returns what `reset` returns.

        Two continuations of one state are equal; they are not those of the episode that went on, as neither
        velocities nor contact forces are part of CALVIN's states. What success is measured against is seen
        from the restored start.
        """
        found = {name: _entry(state, name, shape) for name, shape in STATE_SHAPES.items()}
        number = int(found["task"])
        if number not in TASKS.values():
            raise missing("state['task']", f"a number below {len(TASKS)}", number)
        self._seen = self.simulation.reset(found["start_robot_obs"], found["start_scene_obs"])
        self._begin(list(TASKS)[number])
        self._seen = self.simulation.reset(found["robot_obs"], found["scene_obs"])
        self.elapsed_steps, self.success = int(found["elapsed_steps"]), bool(found["success"])
        return self.observation(), self.info()

    def _require_reset(self) -> None:
        if not hasattr(self, "_seen"):
            raise gymnasium.error.ResetNeeded("env: expected a reset before anything else, got none")

    def _begin(self, task: str) -> None:
        self.task = task
        self._start, self._start_info = self._seen, self.simulation.info()
        self.elapsed_steps, self.success = 0, False
        told = self._sentences[task]
        self._instruction = told[int(self.np_random.integers(len(told)))]

    def _start_of(self, task: str, options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        given = {name: options.pop(name) for name in ("setting", "chain") if name in options}
        states = {name: options.pop(name) for name in ("robot_obs", "scene_obs") if name in options}
        if options or len(given) + bool(states) > 1 or len(states) == 1:
            wanted = "task, and one of: setting; chain; robot_obs and scene_obs"
            raise missing("options", wanted, sorted({*options, *given, *states}))
        if states:
            found = (checked_numbers(name, states[name], *STATE_SHAPES[name]) for name in sorted(states))
            robot_obs, scene_obs = found
            return robot_obs, scene_obs
        if "setting" in given:
            setting = _numbered("setting", given["setting"], self._settings.get(task, []))
            return setting.robot_obs, setting.scene_obs
        if "chain" in given:
            return starts.start_state(_numbered("chain", given["chain"], self._chains).scene)
        scenes = start_scenes()
        fitting = [scene for scene in scenes if any(rule.apply(scene) for rule in RULES[task])] or scenes
        return starts.start_state(fitting[int(self.np_random.integers(len(fitting)))])

    # ---- what can be seen

    def observation(self) -> dict[str, np.ndarray]:
        """Of the last step."""
        found = {
            "observation.state": self._seen["robot_obs"].astype(np.float32),
            "observation.scene": self._seen["scene_obs"].astype(np.float32),
        }
        if self._images:
            for name in layout.CAMERAS:
                found[f"observation.images.{name}"] = resized(self._seen[name], self.image_size)
        return found

    def info(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "instruction": self._instruction,
            "success": self.success,
            "elapsed_steps": self.elapsed_steps,
        }

    def render(self) -> np.ndarray:
        """uint8 (200, 200, 3): the static camera."""
        if not self._images:
            raise missing("obs_mode", "one with images, to render", "state")
        return self._seen["static"]

    def close(self) -> None:
        self.simulation.close()


def task_named(name: Any) -> str:
    """`name`, if it is a task of CALVIN. Raises ArgumentError."""
    if not isinstance(name, str) or name not in TASKS:
        raise missing("task", f"one of {', '.join(TASKS)}", repr(name))
    return name


def _spaces(images: bool, image_size: int | None) -> dict[str, gymnasium.Space]:
    box = gymnasium.spaces.Box
    spaces: dict[str, gymnasium.Space] = {
        "observation.state": box(-np.inf, np.inf, (len(layout.STATE_NAMES),), np.float32),
        "observation.scene": box(-np.inf, np.inf, (len(layout.SCENE_NAMES),), np.float32),
    }
    for name in layout.CAMERAS if images else ():
        shape = layout.image_shape(name, image_size)
        spaces[f"observation.images.{name}"] = box(0, 255, shape, np.uint8)
    return spaces


def _numbered(name: str, number: Any, listed: list[Any]) -> Any:
    if not listed:
        plural = {"setting": "settings", "chain": "sequences"}[name]
        raise missing(f"options.{name}", f"none without {plural}=FILE of the constructor", number)
    if type(number) is not int or number not in range(len(listed)):
        raise missing(f"options.{name}", f"a number below {len(listed)}", repr(number))
    return listed[number]


def _entry(state: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name not in state:
        raise missing("state", f"keys {', '.join(STATE_SHAPES)}", ", ".join(state))
    try:
        value = np.asarray(state[name], np.float64)
    except (TypeError, ValueError):  # ragged, or no numbers
        wanted = f"finite numbers of shape {shape}"
        raise missing(f"state[{name!r}]", wanted, f"{state[name]!r:.60}") from None
    if value.shape != shape or not np.isfinite(value).all():
        raise keystep.ArgumentError(f"state[{name!r}]: expected finite numbers of shape {shape}, got {value}")
    return value
