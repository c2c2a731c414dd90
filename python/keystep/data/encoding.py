"""Arrays to the columns of a data file, and images back."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from keystep.data.layout import CHUNKS_SIZE, IMAGE_TYPE, Feature, data_schema


def frames_table(columns: Mapping[str, np.ndarray], features: Mapping[str, Feature]) -> pa.Table:
    """The rows of a data file; the columns are in the order of `features`."""
    arrays = [_to_arrow(columns[key], feature) for key, feature in features.items()]
    return pa.Table.from_arrays(arrays, schema=data_schema(features))


def episodes_table(rows: list[dict[str, Any]], number: int) -> pa.Table:
    """The rows of the `number`-th file of meta/episodes, whose frames are in the data file of this number.

    Args:
        rows: columns, and under "stats" statistics, which get columns such as "stats/action/mean".
    """
    chunk, file = divmod(number, CHUNKS_SIZE)
    place = {f"{kind}/{part}_index": value for kind in ("data", "meta/episodes")
             for part, value in (("chunk", chunk), ("file", file))}  # fmt: skip
    flat = []
    for row in rows:
        plain = {key: value for key, value in row.items() if key != "stats"}
        nested = {
            f"stats/{key}/{name}": value.tolist()
            for key, found in row["stats"].items()
            for name, value in found.items()
        }
        flat.append({**plain, **place, **nested})
    return pa.Table.from_pylist(flat)


def _to_arrow(values: np.ndarray, feature: Feature) -> pa.Array:
    if feature.is_image:
        encoded = [
            {"bytes": encode_png(image), "path": f"frame-{n:06d}.png"} for n, image in enumerate(values)
        ]
        return pa.array(encoded, IMAGE_TYPE)
    if feature.is_string:
        return pa.array(values.tolist(), pa.string())
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if feature.shape == (1,):
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, feature.shape[0])


def encode_png(image: np.ndarray) -> bytes:
    """(h, w, 3) uint8 -> PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def write_row_groups(path: Path, tables: list[pa.Table]) -> None:
    """One row group per table, so that one episode can be read alone.

    Columns are dictionary-encoded, pyarrow's default: code that is repeated at every step is stored once.
    """
    with pq.ParquetWriter(path, tables[0].schema, compression="snappy") as writer:
        for table in tables:
            writer.write_table(table)


def decode_image(data: bytes) -> np.ndarray:
    """PNG bytes -> (h, w, 3) uint8."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
