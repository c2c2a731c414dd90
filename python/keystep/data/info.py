"""meta/info.json as the reader takes it: every field is checked before anything relies on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keystep.data import layout
from keystep.data.encoder import ENCODERS
from keystep.data.layout import Column, DatasetError, quoted

NUMBERS = ("float16", "float32", "float64", "bool", *(f"{kind}{bits}" for kind in ("int", "uint")
           for bits in (8, 16, 32, 64)))  # fmt: skip
LANGUAGE_KEYS = ("language_persistent", "language_events")  # LeRobot knows them by name, not by dtype
COUNTS = ("total_episodes", "total_frames", "total_tasks")
MAX_SIDE = 1 << 14  # pixels
_SAME = {
    "float": "float32",
    "double": "float64",
    "large_string": "string",
}  # names that `datasets` takes, too
_AXES = {
    "c": "c",
    "channel": "c",
    "channels": "c",
    "rgb": "c",
    "h": "h",
    "height": "h",
    "w": "w",
    "width": "w",
}


def read_info(root: Path) -> dict[str, Any]:
    """The content of meta/info.json, of which all that readers use has been checked.

    Raises:
        DatasetError: a key that is missing or holds something else, or another version of the layout.
    """
    path = root / layout.INFO_PATH
    info = layout.load_json(path)
    if not isinstance(info, dict):
        raise DatasetError(f"{path}: expected a JSON object, got {quoted(info)}")
    version = info.get("codebase_version")
    if version != layout.CODEBASE_VERSION:
        found = version if isinstance(version, str) else quoted(version)
        raise DatasetError(
            f"{root}: codebase_version: expected {layout.CODEBASE_VERSION}, got {found[:40]}; "
            "LeRobot's convert_dataset_v21_to_v30 converts older datasets"
        )
    for key, least in {**dict.fromkeys(COUNTS, 0), "chunks_size": 1}.items():
        value = info.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 62:
            raise DatasetError(f"{path}: {key}: expected an integer of at least {least}, got {quoted(value)}")
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 1e6:
        raise DatasetError(f"{path}: fps: expected a positive number, got {quoted(fps)}")
    if info.get("data_path") != layout.DATA_PATH:
        raise DatasetError(
            f"{path}: data_path: expected {layout.DATA_PATH}, got {quoted(info.get('data_path'))}"
        )
    if not isinstance(info.get("features"), dict):
        raise DatasetError(f"{path}: features: expected an object, got {quoted(info.get('features'))}")
    if video_keys(info) and info.get("video_path") != layout.VIDEO_PATH:
        raise DatasetError(
            f"{path}: video_path: expected {layout.VIDEO_PATH}, got {quoted(info.get('video_path'))}"
        )
    return info


def video_keys(info: Mapping[str, Any]) -> list[str]:
    """The features whose images are in mp4 files, in order."""
    features = info["features"].items()
    return [key for key, value in features if isinstance(value, dict) and value.get("dtype") == "video"]


def read_features(root: Path, info: Mapping[str, Any]) -> dict[str, Column]:
    """The features of a checked info.json, cameras as (height, width, 3) however they are declared.

    Raises:
        DatasetError: a feature that cannot be read, or no index columns.
    """
    path = root / layout.INFO_PATH
    for key in info["features"]:  # before a message quotes it
        check_feature_name(f"{path}: features", key)
    features = {key: read_feature(f"{path}: features.{key}", key, value)
                for key, value in info["features"].items()}  # fmt: skip
    for key, expected in layout.INDEX_FEATURES.items():
        found = features.get(key)
        kind = "float" if key == "timestamp" else "int"
        if found is None or kind not in found.dtype or found.shape != (1,):
            got = "none" if found is None else f"{found.dtype}, shape {list(found.shape)}"
            raise DatasetError(
                f"{path}: features.{key}: expected {expected.dtype}, shape [1], as the layout's own column, "
                f"got {got}; give a feature of yours another name"
            )
    return features


def read_feature(where: str, key: str, value: Any) -> Column:
    """One entry of `features`; DatasetError when it cannot be read."""
    if not isinstance(value, dict):
        raise DatasetError(f"{where}: expected an object, got {quoted(value)}")
    dtype = value.get("dtype")
    dtype = (
        "language" if key in LANGUAGE_KEYS else _SAME.get(dtype, dtype) if isinstance(dtype, str) else dtype
    )
    if dtype not in (*NUMBERS, "string", "image", "video", "language"):
        raise DatasetError(
            f"{where}.dtype: expected a number type, string, image or video, got {quoted(dtype)}; "
            "remove the column or store it as one of these"
        )
    shape = _shape(where, value.get("shape"))
    if dtype in ("image", "video"):
        _refuse_depth(where, value)
        size = _image_shape(where, shape, value.get("names"))
        return Column(dtype, size, layout.AXES, _codec(value) if dtype == "video" else None)
    if dtype in ("string", "language") and shape != (1,):
        raise DatasetError(f"{where}.shape: expected [1] for texts, got {list(shape)}")
    names = element_names(value.get("names"))
    return Column(dtype, shape, names if names and len(names) == math.prod(shape) else None)


def _codec(value: Mapping[str, Any]) -> str | None:
    """Of a video, if a writer can go on with it."""
    told = value.get("info")
    codec = told.get("video.codec") if isinstance(told, dict) else None
    return codec if isinstance(codec, str) and codec in ENCODERS else None


def _refuse_depth(where: str, value: Mapping[str, Any]) -> None:
    """Depth is stored as grey of 12 bits, in which LeRobot has quantized it: no RGB image."""
    for name in ("info", "video_info"):
        told = value.get(name)
        for key in ("is_depth_map", "video.is_depth_map"):
            if isinstance(told, dict) and told.get(key):
                raise DatasetError(
                    f"{where}.{name}.{key}: expected a colour camera, got depth, which is read only as float "
                    "columns of shape (height, width); leave the column out"
                )


def check_feature_name(where: str, name: Any) -> None:
    """Raises DatasetError for a name that the columns `stats/NAME/mean` or a file cannot have."""
    if not isinstance(name, str) or not name or "/" in name or not name.isprintable():
        raise DatasetError(
            f"{where}: expected a printable name without '/', got {quoted(name)}; rename the column"
        )
    if len(name.encode()) > 200:
        raise DatasetError(
            f"{where}: expected a name of at most 200 bytes, got {quoted(name)}; rename the column"
        )


def _shape(where: str, shape: Any) -> tuple[int, ...]:
    fits = isinstance(shape, list) and 1 <= len(shape) <= 5
    if not fits or not all(_is_int(size) and 1 <= size < 1 << 31 for size in shape):
        raise DatasetError(f"{where}.shape: expected one to five positive integers, got {quoted(shape)}")
    return tuple(shape)


def _image_shape(where: str, shape: tuple[int, ...], names: Any) -> tuple[int, ...]:
    """(height, width, 3): as `names` call the axes; without them the axis of 3 is the channels."""
    if len(shape) != 3:
        raise DatasetError(f"{where}.shape: expected height, width and channels, got {list(shape)}")
    told = [_AXES.get(str(name).lower()) for name in element_names(names) or ()]
    if sorted(map(str, told)) == ["c", "h", "w"]:
        sides = dict(zip(told, shape, strict=True))
        height, width, channels = sides["h"], sides["w"], sides["c"]
    elif shape[2] != 3 and shape[0] == 3:
        channels, height, width = shape
    else:
        height, width, channels = shape
    if channels != 3 or max(height, width) > MAX_SIDE or height * width > MAX_SIDE**2 // 4:
        raise DatasetError(
            f"{where}.shape: expected 3 channels (RGB) and sides of at most {MAX_SIDE} pixels, "
            f"got {list(shape)}; convert the images"
        )
    return height, width, 3


def element_names(names: Any) -> tuple[str, ...] | None:
    """Names in order, from the forms that LeRobot's robots and converters write.

    They are a list, {"motors": [..]}, several such groups, or {"x": 0, "y": 1}. Names that occur twice get
    their group or a number, so that each is one element's own.
    """
    try:
        pairs = list(_leaves(names, ""))
    except RecursionError:
        return None
    if not pairs:
        return None
    count = Counter(name for _, name in pairs)
    full = [f"{group}.{name}" if group and count[name] > 1 else name for group, name in pairs]
    return _numbered(full) if len(set(full)) < len(full) else tuple(full)


def _leaves(names: Any, group: str) -> Iterator[tuple[str, str]]:
    if isinstance(names, dict):
        if names and all(_is_int(place) for place in names.values()):
            names = sorted(names, key=names.__getitem__)
        else:
            several = len(names) > 1
            for key, part in names.items():
                yield from _leaves(part, f"{group}.{key}".strip(".") if several else group)
            return
    if isinstance(names, list | tuple):
        for part in names:
            yield from _leaves(part, group)
    elif names is not None:
        yield group, str(names)


def _numbered(names: list[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    found: list[str] = []
    for name in names:
        seen[name] += 1
        candidate = name if seen[name] == 1 else f"{name}_{seen[name]}"
        while candidate in found:
            candidate += "_"
        found.append(candidate)
    return tuple(found)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
