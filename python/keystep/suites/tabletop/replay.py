"""Episodes of the tabletop suite, simulated again from their seeds and actions, and compared bit for bit.

Datasets hold what was seen before each action. So what follows the last one can be compared in one respect
only: whether it solves the task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data.layout import DatasetError
from keystep.data.reader import DatasetReader, EpisodeInfo
from keystep.suites.tabletop.source import (
    BOXES,
    CODE,
    KEYSTEP,
    NAMES,
    POSES,
    STATE,
    SUITE,
    package_versions,
)

ACTION = "action"
PROMPT, SUCCESS = "prompt", "success"
COMPARED = (STATE, POSES, BOXES)
COLUMNS = (*COMPARED, ACTION, CODE, KEYSTEP)


@dataclass(frozen=True)
class Recorded:
    """An episode of a dataset.

    Attributes:
        env_id: of its Gymnasium environment.
        fps: steps per second.
        warnings: what on this machine is not as it was when it was recorded; may or may not matter.
        columns: those of COLUMNS, each with T rows: what was seen before each action, the actions, the code.
        elements: names of those of the columns compared.
        names: of the bodies, in the order of the slots.
    """

    episode: EpisodeInfo
    env_id: str
    fps: int
    warnings: tuple[str, ...]
    columns: dict[str, np.ndarray]
    elements: dict[str, tuple[str, ...]]
    names: list[str]

    def __str__(self) -> str:
        episode = self.episode
        return f"episode {episode.index}: {episode.task}, seed {episode.seed}, {episode.length} steps"


@dataclass(frozen=True)
class Difference:
    """One number that came out otherwise.

    Attributes:
        frame: before the action of this number, from 0.
        column, element: which number.
        stored, found: its value in the dataset and now.
    """

    frame: int
    column: str
    element: str
    stored: float
    found: float

    def __str__(self) -> str:
        off = abs(self.found - self.stored)
        return (
            f"frame {self.frame}, {self.column}, {self.element}: "
            f"expected {self.stored!r}, got {self.found!r}, {off:.3g} off"
        )


class ReplayComparison:
    """What of an episode came out as recorded, frame by frame.

    Attributes:
        scene: which of the prompt and the bodies' names are others after the reset, a line each.
        first, largest: the first difference, and the largest so far; None when there was none.
        frames: compared.
        differing: how many of them differ.
        solved: whether the task was, after the last step; None before.
    """

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.scene: list[str] = []
        self.first: Difference | None = None
        self.largest: Difference | None = None
        self.frames = self.differing = 0
        self.solved: bool | None = None

    @property
    def exact(self) -> bool:
        """All came out as recorded, to the end: the scene, every frame, and whether the task was solved."""
        complete = self.frames == self.recorded.episode.length
        same = not self.scene and self.first is None
        return complete and same and self.solved == self.recorded.episode.success

    def watch(self, frames: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Passes the frames of `resimulate` on, comparing them on the way."""
        for frame in frames:
            if self.frames == 0:
                self._compare_scene(frame)
            if self.frames < self.recorded.episode.length:
                self._compare(frame)
            self.solved = frame[SUCCESS]
            yield frame

    def _compare_scene(self, frame: dict[str, Any]) -> None:
        expected = {PROMPT: self.recorded.episode.instruction, NAMES: self.recorded.names}
        for name, value in expected.items():
            if frame[name] != value:
                self.scene.append(f"{name}: expected {value!r}, got {frame[name]!r}")

    def _compare(self, frame: dict[str, Any]) -> None:
        found = [difference for column in COMPARED for difference in self._differences(column, frame)]
        for difference in found:
            self.first = self.first or difference
            if self.largest is None or _size(difference) > _size(self.largest):
                self.largest = difference
        self.frames += 1
        self.differing += bool(found)

    def _differences(self, column: str, frame: dict[str, Any]) -> Iterator[Difference]:
        stored = self.recorded.columns[column][self.frames]
        found = np.asarray(frame[column], np.float32).reshape(-1)
        if found.shape != stored.shape:
            raise DatasetError(f"{column}: expected {stored.size} numbers, the simulation has {found.size}")
        # As bits: -0.0 is not 0.0, and NaN is the same NaN.
        for index in np.flatnonzero(stored.view(np.uint32) != found.view(np.uint32)):
            name = self.recorded.elements[column][index]
            yield Difference(self.frames, column, name, float(stored[index]), float(found[index]))

    def __str__(self) -> str:
        numbers = f"exact in all {self.frames} frames"
        if self.first is not None:
            numbers = (
                f"first differs at {self.first}; {self.differing} of {self.frames} frames differ, "
                f"most at {self.largest}"
            )
        words = {True: "solved", False: "not solved", None: "not ended"}
        end, recorded = words[self.solved], words[self.recorded.episode.success]
        return "; ".join(
            [*self.scene, numbers, end if end == recorded else f"{SUCCESS}: expected {recorded}, got {end}"]
        )


def _size(difference: Difference) -> float:
    size = abs(difference.found - difference.stored)
    return float("inf") if np.isnan(size) else size


def load_recorded(path: str | Path, index: int, *, force: bool = False) -> Recorded:
    """Episode `index` of the dataset at `path`.

    Args:
        force: also of another version of the simulated world, in which it will hardly replay.

    Raises:
        DatasetError: no such episode, another suite, something that is compared is missing, or another
            version of the world.
    """
    reader = DatasetReader(path)
    _require_suite(reader)
    _require_columns(reader)
    from keystep.suites.tabletop import layout

    version = reader.collection.get("world_version")
    if version != layout.VERSION and not force:
        raise DatasetError(
            f"{path}: recorded by world version {version}, this is {layout.VERSION}; "
            "--force replays it nevertheless"
        )
    episode = reader.episode(index)
    if episode.seed is None:
        raise DatasetError(f"{path}: expected the column seed in meta/episodes, found none")
    if NAMES not in episode.extras:
        raise DatasetError(f"{path}: expected {NAMES} in the extras of episode {index}, found none")
    columns = reader.read_episode(episode, COLUMNS)
    _require_code(path, columns[CODE])
    return Recorded(
        episode,
        str(reader.collection["env_id"]).replace("<Task>", episode.task),
        reader.info["fps"],
        tuple(version_warnings(reader.collection)),
        columns,
        {key: _element_names(reader, key) for key in COMPARED},
        episode.extras[NAMES],
    )


def _require_suite(reader: DatasetReader) -> None:
    suite = reader.collection.get("suite")
    if suite != SUITE:
        found = "none" if suite is None else repr(suite)
        raise DatasetError(f"{reader.path}: suite: expected {SUITE!r}, which can be replayed, got {found}")
    if "env_id" not in reader.collection:
        raise DatasetError(f"{reader.path}: env_id: expected one in meta/keystep.json, got none")


def _require_columns(reader: DatasetReader) -> None:
    for column in COLUMNS:
        if column not in reader.features:
            known = ", ".join(reader.features)
            raise DatasetError(f"{reader.path}: expected the column {column}, found only {known}")
        feature = reader.features[column]
        if column in (*COMPARED, ACTION) and (feature.dtype != "float32" or len(feature.shape) != 1):
            raise DatasetError(
                f"{reader.path}: {column}: expected vectors of float32, got {feature.dtype} {feature.shape}"
            )


def _require_code(path: str | Path, codes: np.ndarray) -> None:
    """Text that is too long for code would take hours to lay out in a video."""
    from keystep.code.characters import check_length
    from keystep.code.grammar import CodeError

    for frame, code in enumerate(codes):
        try:
            check_length(code)
        except CodeError as error:
            raise DatasetError(f"{path}: {CODE}: frame {frame}: {error.problem}") from None


def _element_names(reader: DatasetReader, key: str) -> tuple[str, ...]:
    feature = reader.features[key]
    numbers = tuple(f"element {number}" for number in range(feature.shape[0]))
    return feature.names if feature.names and len(feature.names) == len(numbers) else numbers


def version_warnings(collection: dict[str, Any]) -> Iterator[str]:
    """Packages whose version is not the one that a dataset's side file names."""
    recorded = {**collection.get("versions", {}), **collection.get("other_versions", {})}
    for name, version in package_versions().items():
        if recorded.get(name) != version:
            yield f"{name}: recorded with {recorded.get(name, 'an unknown version')}, this is {version}"


def open_env(recorded: Recorded, image_size: int | None = None) -> Any:
    """The episode's environment, not wrapped; with a picture size it can render (needs a Vulkan driver)."""
    import gymnasium

    import keystep.suites.tabletop  # noqa: F401  registers the environments

    options: dict[str, Any] = {"obs_mode": "state", "terminate_on_success": False}
    if image_size is not None:
        options |= {"render_mode": "rgb_array", "image_size": image_size}
    try:
        return gymnasium.make(recorded.env_id, **options).unwrapped
    except gymnasium.error.Error as error:
        raise DatasetError(f"env_id: expected a known environment, got {recorded.env_id}: {error}") from error


def resimulate(env: Any, recorded: Recorded) -> Iterator[dict[str, Any]]:
    """Runs the episode's actions from its seed.

    Yields:
        T + 1 times, before each action and after the last, STATE, POSES, BOXES, PROMPT, NAMES and SUCCESS;
        what the environment renders at that time is this frame's picture.
    """
    observation, info = env.reset(seed=recorded.episode.seed)
    yield _frame(env, observation, info)
    for action in recorded.columns[ACTION]:
        observation, _, _, _, info = env.step(action)
        yield _frame(env, observation, info)


def _frame(env: Any, observation: dict[str, np.ndarray], info: dict[str, Any]) -> dict[str, Any]:
    return {
        STATE: observation[STATE],
        POSES: env.poses(),
        BOXES: env.boxes(),
        PROMPT: info["instruction"],
        NAMES: [body.thing.name for body in env.scenario.bodies],
        SUCCESS: bool(info["success"]),
    }
