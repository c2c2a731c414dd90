"""Damaged images, sizes that are not there, seeded mutations: refused by reader and `check`, or read."""

from __future__ import annotations

import dataclasses
import json
import random
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from foreign_dataset import CAMERA, column, edit_column, encode, write_foreign
from foreign_faults import DATA, INFO, STATS, patched, refusal, refused_by_both, set_feature, set_info

from keystep.data import DatasetError, DatasetReader
from keystep.data.check import check_dataset


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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_foreign(tmp_path / "d", camera=[6, 8, 3])
    return tmp_path / "d"


@pytest.mark.parametrize(("data", "message"), IMAGES)
def test_a_damaged_image_behind_sound_ones(root: Path, data: bytes | None, message: str) -> None:
    edit_column(
        root, CAMERA, lambda array: pa.array(patched(9, {"bytes": data, "path": "x"})(array), array.type)
    )
    refused_by_both(root, message)
    assert "file-000.parquet: observation.images.top: row 9: " in str(refusal(root))


# ---- sizes and mutations ----------------------------------------------------------------------------------


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
    for number in range(80):
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


def test_deep_values_are_ignored_or_told_short(root: Path) -> None:
    deep: Any = json.loads("[" * 850 + "]" * 850)
    set_info(splits=deep)(root)
    set_feature("action", names=deep)(root)
    (root / STATS).write_text(json.dumps({"action": {"min": deep}}))
    assert refusal(root) is None and check_dataset(root) == []
    set_feature("action", shape=deep)(root)
    refused_by_both(root, "features.action.shape: expected one to five positive integers, got [[[[...]]]]")


def test_an_episode_of_another_dataset(root: Path) -> None:
    reader = DatasetReader(root)
    other = dataclasses.replace(reader.episode(2), stop=10**9)
    with pytest.raises(DatasetError, match=r"episode: expected one of .* got 11\.\.1000000000"):
        reader.read_episode(other)
