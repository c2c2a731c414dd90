"""Damaged and hostile datasets: a DatasetError that names the place, from the reader and from `check`."""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_dataset import (
    CAMERA,
    TASKS,
    column,
    edit_column,
    edit_episodes,
    edit_json,
    encode,
    write_foreign,
    write_tasks,
)

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


NESTED = b"[" * 100_000 + b"]" * 100_000
INFO_FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (set_info(fps=0), "fps: expected a positive number, got 0"),
    (set_info(fps=-30), "fps: expected"),
    (set_info(fps=float("nan")), "fps: expected"),
    (set_info(fps=float("inf")), "fps: expected"),
    (set_info(fps="30"), "fps: expected"),
    (set_info(fps=True), "fps: expected"),
    (drop_info("fps"), "fps: expected"),
    (set_info(chunks_size=0), "chunks_size: expected an integer of at least 1, got 0"),
    (set_info(chunks_size=None), "chunks_size: expected"),
    (set_info(total_episodes=-1), "total_episodes: expected"),
    (set_info(total_episodes=3.0), "total_episodes: expected"),
    (set_info(total_episodes=10**30), "total_episodes: expected"),
    (set_info(total_episodes=10**9), "meta/episodes: expected 1000000000 rows"),
    (set_info(total_frames=[20]), "total_frames: expected"),
    (set_info(total_frames=10**12), "total_frames: expected 20"),
    (set_info(total_frames=0), "total_frames: expected 20"),
    (set_info(total_tasks=10**8), "tasks.parquet: expected 100000000 instructions, got 2"),
    (set_info(total_tasks="2"), "total_tasks: expected"),
    (set_info(total_tasks=1), "task_index: expected 0..0"),
    (drop_info("total_tasks"), "total_tasks: expected"),
    (set_info(codebase_version=3), "codebase_version: expected v3.0"),
    (set_info(codebase_version="v2.1"), "convert_dataset_v21_to_v30"),
    (set_info(data_path="../../etc/{chunk_index}/{file_index}"), "data_path: expected"),
    (set_info(data_path="data/{chunk_index.__class__}{file_index}"), "data_path: expected"),
    (set_info(data_path="data/{chunk_index:099999999d}{file_index}"), "data_path: expected"),
    (set_info(data_path=None), "data_path: expected"),
    (set_info(features=None), "features: expected"),
    (set_info(features=[]), "features: expected"),
    (set_info(features={}), "features.timestamp: expected float32"),
    (set_info(features={"action": 5}), "features.action: expected an object, got 5"),
    (drop_feature("task_index"), "features.task_index: expected int64, shape [1]"),
    (set_feature("index", shape=[3], dtype="float32"), "features.index: expected int64, shape [1]"),
    (set_feature("timestamp", shape=[2]), "features.timestamp: expected float32, shape [1]"),
    (set_feature(ACTION, shape=None), "features.action.shape: expected one to five positive integers"),
    (set_feature(ACTION, shape=[]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=[0]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=[-3]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=["3"]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=[1 << 40]), "features.action.shape: expected one to five"),
    (set_feature(ACTION, shape=[4]), "action: expected float32 of shape [4], got 3 elements"),
    (set_feature(ACTION, shape=[3, 1]), "action: expected float32 of shape [3, 1], got values of type float"),
    (set_feature("observation.pose", shape=[16]), "observation.pose: expected float32 of shape [16], got 4"),
    (set_feature(ACTION, dtype="object"), "features.action.dtype: expected a number type"),
    (set_feature(ACTION, dtype=["float32"]), "features.action.dtype: expected a number type"),
    (set_feature(ACTION, dtype="datetime64[ns]"), "features.action.dtype: expected a number type"),
    (set_feature(ACTION, dtype="int64"), "action: expected values that int64 can hold"),
    (set_feature("note", dtype="float32"), "note: expected float32 of shape [1], got"),
    (set_feature("counter", dtype="string"), "counter: expected text, got int64"),
    (set_feature("counter", dtype="uint8"), "counter: expected values that uint8 can hold"),
    (set_feature("note", shape=[2]), "features.note.shape: expected [1] for texts"),
    (set_feature("a/b", dtype="float32", shape=[1]), "features.a/b: expected a printable name without '/'"),
    (set_feature("..\0", dtype="float32", shape=[1]), "expected a printable name"),
    (set_feature("x" * 300, dtype="float32", shape=[1]), "expected a name of at most 200 bytes"),
    (set_feature("more", dtype="float32", shape=[1]), "file-000.parquet: expected the column more"),
    (
        set_feature("observation.images.a", dtype="video", shape=[6, 8, 3]),
        "got video, which cannot be trained on",
    ),
    (set_feature(CAMERA, shape=[6, 8, 1]), "features.observation.images.top.shape: expected 3 channels"),
    (set_feature(CAMERA, shape=[6, 8]), "expected height, width and channels"),
    (set_feature(CAMERA, shape=[60000, 60000, 3]), "sides of at most 16384 pixels"),
    (set_feature(CAMERA, shape=[8, 6, 3]), "expected 8 x 6 pixels as declared, got 6 x 8"),
    (raw(INFO, b'{"fps": \xff}'), "info.json: expected JSON in UTF-8"),
    (raw(INFO, b"\xef\xbb\xbf{}"), "info.json: expected JSON"),
    (raw(INFO, b'{"\\ud800": 1}'), "info.json: expected JSON in UTF-8"),
    (raw(INFO, b""), "info.json: expected JSON"),
    (raw(INFO, b"[]"), "info.json: expected a JSON object"),
    (raw(INFO, b"null"), "info.json: expected a JSON object"),
    (raw(INFO, NESTED), "info.json: expected JSON, got too many levels"),
    (raw(INFO, b'{"total_frames": ' + b"9" * 10_000 + b"}"), "info.json: expected JSON"),
    (raw(INFO, b'"' + b"x" * (17 << 20) + b'"'), "info.json: expected at most 16 MiB"),
    (raw(STATS, NESTED), "stats.json: expected JSON"),
    (raw(STATS, b"[1]"), "stats.json: expected an object"),
    (raw(COLLECTION, b"[]"), "keystep.json: expected an object"),
    (raw(COLLECTION, b'{"tasks": [{"name": 1}]}'), "keystep.json: expected an object"),
]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("foreign") / "d"
    write_foreign(root, camera=[6, 8, 3])
    assert refusal(root) is None and check_dataset(root) == []
    return root


@pytest.fixture
def root(healthy: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(healthy, tmp_path / "d"))


@pytest.mark.parametrize(("damage", "message"), INFO_FAULTS)
def test_damaged_meta_files(root: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(root)
    refused_by_both(root, message)


# ---- tables -----------------------------------------------------------------------------------------------


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


def swap_files(root: Path) -> None:
    first, second = (root / f"data/chunk-000/file-{number:03d}.parquet" for number in (0, 1))
    first.rename(root / "aside")
    second.rename(first)
    (root / "aside").rename(second)


def reorder_rows(root: Path) -> None:
    """The second episode first, in the data file only."""
    table = pq.read_table(root / DATA)
    pq.write_table(pa.concat_tables([table.slice(7), table.slice(0, 7)]), root / DATA)


FLOATS = pa.list_(pa.float32())
TABLE_FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (set_values("index", lambda v: v * 2), "index: expected 1 in frame 1"),
    (set_values("index", lambda v: v + 5, 1), "file-001.parquet: episode 2: index: expected 11"),
    (set_values("episode_index", patched(8, 0)), "episode_index: expected 1 in frame 8"),
    (set_values("frame_index", lambda v: v + 1), "frame_index: expected 0 in frame 0"),
    (set_values("task_index", patched(2, -1)), "episode 0: task_index: expected 0..1"),
    (set_values("task_index", patched(2, 2)), "episode 0: task_index: expected 0..1"),
    (
        set_values("task_index", patched(2, 1)),
        "episode 0: tasks: expected ['öffne die Tür 🚪'] as task_index says",
    ),
    (set_array("task_index", patched(2, None), pa.int64()), "task_index: expected a value in every frame"),
    (reorder_rows, "index: expected 0 in frame 0"),
    (swap_files, "file-000.parquet: expected 11 rows as its episodes have, got 9"),
    (lambda root: edit_episodes(root, lambda rows: rows[::-1]), "episode_index: expected 0"),
    (lambda root: edit_episodes(root, lambda rows: rows[:2]), "meta/episodes: expected 3 rows"),
    (set_row(1, episode_index=0), "episode_index: expected 1"),
    (set_row(1, dataset_from_index=8, length=3), "episode 1: dataset_from_index: expected 7"),
    (set_row(1, length=5), "episode 1: dataset_to_index: expected"),
    (set_row(1, dataset_to_index=7, length=0), "with at least one frame"),
    (set_row(1, dataset_to_index=2**61, length=2**61 - 7), "episode 2: dataset_from_index: expected"),
    (set_row(1, **{"data/file_index": -1}), "data/file_index: expected integers of at least 0"),
    (set_row(1, **{"data/file_index": None}), "data/file_index: expected integers of at least 0"),
    (set_row(2, **{"data/file_index": 7}), "data: expected the files data/chunk-000/file-007.parquet"),
    (set_row(1, tasks=[]), "episode 1: tasks: expected a list of texts"),
    (set_row(1, tasks=["unknown"]), "episode 1: tasks: expected"),
    (lambda root: write_tasks(root, "pandas", TASKS, [1, 0]), "task_index: expected 0..1 in order"),
    (lambda root: write_tasks(root, "pandas", TASKS[:1]), "tasks.parquet: expected 2 instructions, got 1"),
    (
        lambda root: pq.write_table(
            pa.table({"task_index": [0, 1], "task": [b"a", b"b"]}), root / "meta/tasks.parquet"
        ),
        "tasks.parquet: task: expected text, got binary",
    ),
    (
        lambda root: pq.write_table(
            pa.table({"task_index": [0, 1], "words": ["a", "b"]}), root / "meta/tasks.parquet"
        ),
        "tasks.parquet: expected the texts as index or as column task",
    ),
    (raw("meta/tasks.parquet", b"PAR1"), "tasks.parquet: expected a readable parquet file"),
    (
        lambda root: (root / "meta/tasks.parquet").unlink(),
        "tasks.parquet: expected a dataset file, found none",
    ),
    (lambda root: os.truncate(root / DATA, 2000), "file-000.parquet: expected a readable parquet file"),
    (
        lambda root: os.truncate(root / "meta/episodes/chunk-000/file-000.parquet", 100),
        "meta/episodes/chunk-000/file-000.parquet: expected a readable parquet file",
    ),
    (
        lambda root: (
            (root / "data/chunk-000/file-0000.parquet").write_bytes((root / DATA).read_bytes()) and None
        ),
        "file-0000.parquet: expected only files that meta/episodes names",
    ),
    (set_array(ACTION, patched(3, [1.0, 2.0]), FLOATS), "got 2 elements instead of 3"),
    (set_array(ACTION, patched(3, None), FLOATS), "action: expected a value in every frame"),
    (set_array(ACTION, patched(3, [1.0, None, 2.0]), FLOATS), "action: expected a value in every frame"),
    (set_array(ACTION, patched(3, [1.0, float("nan"), 2.0]), FLOATS), "got NaN or infinity in row 3"),
    (
        set_array(ACTION, patched(3, [1.0, 1e300, 2.0]), pa.list_(pa.float64())),
        "action: expected values that float32",
    ),
    (lambda root: edit_column(root, ACTION, lambda a: pa.array(["x"] * len(a))), "action: expected float32"),
    (
        lambda root: edit_column(root, ACTION, lambda a: a.flatten()[:11]),
        "action: expected float32 of shape [3]",
    ),
    (set_array("next.done", patched(3, None), pa.bool_()), "next.done: expected a value in every frame"),
    (set_array("note", patched(3, None), pa.string()), "note: expected a value in every frame"),
    (set_array("note", patched(3, "a\0"), pa.string()), "note: expected text without NUL"),
    (
        set_array(CAMERA, lambda a: [{"path": "x.png"}] * len(a), pa.struct([("path", pa.string())])),
        "struct<bytes",
    ),
    (
        lambda root: edit_column(root, CAMERA, lambda a: pa.array(["x.png"] * len(a))),
        "expected images as struct",
    ),
]


@pytest.mark.parametrize(("damage", "message"), TABLE_FAULTS)
def test_damaged_tables(root: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(root)
    refused_by_both(root, message)


def test_a_column_that_is_there_twice(root: Path) -> None:
    table = pq.read_table(root / DATA)
    pq.write_table(table.append_column(ACTION, table[ACTION]), root / DATA)
    refused_by_both(root, "file-000.parquet: expected the column action as in info.json, found several")


# ---- images -----------------------------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    """A PNG that says it is so large and has no pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    packed = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
              for kind, data in chunks)  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def flipped(data: bytes) -> bytes:
    """One bit of the pixels is wrong."""
    place = data.index(b"IDAT") + 30
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


RNG = np.random.default_rng(0)
SOUND = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
IMAGES: list[tuple[bytes | None, str]] = [
    (png(60_000, 60_000), "expected an image that can be decoded"),
    (png(12_000, 9_000), "expected 6 x 8 pixels as declared, got 9000 x 12000"),
    (encode(SOUND)[:-30], "expected an image that can be decoded"),
    (encode(SOUND)[:-13], "expected an image that can be decoded"),
    (flipped(encode(SOUND)), "expected an image that can be decoded"),
    (b"", "expected an image that can be decoded"),
    (b"no image at all", "expected an image that can be decoded"),
    (None, "expected image bytes in the data file, found none"),
    (encode(SOUND[:5]), "expected 6 x 8 pixels as declared, got 5 x 8"),
    (encode(np.dstack([SOUND, SOUND[:, :, :1]])), "expected an RGB image, got mode RGBA"),
    (encode(SOUND[:, :, 0].astype(np.uint16) * 200), "expected an RGB image, got mode I;16"),
    (encode(SOUND, format="GIF"), "expected an image that can be decoded"),
]


@pytest.mark.parametrize(("data", "message"), IMAGES)
def test_a_damaged_image_behind_sound_ones(root: Path, data: bytes | None, message: str) -> None:
    edit_column(
        root, CAMERA, lambda array: pa.array(patched(9, {"bytes": data, "path": "x"})(array), array.type)
    )
    refused_by_both(root, message)
    assert "file-000.parquet: observation.images.top: row 9: " in str(refusal(root))


# ---- hostile sizes and mutations --------------------------------------------------------------------------


def test_counts_take_no_memory(root: Path) -> None:
    """`total_tasks: 1e8` took 4 GB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for changes in ({"total_tasks": 10**8}, {"total_frames": 10**15}, {"total_episodes": 10**15}):
        set_info(**changes)(root)
        assert check_dataset(root) and refusal(root)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


VALUES = (
    None,
    True,
    0,
    -1,
    2**63,
    10**40,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    "ä\u202e",
    [],
    [0],
    [[]],
    {},
    {"a": 1},
)


def mutated(value: Any, rng: random.Random, depth: int = 0) -> Any:
    """`value` with one part replaced, removed or doubled."""
    if isinstance(value, dict | list) and value and (depth == 0 or rng.random() < 0.8):
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        copy = value.copy()
        if rng.random() < 0.2:
            del copy[key]
        else:
            copy[key] = mutated(value[key], rng, depth + 1)
        return copy
    return rng.choice(VALUES)


def garbled(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    kind = rng.randrange(3)
    if kind == 0:
        return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    return data[:place] if kind == 1 else data[:place] + rng.randbytes(4) + data[place:]


@pytest.mark.parametrize("name", [INFO, STATS])
def test_mutated_json_is_a_dataset_error_or_read(root: Path, name: str) -> None:
    rng, data = random.Random(11), (root / name).read_bytes()
    value = json.loads(data)
    for number in range(120):
        text = garbled(data, rng) if number % 3 == 0 else json.dumps(mutated(value, rng)).encode()
        (root / name).write_bytes(text)
        assert (refusal(root) is None) == (check_dataset(root) == []), text[:2000]


@pytest.mark.parametrize("name", ["meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet", DATA])
def test_garbled_parquet_is_a_dataset_error_or_read(root: Path, name: str) -> None:
    rng, data = random.Random(12), (root / name).read_bytes()
    for _ in range(40):
        (root / name).write_bytes(garbled(data, rng))
        assert (refusal(root) is None) == (check_dataset(root) == [])


def test_the_generator_makes_what_it_says() -> None:
    assert column(np.zeros((2, 3), np.float32), "large_list").type == pa.large_list(pa.float32())
