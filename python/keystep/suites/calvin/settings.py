"""MTLC's fixed settings: the start states of the validation split's language segments.

Source: HD-ExpIt, Table 6 and appendix D: 30 settings per task, the demonstrations of the validation split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.bars import tracked
from keystep.files import parse_json, sha256, write_json
from keystep.suites.calvin.frames import CalvinFrames
from keystep.suites.calvin.layout import SCENE_NAMES, SETTINGS_PER_TASK, STATE_NAMES
from keystep.suites.calvin.pickled import read_segments
from keystep.suites.calvin.tasks import TASKS

FORMAT, VERSION = "keystep-calvin-settings", 1
_SIZES = {"robot_obs": len(STATE_NAMES), "scene_obs": len(SCENE_NAMES)}


@dataclass(frozen=True)
class Setting:
    """Where an episode starts.

    Attributes:
        robot_obs, scene_obs: (15,) and (24,), float64.
        start, stop: frames [start, stop) of the segment that shows the task from there.
    """

    robot_obs: np.ndarray
    scene_obs: np.ndarray
    start: int
    stop: int


def write_settings(folder: Path, output: Path, per_task: int = SETTINGS_PER_TASK) -> dict[str, int]:
    """Write the first `per_task` segments of every task of a split as settings; returns how many of each.

    Raises:
        DatasetError: what is wrong with the split.
        ArgumentError: a task has none.
    """
    if per_task < 1:
        raise keystep.ArgumentError(f"per_task: expected at least 1, got {per_task}")
    frames = CalvinFrames(folder, actions="relative", images=False)
    chosen: dict[str, list[Any]] = {task: [] for task in TASKS}
    for segment in tracked(read_segments(frames.annotations), "segments"):
        listed = chosen.get(segment.task)
        if listed is None:
            raise keystep.ArgumentError(
                f"{frames.annotations}: language.task[{segment.number}]: expected a task of CALVIN, "
                f"got {segment.task!r}"
            )
        if len(listed) < per_task:
            frame = frames.read(segment.start)
            states = {name: np.asarray(frame[name], np.float64).tolist() for name in _SIZES}
            listed.append({**states, "frames": [segment.start, segment.stop]})
    if empty := [task for task, listed in chosen.items() if not listed]:
        raise keystep.ArgumentError(f"{folder}: expected a segment of every task, got none of {empty[0]}")
    origin = {"split": frames.folder.name, "auto_lang_ann": sha256(frames.annotations)}
    write_json(output, {"format": FORMAT, "version": VERSION, **origin, "settings": chosen})
    return {task: len(listed) for task, listed in chosen.items()}


def read_settings(path: Path) -> dict[str, list[Setting]]:
    """By task. Raises ArgumentError: which field is not what it should be."""
    by_task = _read(path).get("settings")
    if not isinstance(by_task, dict) or set(by_task) != set(TASKS):
        raise keystep.ArgumentError(f"{path}: settings: expected CALVIN's {len(TASKS)} tasks, got others")
    found = {}
    for task, listed in by_task.items():
        if not isinstance(listed, list) or not listed:
            raise keystep.ArgumentError(f"{path}: settings.{task}: expected a list of settings, got {listed}")
        found[task] = [_setting(f"{path}: settings.{task}[{i}]", entry) for i, entry in enumerate(listed)]
    return found


def require_split(path: Path, annotations: Path) -> None:
    """Raises ArgumentError when settings are of another split than the one with these annotations.

    Their frames are known by number alone, and every split has frames of most numbers.
    """
    value, found = _read(path), sha256(annotations)
    if (expected := str(value.get("auto_lang_ann"))) != found:
        wanted = f"the split that {path} is of ({value.get('split')}, auto_lang_ann {expected[:12]})"
        raise keystep.ArgumentError(f"dataset: expected {wanted}, got {annotations} ({found[:12]})")


def _read(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise keystep.ArgumentError(f"settings: expected a JSON file that can be read, got {error}") from None
    kind = (value.get("format"), value.get("version")) if isinstance(value, dict) else None
    if kind != (FORMAT, VERSION):
        raise keystep.ArgumentError(f"{path}: format: expected {FORMAT} version {VERSION}, got {kind}")
    return value


def _setting(name: str, entry: Any) -> Setting:
    if not isinstance(entry, dict):
        raise keystep.ArgumentError(f"{name}: expected an object, got {entry!r:.60}")
    states = {
        field: checked_numbers(f"{name}.{field}", entry.get(field), size) for field, size in _SIZES.items()
    }
    place = entry.get("frames")
    if not isinstance(place, list) or len(place) != 2 or not all(type(number) is int for number in place):
        raise keystep.ArgumentError(f"{name}.frames: expected first frame and end, got {place!r:.60}")
    return Setting(states["robot_obs"], states["scene_obs"], place[0], place[1])


def checked_numbers(name: str, value: Any, size: int) -> np.ndarray:
    """(size,) float64. Raises ArgumentError for another shape, or what is not finite."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        array = np.full(0, np.nan)
    if array.shape != (size,) or not np.isfinite(array).all():
        raise keystep.ArgumentError(f"{name}: expected {size} finite numbers, got {value!r:.60}")
    return array
