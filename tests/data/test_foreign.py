"""Datasets that other programs wrote are read rightly, and `check` agrees with the reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_dataset import (
    CAMERA,
    LENGTHS,
    SHAPES,
    STYLES,
    TASKS,
    Wrapped,
    edit_column,
    edit_json,
    encode,
    frames,
    write_foreign,
    write_tasks,
)

from keystep.data import ChunkWindows, DatasetError, DatasetReader
from keystep.data.cache import mapped_columns
from keystep.data.check import check_dataset, inspect_dataset


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """As `import datasets` registers its extension types."""
    pa.register_extension_type(Wrapped(pa.list_(pa.float32())))
    yield
    pa.unregister_extension_type("foreign.wrapped")


def read_all(root: Path) -> dict[str, np.ndarray]:
    """All that a reader can be asked for."""
    reader = DatasetReader(root)
    batches = list(reader.iter_batches(batch_size=5))
    for episode in reader.episodes():
        assert reader.read_episode(episode)["index"].tolist() == list(range(episode.start, episode.stop))
    assert reader.stats is not None and reader.sha256() and reader.tasks is not None
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("per_meta_file", [1, 3])
def test_every_style_is_read_alike(tmp_path: Path, style: str, per_meta_file: int) -> None:
    if style in ("pandas", "polars"):
        pytest.importorskip(style)
    written = write_foreign(tmp_path, style, camera=[6, 8, 3], per_meta_file=per_meta_file)
    found = read_all(tmp_path)
    assert found.keys() == written.keys()
    for key, values in written.items():
        np.testing.assert_array_equal(found[key], values)
        assert found[key].dtype == values.dtype and found[key].shape == values.shape
    reader = DatasetReader(tmp_path)
    assert [episode.length for episode in reader.episodes()] == list(LENGTHS)
    assert [episode.instruction for episode in reader.episodes()] == [TASKS[0], TASKS[1], TASKS[0]]
    assert check_dataset(tmp_path) == []


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("style", ["fixed", "list", "extension"])
def test_policies_get_float32_however_it_was_recorded(tmp_path: Path, dtype: str, style: str) -> None:
    written = write_foreign(tmp_path / "d", style, dtype=dtype)
    reader = DatasetReader(tmp_path / "d")
    assert next(reader.iter_batches(["action"]))["action"].dtype == dtype
    columns = mapped_columns(reader, [*SHAPES, "counter", "task_index"], tmp_path / "c")
    for key in SHAPES:
        assert columns[key].dtype == np.float32
        np.testing.assert_array_equal(columns[key], written[key].astype(np.float32))
    assert columns["counter"].dtype == columns["task_index"].dtype == np.int64
    windows = ChunkWindows(
        reader, 4, observations=["observation.state"], cache=tmp_path / "c", lengths=(4, 4)
    )
    batch = windows.batch(np.arange(len(windows)), np.random.default_rng(0))
    assert batch["action"].dtype == batch["observation.state"].dtype == np.float32


@pytest.mark.parametrize("form", ["pandas", "pandas3", "level0", "column"])
def test_task_tables_of_every_kind(tmp_path: Path, form: str) -> None:
    write_foreign(tmp_path, tasks=form)
    assert DatasetReader(tmp_path).instructions.texts == TASKS
    assert check_dataset(tmp_path) == []


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, None),
        (["a", "b", "c"], ("a", "b", "c")),
        ({"motors": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"motors": {"left": ["a", "b"], "right": ["c"]}}, ("a", "b", "c")),
        ({"left": ["a"], "right": ["a", "b"]}, ("left.a", "right.a", "b")),
        ({"dz": 2, "dx": 0, "dy": 1}, ("dx", "dy", "dz")),
        ([["a", "b", "c"]], ("a", "b", "c")),
        ([0, 1, 2], ("0", "1", "2")),
        (["a", "a", "a"], ("a", "a_2", "a_3")),
        (["a", "b"], None),
        ({"motors": []}, None),
        ("a", None),
        (7, None),
    ],
)
def test_names_of_every_form(tmp_path: Path, names: Any, expected: tuple[str, ...] | None) -> None:
    write_foreign(tmp_path, names=names)
    assert DatasetReader(tmp_path).features["action"].names == expected
    assert check_dataset(tmp_path) == []
    told = [line for line in inspect_dataset(tmp_path).remarks if "features.action.names" in line]
    assert bool(told) == (names in (["a", "b"], "a", 7))


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ([6, 8, 3], None),
        ([6, 8, 3], ["height", "width", "channels"]),
        ([3, 6, 8], None),
        ([3, 6, 8], ["channels", "height", "width"]),
        ([3, 6, 8], ["channel", "height", "width"]),
        ([8, 6, 3], ["width", "height", "channel"]),
        ([6, 8, 3], ["height", "width", "rgb"]),
        ([3, 6, 8], {"axes": ["c", "h", "w"]}),
    ],
)
def test_cameras_declared_in_any_order(tmp_path: Path, shape: list[int], names: Any) -> None:
    written = write_foreign(tmp_path, camera=shape, camera_names=names)
    reader = DatasetReader(tmp_path)
    assert reader.features[CAMERA].shape == (6, 8, 3) and reader.cameras == [CAMERA]
    np.testing.assert_array_equal(read_all(tmp_path)[CAMERA], written[CAMERA])
    assert check_dataset(tmp_path) == []


def test_a_camera_of_three_rows_goes_by_its_names(tmp_path: Path) -> None:
    write_foreign(tmp_path, camera=[6, 8, 3])
    for names, expected in ((["channels", "height", "width"], (8, 3, 3)), (None, (3, 8, 3))):
        entry = {"shape": [3, 8, 3], "names": names}
        edit_json(tmp_path / "meta/info.json", lambda info, e=entry: info["features"][CAMERA].update(e))
        assert DatasetReader(tmp_path).features[CAMERA].shape == expected


def test_images_that_are_no_png_or_only_bytes(tmp_path: Path) -> None:
    written = write_foreign(tmp_path, camera=[6, 8, 3])
    lossless = {"format": "WEBP", "lossless": True}
    coded = [encode(image, **(lossless if n % 2 else {})) for n, image in enumerate(written[CAMERA][:11])]
    grey = np.full((6, 8), 90, np.uint8)
    coded[0] = encode(grey)
    edit_column(tmp_path, CAMERA, lambda _: pa.array(coded, pa.large_binary()))
    found = read_all(tmp_path)[CAMERA]
    np.testing.assert_array_equal(found[1:], written[CAMERA][1:])
    assert (found[0] == 90).all() and check_dataset(tmp_path) == []


def test_a_single_image_can_be_read_but_names_no_camera(tmp_path: Path) -> None:
    written = write_foreign(tmp_path, camera=[6, 8, 3])
    single = "observation.image"
    edit_json(
        tmp_path / "meta/info.json",
        lambda info: info["features"].update({single: info["features"].pop(CAMERA)}),
    )
    for number in (0, 1):
        rename(tmp_path / f"data/chunk-000/file-{number:03d}.parquet", CAMERA, single)
    np.testing.assert_array_equal(read_all(tmp_path)[single], written[CAMERA])
    with pytest.raises(DatasetError, match=r"features.observation.image: expected .*observation.images.NAME"):
        _ = DatasetReader(tmp_path).cameras
    findings = inspect_dataset(tmp_path)
    assert findings.problems == [] and any(single in line for line in findings.remarks)


def rename(path: Path, old: str, new: str) -> None:
    table = pq.read_table(path)
    pq.write_table(table.rename_columns([new if name == old else name for name in table.column_names]), path)


def test_annotations_are_rows_of_text(tmp_path: Path) -> None:
    """As LeRobot 0.6 stores them; it knows the columns by name."""
    write_foreign(tmp_path)
    rows = [[{"role": "user", "content": f"go {n}", "style": "subtask"}] for n in range(sum(LENGTHS))]
    for number, part in enumerate((rows[:11], rows[11:])):
        add_column(tmp_path / f"data/chunk-000/file-{number:03d}.parquet", "language_events", pa.array(part))
    entry = {"language_events": {"dtype": "language", "shape": [1], "names": None}}
    edit_json(tmp_path / "meta/info.json", lambda info: info["features"].update(entry))
    assert read_all(tmp_path)["language_events"].tolist() == rows
    assert check_dataset(tmp_path) == []
    with pytest.raises(DatasetError, match="expected numbers or images, got 'language_events'"):
        mapped_columns(DatasetReader(tmp_path), ["language_events"], tmp_path / "c")


def add_column(path: Path, name: str, values: pa.Array) -> None:
    pq.write_table(pq.read_table(path).append_column(name, values), path)


def test_columns_that_info_does_not_name_are_left_out(tmp_path: Path) -> None:
    """Such as the index that pandas adds."""
    written = write_foreign(tmp_path)
    for number, rows in enumerate((11, 9)):
        path = tmp_path / f"data/chunk-000/file-{number:03d}.parquet"
        add_column(path, "__index_level_0__", pa.array(range(rows)))
        add_column(path, "action.delta", pa.array(range(rows)))
    np.testing.assert_array_equal(read_all(tmp_path)["action"], written["action"])
    findings = inspect_dataset(tmp_path)
    assert findings.problems == [] and any("__index_level_0__" in line for line in findings.remarks)


@pytest.mark.parametrize("damage", ["missing", "nan", "short", "ahead", "none at all"])
def test_statistics_are_computed_anew_where_they_cannot_be_used(tmp_path: Path, damage: str) -> None:
    written = write_foreign(tmp_path, camera=[6, 8, 3] if damage == "none at all" else None)
    path = tmp_path / "meta/stats.json"
    if damage == "missing":
        path.unlink()
    elif damage == "none at all":
        write_foreign(tmp_path, camera=[6, 8, 3], stats=False)
        path.unlink()
    else:
        change = {"nan": {"std": [float("nan")] * 3}, "short": {"min": [0.0]}, "ahead": {"count": [99]}}[
            damage
        ]
        edit_json(path, lambda stats: stats["action"].update(change))
    found = DatasetReader(tmp_path).stats
    for key in SHAPES:
        values = written[key].astype(np.float64)
        for kind in ("min", "max", "mean", "std"):
            expected = getattr(values, kind)(axis=0).reshape(-1)
            np.testing.assert_allclose(found[key][kind].reshape(-1), expected, rtol=1e-5, atol=1e-5)
        assert found[key]["count"].tolist() == [len(values)]
    if damage == "none at all":
        mean = written[CAMERA].mean(axis=(0, 1, 2)) / 255
        np.testing.assert_allclose(found[CAMERA]["mean"].reshape(-1), mean, rtol=1e-6)
    assert check_dataset(tmp_path) == []


def test_fps_may_be_a_fraction(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    edit_json(tmp_path / "meta/info.json", lambda info: info.update(fps=29.97))
    findings = inspect_dataset(tmp_path)
    assert findings.problems == [] and any("timestamp" in line for line in findings.remarks)


def test_more_instructions_than_were_committed(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    digest = DatasetReader(tmp_path).sha256()
    write_tasks(tmp_path, "pandas", [*TASKS, "a third"], [0, 1, 7])
    assert DatasetReader(tmp_path).instructions.texts == TASKS and check_dataset(tmp_path) == []
    assert len(digest) == len(DatasetReader(tmp_path).sha256())
    assert frames().keys() == read_all(tmp_path).keys()


def test_rows_beyond_the_last_commit_are_not_seen(tmp_path: Path) -> None:
    """Here info.json has committed to the first two episodes only, and not to all rows of their files."""
    written = write_foreign(tmp_path)
    path = tmp_path / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table.slice(3)]), path)
    committed = {"total_episodes": 2, "total_frames": 11}
    edit_json(tmp_path / "meta/info.json", lambda info: info.update(committed))
    found = read_all(tmp_path)
    for key, values in written.items():
        np.testing.assert_array_equal(found[key], values[:11])
    findings = inspect_dataset(tmp_path)
    assert findings.problems == []
    assert any(line.startswith("data/chunk-000/file-001.parquet: left over") for line in findings.remarks)


def test_what_policies_cannot_take_is_refused_by_name(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    reader = DatasetReader(tmp_path)
    assert reader.vector("action").shape == (3,)
    for key, found in (
        ("observation.pose", r"float32 of shape \[4, 4\]"),
        ("note", r"string of shape \[1\]"),
        ("observation.velocity", "none"),
    ):
        message = f"features.{key}: expected numbers of one dimension, found {found}"
        with pytest.raises(DatasetError, match=message):
            reader.vector(key)
