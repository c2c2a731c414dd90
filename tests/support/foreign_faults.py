"""Ways to damage a foreign dataset, and whether the reader and `check` refuse it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from foreign_dataset import edit_column, edit_episodes, edit_json

from keystep.data import DatasetError, DatasetReader
from keystep.data.check import check_dataset

INFO, STATS, COLLECTION = "meta/info.json", "meta/stats.json", "meta/keystep.json"
DATA = "data/chunk-000/file-000.parquet"
ACTION = "action"


def refusal(root: Path) -> str | None:
    """Why a reader refuses something of the dataset; None when it reads all of it."""
    try:
        reader = DatasetReader(root)
        for batch in reader.iter_batches(batch_size=4):
            assert len(batch["index"])
        for episode in reader.episodes():
            reader.read_episode(episode)
        _ = reader.stats, reader.tasks, reader.sha256(), reader.collection
    except DatasetError as error:
        return str(error)
    return None


def refused_by_both(root: Path, message: str) -> None:
    found, problems = refusal(root), check_dataset(root)
    assert found is not None and message in found
    assert any(message in problem for problem in problems), problems
    assert len(found) < 600 + len(str(root)) and "\n" not in problems[0]


def set_info(**changes: Any) -> Callable[[Path], None]:
    return lambda root: edit_json(root / INFO, lambda info: info.update(changes))


def set_feature(key: str, **changes: Any) -> Callable[[Path], None]:
    return lambda root: edit_json(
        root / INFO, lambda info: info["features"].setdefault(key, {}).update(changes)
    )


def drop_info(key: str) -> Callable[[Path], None]:
    return lambda root: edit_json(root / INFO, lambda info: info.pop(key))


def drop_feature(key: str) -> Callable[[Path], None]:
    return lambda root: edit_json(root / INFO, lambda info: info["features"].pop(key))


def raw(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes(data) and None


def set_row(number: int, **changes: Any) -> Callable[[Path], None]:
    def change(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        rows[number].update(changes)
        return rows

    return lambda root: edit_episodes(root, change)


def set_values(
    name: str, change: Callable[[np.ndarray], np.ndarray], number: int = 0
) -> Callable[[Path], None]:
    return lambda root: edit_column(
        root, name, lambda array: pa.array(change(array.to_numpy(zero_copy_only=False).copy())), number
    )


def set_array(name: str, values: Callable[[pa.Array], list], kind: pa.DataType) -> Callable[[Path], None]:
    return lambda root: edit_column(root, name, lambda array: pa.array(values(array), kind))


def patched(place: int, value: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        values = array.to_pylist() if isinstance(array, pa.Array) else array
        values[place] = value
        return values

    return change
