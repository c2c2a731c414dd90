"""Arrays to the columns of a data file, and images back."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from keystep.data.layout import CHUNKS_SIZE, IMAGE_TYPE, Column, DatasetError, data_schema
from keystep.data.stats import Stats

_STATS, _VIDEOS = "stats/", "videos/"
_PLACE = ("data/chunk_index", "data/file_index", "meta/episodes/chunk_index", "meta/episodes/file_index")


def frames_table(columns: Mapping[str, np.ndarray], features: Mapping[str, Column]) -> pa.Table:
    """The rows of a data file; the columns are in the order of `features`, without videos.

    Raises:
        DatasetError: values that a column cannot hold.
    """
    arrays = []
    for key, feature in features.items():
        if feature.is_video:
            continue
        try:
            arrays.append(_to_arrow(columns[key], feature))
        except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
            raise DatasetError(f"{key}: expected values of {feature.dtype}, got {error}") from error
    return pa.Table.from_arrays(arrays, schema=data_schema(features))


def episode_row(row: Mapping[str, Any], found: Stats) -> pa.Table:
    """A row of meta/episodes but for the place of its frames, with columns such as "stats/action/mean"."""
    statistics = {
        f"{_STATS}{key}/{name}": value.tolist()
        for key, values in found.items()
        for name, value in values.items()
    }
    return pa.Table.from_pylist([{**row, **statistics}])


def episodes_table(rows: Sequence[pa.Table], number: int, videos: Sequence[str], fps: int) -> pa.Table:
    """The rows of the `number`-th file of meta/episodes.

    Their frames are in the data file of this number, and in that of each of `videos`, one after the other.
    """
    table = pa.concat_tables(rows).combine_chunks()
    place = divmod(number, CHUNKS_SIZE)
    columns = {name: table[name] for name in table.column_names if not name.startswith(_STATS)}
    columns |= {name: pa.repeat(value, len(table)) for name, value in zip(_PLACE, place * 2, strict=True)}
    stops = np.cumsum(table["length"].to_numpy())
    times = {"from_timestamp": (stops - table["length"].to_numpy()) / fps, "to_timestamp": stops / fps}
    for key in videos:
        for name, value in zip(("chunk_index", "file_index"), place, strict=True):
            columns[f"{_VIDEOS}{key}/{name}"] = pa.repeat(value, len(table))
        columns |= {f"{_VIDEOS}{key}/{name}": pa.array(values) for name, values in times.items()}
    return pa.table({**columns, **{name: table[name] for name in table.column_names}})


def without_place(rows: pa.Table) -> pa.Table:
    """What `episodes_table` was given, as one table."""
    placed = (name for name in rows.column_names if name in _PLACE or name.startswith(_VIDEOS))
    return rows.drop_columns(list(placed))


def _to_arrow(values: np.ndarray, feature: Column) -> pa.Array:
    if feature.is_image:
        encoded = [
            {"bytes": encode_png(image), "path": f"frame-{n:06d}.png"} for n, image in enumerate(values)
        ]
        return pa.array(encoded, IMAGE_TYPE)
    if feature.is_string:
        return pa.array(values.tolist(), pa.string())
    flat = pa.array(np.array(values).reshape(-1))  # a copy: the caller may fill its array anew
    if feature.shape == (1,):
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, feature.shape[0])


def encode_png(image: np.ndarray) -> bytes:
    """(h, w, 3) uint8 -> PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def write_row_groups(path: Path | io.BytesIO, tables: Sequence[pa.Table]) -> None:
    """One row group per table, so that one episode can be read alone.

    Columns are dictionary-encoded, pyarrow's default: code that is repeated at every step is stored once.
    """
    with pq.ParquetWriter(path, tables[0].schema, compression="snappy") as writer:
        for table in tables:
            writer.write_table(table)


def as_written(table: pa.Table) -> pa.Table:
    """A table that was read, with the types that were written: parquet renames the items of lists."""

    def written(kind: pa.DataType) -> pa.DataType:
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(written(kind.value_type), kind.list_size)
        return pa.list_(written(kind.value_type)) if pa.types.is_list(kind) else kind

    fields = [pa.field(field.name, written(field.type)) for field in table.schema]
    return table.cast(pa.schema(fields, table.schema.metadata))


def first_rows(path: Path, rows: int) -> bytes:
    """The parquet file as it was when it had so many rows, if it was written by `write_row_groups`."""
    tables, buffer = [], io.BytesIO()
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            tables.append(as_written(file.read_row_group(number).slice(0, rows)))
            rows -= len(tables[-1])
            if not rows:
                break
    write_row_groups(buffer, tables)
    return buffer.getvalue()


def decode_image(data: bytes) -> np.ndarray:
    """PNG bytes -> (h, w, 3) uint8."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
