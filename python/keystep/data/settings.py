"""What must be the same when a dataset is continued, and what may differ."""

from __future__ import annotations

from typing import Any

from keystep.data import layout
from keystep.data.action_law import with_law
from keystep.data.layout import DatasetError
from keystep.data.reader import DatasetReader
from keystep.data.spec import DatasetSpec

_LONG = 60  # characters of JSON values in messages


def check_resumable(reader: DatasetReader, spec: DatasetSpec) -> None:
    """Raises DatasetError with the first setting of the dataset that is not the spec's.

    The order of the tasks does not matter, nor which of them are there; see `merged_tasks`.
    """
    expected = layout.empty_info(spec.all_features(), spec.fps, spec.robot_type, 0)
    pairs = [
        (key, expected[key], reader.info.get(key))
        for key in ("fps", "features", "robot_type", "chunks_size", "data_path", "video_path")
    ]
    wanted, found = with_law(spec.side_file()), with_law(reader.collection)
    compared = sorted({*wanted, *found} - {"tasks", *spec.notes})
    pairs += [(key, wanted.get(key), found.get(key)) for key in compared]
    for key, value, other in pairs:
        _require_equal(reader, key, value, other)


def merged_tasks(reader: DatasetReader, spec: DatasetSpec) -> list[dict[str, str]]:
    """The dataset's tasks and behind them the spec's new ones, as the side file has them.

    Raises:
        DatasetError: a task is there with another instruction.
    """
    found = {task["name"]: task for task in reader.collection.get("tasks", [])}
    wanted = {task["name"]: task for task in spec.side_file()["tasks"]}
    for name in wanted.keys() & found.keys():
        _require_equal(reader, f"tasks.{name}", wanted[name], found[name])
    return list({**found, **wanted}.values())


def _require_equal(reader: DatasetReader, name: str, expected: Any, found: Any) -> None:
    problem = first_difference(name, expected, found)
    if problem is not None:
        hint = "use another output folder for different settings"
        raise DatasetError(f"{reader.path}: {problem}; {hint}")


def first_difference(name: str, expected: Any, found: Any) -> str | None:
    """Where two JSON values first differ, such as "action.min[2]: expected -1.0 to resume, got 0.0"."""
    if expected == found:
        return None
    if max(len(repr(expected)), len(repr(found))) > _LONG:
        parts: list[tuple[str, Any, Any]] = []
        if isinstance(expected, dict) and isinstance(found, dict):
            keys = [*expected, *(key for key in found if key not in expected)]
            parts = [(f"{name}.{key}", expected.get(key), found.get(key)) for key in keys]
        elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
            pairs = enumerate(zip(expected, found, strict=True))
            parts = [(f"{name}[{number}]", *pair) for number, pair in pairs]
        problems = (first_difference(*part) for part in parts)
        if (first := next((problem for problem in problems if problem is not None), None)) is not None:
            return first
    return f"{name}: expected {_told(expected)} to resume, got {_told(found)}"


def _told(value: Any) -> str:
    text = "none" if value is None else repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}.."
