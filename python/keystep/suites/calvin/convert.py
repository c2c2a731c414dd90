"""CALVIN's recorded play to a LeRobotDataset v3.0: one episode for every language segment."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from keystep.bars import tracked
from keystep.data.errors import DatasetError
from keystep.data.layout import Column, image_column
from keystep.data.reader import DatasetReader
from keystep.data.spec import DatasetSpec
from keystep.data.writer import DatasetWriter
from keystep.files import sha256
from keystep.suites.calvin import ENV_ID, layout
from keystep.suites.calvin.frames import CalvinFrames
from keystep.suites.calvin.images import resized
from keystep.suites.calvin.pickled import PlaySegment, read_segments
from keystep.suites.calvin.sources import simulator_of
from keystep.suites.calvin.tasks import TASKS, instruction

EXTRAS = ("sentence", "frames", "end_state")
"""Of each episode: the words it was annotated with, [first, end) of its frames in the split, and its last
state, which replayed contexts start from."""


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion did.

    Attributes:
        episodes: in the dataset now.
        written: by this run.
        per_task: episodes of each task that was wanted, those of earlier runs included.
    """

    episodes: int
    written: int
    per_task: dict[str, int]


def convert_calvin(
    folder: Path,
    output: Path,
    actions: Literal["relative", "absolute"] = "relative",
    images: bool = True,
    image_size: int | None = None,
    tasks: Sequence[str] | None = None,
    per_task: int | None = None,
    max_frames: int = layout.EPISODE_FRAMES,
) -> ConvertReport:
    """Write the language segments of a split as episodes; run again to continue.

    Nothing of the split is unpickled. Ctrl-C and errors leave a dataset with the episodes before.

    Args:
        folder: a split, such as task_D_D/training: episode_*.npz and lang_annotations/auto_lang_ann.npy.
        output: dataset folder, new or to be continued.
        actions: relative: rel_actions of the files; absolute: their actions.
        images: whether the two cameras are written.
        image_size: side of their pictures, which are resized; 200 and 84 pixels as in the files when None.
        tasks: names; all when None.
        per_task: the first so many segments of each task; all when None.
        max_frames: longer segments are refused: planners are trained for 64 frames.

    Raises:
        DatasetError: a frame that is missing, a field of another shape or with numbers that are not finite,
            by file and name; an unknown task; or a dataset of another split or other settings.
    """
    if actions not in layout.ACTIONS:
        raise DatasetError(f"actions: expected relative or absolute, got {actions!r}")
    for name, value in (("per_task", per_task), ("max_frames", max_frames), ("image_size", image_size)):
        if value is not None and value < 1:
            raise DatasetError(f"{name}: expected at least 1, got {value}")
    if image_size is not None and image_size > layout.MAX_IMAGE_SIZE:
        raise DatasetError(f"image_size: expected at most {layout.MAX_IMAGE_SIZE} pixels, got {image_size}")
    frames = CalvinFrames(Path(folder), actions, images)
    chosen = choose_segments(frames.annotations, tasks, per_task, max_frames)
    spec = dataset_spec(frames, actions, images, image_size, tasks, per_task)
    simulator = simulator_of(frames.folder)
    with DatasetWriter(output, spec) as writer:
        done = _done(Path(output), chosen)
        for segment in tracked(chosen[done:], "segments", len(chosen) - done):
            read = map(frames.read, range(segment.start, segment.stop))
            _add(writer, segment, list(read), layout.ACTION_KEYS[actions], simulator)
            writer.flush_at_leisure()
        episodes = writer.episodes
    counts = dict.fromkeys(tasks or TASKS, 0)
    for segment in chosen:
        counts[segment.task] += 1
    return ConvertReport(episodes, len(chosen) - done, counts)


def choose_segments(
    annotations: Path, tasks: Sequence[str] | None, per_task: int | None, max_frames: int
) -> list[PlaySegment]:
    """Those that are wanted, in the order of the file. Raises DatasetError."""
    for task in tasks or ():
        if task not in TASKS:
            raise DatasetError(f"tasks: expected some of {', '.join(TASKS)}, got {task!r}")
    counts = dict.fromkeys(tasks or TASKS, 0)
    chosen = []
    for segment in read_segments(annotations):
        name = f"{annotations}: language.task[{segment.number}]"
        if segment.task not in TASKS:
            raise DatasetError(f"{name}: expected a task of CALVIN, got {segment.task!r}")
        if segment.task not in counts or counts[segment.task] == per_task:
            continue
        if (length := segment.stop - segment.start) > max_frames:
            wanted = f"at most {max_frames} frames (max_frames)"
            raise DatasetError(f"{annotations}: info.indx[{segment.number}]: expected {wanted}, got {length}")
        counts[segment.task] += 1
        chosen.append(segment)
    if not chosen:
        raise DatasetError(f"{annotations}: expected segments of {', '.join(counts)}, got none")
    return chosen


def dataset_spec(
    frames: CalvinFrames,
    actions: str,
    images: bool,
    image_size: int | None = None,
    tasks: Sequence[str] | None = None,
    per_task: int | None = None,
) -> DatasetSpec:
    """Of a converted split. Absolute actions declare no hold: training then repeats the last command."""
    features = {
        "observation.state": Column("float32", (len(layout.STATE_NAMES),), layout.STATE_NAMES),
        "observation.scene": Column("float32", (len(layout.SCENE_NAMES),), layout.SCENE_NAMES),
    }
    for name in layout.CAMERAS if images else ():
        height, width, _ = layout.image_shape(name, image_size)
        features[f"observation.images.{name}"] = image_column(height, width)
    features["action"] = Column("float32", (7,), layout.ACTION_NAMES[actions])
    how: dict[str, Any] = {
        "suite": "calvin",
        "env_id": ENV_ID,
        "split": frames.folder.resolve().name,
        "auto_lang_ann": sha256(frames.annotations),
        "actions": actions,
        "chosen": {"tasks": list(tasks) if tasks is not None else None, "per_task": per_task},
    }
    if actions == "relative":
        how["action"] = layout.action_spec(actions)
    told = {task: instruction(task) for task in tasks or TASKS}
    return DatasetSpec(layout.CONTROL_RATE_HZ, features, told, "franka_panda", how, EXTRAS)


def _done(output: Path, chosen: Sequence[PlaySegment]) -> int:
    """How many of the chosen segments are there already, which must be the first ones."""
    episodes = list(DatasetReader(output).episodes())
    for episode, segment in zip(episodes, chosen, strict=False):
        if (episode.seed, episode.task) != (segment.number, segment.task):
            wanted = f"segment {segment.number} ({segment.task})"
            raise DatasetError(
                f"{output}: episode {episode.index}: expected {wanted} to resume, got {episode.seed} "
                f"({episode.task}); use another output folder"
            )
    if len(episodes) > len(chosen):
        raise DatasetError(
            f"{output}: expected at most {len(chosen)} episodes to resume, got {len(episodes)}"
        )
    return len(episodes)


def _add(
    writer: DatasetWriter,
    segment: PlaySegment,
    frames: list[dict[str, np.ndarray]],
    action_key: str,
    simulator: str,
) -> None:
    names = {"observation.state": "robot_obs", "observation.scene": "scene_obs", "action": action_key}
    names |= {f"observation.images.{name}": f"rgb_{name}" for name in layout.CAMERAS}
    columns = {}
    for key, column in writer.spec.features.items():
        values = [frame[names[key]] for frame in frames]
        if column.is_image:
            columns[key] = np.stack([resized(value, column.shape[0]) for value in values])
        else:
            columns[key] = np.stack(values).astype(np.float32)
    extras = {
        "sentence": segment.sentence,
        "frames": [segment.start, segment.stop],
        "end_state": end_state(segment.task, frames[0], frames[-1], simulator),
    }
    writer.add_episode(columns, segment.task, segment.number, extras=extras)


def end_state(
    task: str, first: dict[str, np.ndarray], last: dict[str, np.ndarray], simulator: str
) -> dict[str, Any]:
    """The last state as `CalvinEnv.get_state` gives it, with the world that it is of.

    Which calvin_env recorded it nobody knows: it has the configuration alone.
    """
    numbers = functools.partial(np.asarray, dtype=np.float64)
    states = {name: numbers(last[name]).tolist() for name in ("robot_obs", "scene_obs")}
    states |= {f"start_{name}": numbers(first[name]).tolist() for name in ("robot_obs", "scene_obs")}
    rest = {"elapsed_steps": 0, "success": True, "task": TASKS[task]}
    return {"world": {"env_id": ENV_ID, "simulator": simulator}, "state": {**states, **rest}}
