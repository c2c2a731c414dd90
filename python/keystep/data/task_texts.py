"""The instructions of a dataset, numbered: meta/tasks.parquet."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from keystep.data import layout
from keystep.data.layout import DatasetError


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


def read_task_texts(path: Path) -> TaskTexts:
    """All instructions of meta/tasks.parquet, those of an unfinished write included."""
    table = layout.read_parquet(path)
    column = next(name for name in table.column_names if name != "task_index")
    pairs = sorted(zip(table["task_index"].to_pylist(), table[column].to_pylist(), strict=True))
    if [number for number, _ in pairs] != list(range(len(pairs))):
        raise DatasetError(f"{path}: task_index: expected 0..{len(pairs) - 1}, each once")
    return TaskTexts(text for _, text in pairs)
