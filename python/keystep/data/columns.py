"""Columns of a parquet file to arrays, whichever Arrow type holds the values.

LeRobot, `datasets`, pandas and polars write the same frames as fixed-size, plain, large or view lists, with
dictionaries or as extension types of any of these. What counts is that every frame holds a value of the
declared shape that the declared type can hold exactly; floats may be rounded, as LeRobot's reader does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from keystep.data import layout
from keystep.data.images import decode_image
from keystep.data.layout import Column, DatasetError

_LISTS: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
    pa.types.is_large_list_view,
)  # fmt: skip
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)


def to_numpy(where: str, feature: Column, column: pa.Array | pa.ChunkedArray, first: int = 0) -> np.ndarray:
    """(B, *shape) numbers, (B,) truth values and texts (dtype object), (B, h, w, 3) uint8 images.

    Args:
        where: file and column, for messages.
        first: row of the file that the column begins with, for messages.

    Raises:
        DatasetError: values that are missing, of another shape, or that the feature's type cannot hold.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    try:
        if feature.is_image:
            return _images(where, feature, array, first)
        if feature.is_string:
            return _texts(where, array)
        if feature.dtype == "language":
            return _objects(array)
        return _numbers(where, feature, array, first)
    except (pa.ArrowException, UnicodeError, OverflowError) as error:
        raise DatasetError(f"{where}: expected {feature.dtype}, got {layout.quoted(str(error))}") from error


def plain(array: pa.Array) -> pa.Array:
    """The values behind extension types, dictionaries and run-end encoding."""
    if isinstance(array.type, pa.BaseExtensionType):
        return plain(array.storage)
    if pa.types.is_dictionary(array.type):
        return plain(array.dictionary_decode())
    if pa.types.is_run_end_encoded(array.type):
        return plain(pc.run_end_decode(array))
    return array


def texts(where: str, array: pa.Array) -> pa.Array:
    """As `pa.string()`, sound UTF-8; DatasetError for missing values and other types."""
    array = plain(array)
    if array.null_count:
        raise DatasetError(f"{where}: expected a value in every frame, found some without")
    if not _is(array, _TEXTS):
        raise DatasetError(f"{where}: expected text, got {array.type}; store the column as string")
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{where}: expected UTF-8, got {layout.quoted(str(error))}") from None
    return array.cast(pa.string())


def _texts(where: str, array: pa.Array) -> np.ndarray:
    array = texts(where, array)
    if any("\0" in value for value in array.unique().to_pylist()):
        raise DatasetError(f"{where}: expected text without NUL, got some")
    return array.to_numpy(zero_copy_only=False)


def _objects(array: pa.Array) -> np.ndarray:
    """LeRobot's language annotations: a list of rows per frame, as Python values."""
    found = np.empty(len(array), dtype=object)
    found[:] = array.to_pylist()
    return found


def _numbers(where: str, feature: Column, array: pa.Array, first: int) -> np.ndarray:
    rows, declared = len(array), f"{feature.dtype} of shape {list(feature.shape)}"
    array = plain(array)
    if feature.shape != (1,) or _is(array, _LISTS):
        for size in feature.shape:
            array = _elements(where, declared, array, size)
    if array.null_count:
        raise DatasetError(f"{where}: expected a value in every frame, found some without")
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "biuf":
        raise DatasetError(
            f"{where}: expected {declared}, got {array.type}; store the column as {feature.dtype}"
        )
    values = values.reshape(rows, *feature.frame_shape)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = first + int(np.argmin(np.isfinite(values).reshape(rows, -1).all(axis=1)))
        raise DatasetError(
            f"{where}: expected finite values, got NaN or infinity in row {row}; drop the episode"
        )
    return _exact(where, values, np.dtype(feature.dtype))


def _elements(where: str, declared: str, array: pa.Array, size: int) -> pa.Array:
    """One level of lists less, all of which must have `size` elements."""
    if not _is(array, _LISTS):
        raise DatasetError(f"{where}: expected {declared}, got values of type {array.type}")
    if array.null_count:
        raise DatasetError(f"{where}: expected a value in every frame, found some without")
    lengths = pc.unique(pc.list_value_length(array)).to_pylist()
    if any(length != size for length in lengths):
        wrong = next(length for length in lengths if length != size)
        raise DatasetError(
            f"{where}: expected {declared}, got {wrong} elements instead of {size} in some frame"
        )
    return plain(array.flatten())


def _exact(where: str, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Cast; the values must be the same in the new type, but for the rounding between floats."""
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        cast = values.astype(dtype)
        rounded = values.dtype.kind == dtype.kind == "f" or (dtype.kind == "f" and values.dtype.kind in "iu")
        same = (
            np.isfinite(cast)
            if rounded
            else (cast.astype(values.dtype) == values) & ((cast < 0) == (values < 0))
        )
    if not same.all():
        found = values[~same].reshape(-1)[0]
        raise DatasetError(f"{where}: expected values that {dtype} can hold, got {found} ({values.dtype})")
    return cast


def _images(where: str, feature: Column, array: pa.Array, first: int) -> np.ndarray:
    height, width, channels = feature.shape
    images = np.empty((len(array), height, width, channels), np.uint8)
    for number, data in enumerate(_encoded(where, plain(array))):
        if not data.is_valid:
            raise DatasetError(
                f"{where}: row {first + number}: expected image bytes in the data file, found none; "
                "embed the files with datasets.table.embed_table_storage"
            )
        try:
            images[number] = decode_image(data.as_py(), height, width)
        except ValueError as error:
            raise DatasetError(f"{where}: row {first + number}: {layout.quoted(str(error))[1:-1]}") from None
    return images


def _encoded(where: str, array: pa.Array) -> pa.Array:
    if pa.types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
        array = plain(pc.struct_field(array, "bytes"))
    if not _is(array, _BYTES):
        raise DatasetError(f"{where}: expected images as struct<bytes, path>, got {array.type}")
    return array


def _is(array: pa.Array, kinds: tuple[Callable[[pa.DataType], bool], ...]) -> bool:
    return any(kind(array.type) for kind in kinds)
