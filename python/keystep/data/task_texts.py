"""The instructions of a dataset, numbered: meta/tasks.parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from keystep.data import layout
from keystep.data.columns import texts
from keystep.data.layout import DatasetError, quoted


class TaskTexts:
    """Distinct instructions by task index; grows with the episodes, not with the frames."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.texts = list(texts)
        self._index: dict[str, int] = {}
        for number, text in enumerate(self.texts):
            self._index.setdefault(text, number)

    def __len__(self) -> int:
        return len(self.texts)

    def index(self, text: str) -> int:
        """Its task index; a new text gets the next one."""
        if text not in self._index:
            self._index[text] = len(self.texts)
            self.texts.append(text)
        return self._index[text]

    def first(self, count: int) -> TaskTexts:
        """Those of a dataset that has committed so many, as a copy."""
        return TaskTexts(self.texts[:count])

    def write(self, file: Path | io.BytesIO) -> None:
        pq.write_table(layout.tasks_table(self.texts), file)

    def to_bytes(self) -> bytes:
        """What `write` writes."""
        buffer = io.BytesIO()
        self.write(buffer)
        return buffer.getvalue()


def read_task_texts(path: Path, count: int | None = None) -> TaskTexts:
    """The first `count` instructions of meta/tasks.parquet; all, an unfinished write included, when None.

    The text is the index of a pandas frame, whatever its name, or the column `task`.

    Raises:
        DatasetError: fewer than `count`, no texts, or not numbered in order, as LeRobot goes by the place.
    """
    table = layout.read_parquet(path)
    if count is not None and len(table) < count:
        raise DatasetError(f"{path}: expected {count} instructions, got {len(table)}")
    table = table.slice(0, count)
    for name in ("task_index", column := _text_column(path, table)):
        if table.column_names.count(name) != 1:
            raise DatasetError(f"{path}: expected one column {name}, found {quoted(table.column_names)}")
    if table["task_index"].to_pylist() != list(range(len(table))):
        raise DatasetError(f"{path}: task_index: expected 0..{len(table) - 1} in order; sort the rows by it")
    return TaskTexts(texts(f"{path}: {column}", table[column].combine_chunks()).to_pylist())


def _text_column(path: Path, table: pa.Table) -> str:
    try:
        pandas = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
        index = [
            name for name in pandas["index_columns"] if name in table.column_names and name != "task_index"
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        index = []
    for name in (*index[:1], "task", "__index_level_0__"):
        if name in table.column_names:
            return name
    raise DatasetError(
        f"{path}: expected the texts as index or as column task, found {quoted(table.column_names)}"
    )
