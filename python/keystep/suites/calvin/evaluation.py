"""CALVIN's two protocols, and the recorded trajectories as ground truth."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.suites.base import FixedStarts
from keystep.suites.calvin import layout
from keystep.suites.calvin.frames import CalvinFrames
from keystep.suites.calvin.images import resized
from keystep.suites.calvin.sequences import PUBLIC_SHA256, digest, read_chains
from keystep.suites.calvin.settings import Setting, read_settings, require_split
from keystep.suites.calvin.sources import find_calvin, missing, read_sentences

_FILES = tuple(inspect.signature(find_calvin).parameters)


def fixed_starts(protocol: str, env_kwargs: Mapping[str, Any]) -> FixedStarts:
    """See `keystep.suites.calvin.suite.CalvinSuite.fixed_starts`."""
    calvin = find_calvin(**{name: value for name, value in env_kwargs.items() if name in _FILES})
    told = read_sentences(calvin.unseen)
    origin: dict[str, Any] = dict(calvin.hashes())
    if protocol == "MTLC":
        if calvin.settings is None:
            how = "--env-kwargs settings=FILE, which keystep calvin settings makes"
            raise missing("env_kwargs", f"MTLC's fixed settings ({how})", "none")
        counts = {task: len(listed) for task, listed in read_settings(calvin.settings).items()}
        return FixedStarts("setting", counts, (), told, layout.MTLC_STEPS, origin)
    if calvin.sequences is None:
        how = "--env-kwargs sequences=FILE, which keystep calvin sequences makes"
        raise missing("env_kwargs", f"LH-MTLC's chains ({how})", "none")
    chains = read_chains(calvin.sequences)
    origin |= {"chains": digest(chains), "chains_are_the_public_ones": digest(chains) == PUBLIC_SHA256}
    drawn = tuple(chain.tasks for chain in chains)
    return FixedStarts("chain", {}, drawn, told, layout.LH_STEPS, origin)


class RecordedSubgoals:
    """Frames of the validation segment that a setting is the start of (HD-ExpIt, section 6).

    Args:
        env: CALVIN, made with `settings` and the `dataset` that they are of.
        planner: the manifest's "planner".

    Raises:
        ArgumentError: without settings, or with those of another split.
    """

    def __init__(self, env: Any, planner: dict[str, Any]) -> None:
        self._env = env
        self._key = planner["subgoal"]
        self._ahead = planner["steps_per_subgoal"] * np.arange(1, planner["subgoals"] + 1)
        calvin = env.unwrapped.calvin
        if calvin.settings is None:
            raise missing("env_kwargs", "settings=FILE, whose segments are the ground truth", "none")
        self._settings = read_settings(calvin.settings)
        self._frames = CalvinFrames(Path(calvin.dataset), calvin.actions)
        require_split(calvin.settings, self._frames.annotations)
        self._name = {
            "observation.state": "robot_obs",
            "observation.scene": "scene_obs",
            **{f"observation.images.{name}": f"rgb_{name}" for name in layout.CAMERAS},
        }.get(self._key)
        if self._name is None:
            raise keystep.ArgumentError(
                f"ground_truth: expected a subgoal that CALVIN records, got {self._key}"
            )

    def subgoals(self, task: str, number: int) -> dict[str, np.ndarray] | None:
        """M subgoals as `Runtime.reset` wants them, of the setting of this number; None if there is none."""
        listed: list[Setting] = self._settings.get(task, [])
        if number not in range(len(listed)):
            return None
        setting = listed[number]
        # As planners are trained (keystep.data.plans): every n frames, then the last one again.
        passed = np.minimum(setting.start + self._ahead, setting.stop - 1)
        values = np.stack([self._seen(int(frame)) for frame in passed])
        return {self._key: np.ascontiguousarray(values if values.dtype == np.uint8 else np.float32(values))}

    def _seen(self, frame: int) -> np.ndarray:
        value = self._frames.read(frame)[str(self._name)]
        return resized(value, self._env.unwrapped.image_size) if value.dtype == np.uint8 else value

    def close(self) -> None:
        self._env.close()
