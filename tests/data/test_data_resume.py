"""What may differ when a dataset is continued, and what the refusal says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_dataset import TASKS, die_in_flush, make_frames, make_spec, write

from keystep.data import Column, DatasetError, DatasetReader, DatasetSpec, DatasetWriter
from keystep.data.check import check_dataset
from keystep.data.settings import first_difference

NAMES = tuple(f"object_{number}" for number in range(160))


def wide_spec(**changes: Column | None) -> DatasetSpec:
    """With a column of many names; `changes` replaces columns, or takes them out."""
    features = {
        "objects": Column("float32", (160,), NAMES),
        "action": Column("float32", (2,), ("dx", "gripper")),
    }
    kept = {key: feature for key, feature in {**features, **changes}.items() if feature is not None}
    return DatasetSpec(20, kept, TASKS)


def write_wide(path: Path) -> None:
    with DatasetWriter(path, wide_spec()) as writer:
        frames = {"objects": np.zeros((3, 160), np.float32), "action": np.zeros((3, 2), np.float32)}
        writer.add_episode(frames, "stack", seed=0)


def test_other_settings_cannot_resume(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, make_spec(noise=0.0)) as writer:
        writer.add_episode(make_frames(0, 5), "stack", seed=0)
    hint = "; use another output folder for different settings"
    for spec, message in (
        (make_spec(noise=0.5), "noise: expected 0.5 to resume, got 0.0"),
        (make_spec(), "noise: expected none to resume, got 0.0"),
        (make_spec(noise=0.0, more=[1, 2]), r"more: expected \[1, 2\] to resume, got none"),
        (dataclasses.replace(make_spec(noise=0.0), fps=50), "fps: expected 50 to resume, got 60"),
        (
            dataclasses.replace(make_spec(noise=0.0), robot_type=None),
            "robot_type: expected none to resume, got",
        ),
    ):
        with pytest.raises(DatasetError, match=f": {message}.*{hint}$"):
            DatasetWriter(tmp_path, spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"extra": Column("bool", (1,))},
            r"features.extra: expected {'dtype': 'bool'.* to resume, got none",
        ),
        ({"objects": None}, r"features.objects: expected none to resume, got {'dtype': 'float32', .*\.\."),
        (
            {"action": Column("float64", (2,), ("dx", "gripper"))},
            r"features.action.dtype: expected 'float64' to resume, got 'float32'",
        ),
        (
            {"objects": Column("float32", (160,), (*NAMES[:-1], "other"))},
            r"features.objects.names\[159\]: expected 'other' to resume, got 'object_159'",
        ),
        (
            {"objects": Column("float32", (159,), NAMES[1:])},
            r"features.objects.shape: expected \[159\] to resume, got \[160\]",
        ),
    ],
)
def test_the_first_column_that_differs_is_named_alone(tmp_path: Path, changes: dict, message: str) -> None:
    write_wide(tmp_path)
    with pytest.raises(DatasetError, match=message) as caught:
        DatasetWriter(tmp_path, wide_spec(**changes))
    assert len(str(caught.value).removeprefix(str(tmp_path))) < 300


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
)


@given(VALUES, VALUES)
def test_a_difference_is_told_in_few_words_exactly_where_there_is_one(first: object, second: object) -> None:
    assert first_difference("x", first, first) is None
    told = first_difference("x", first, second)
    assert (told is None) == (first == second)
    if told is not None:
        assert told.startswith("x") and len(told) < 400


def test_notes_are_kept_and_not_compared(tmp_path: Path) -> None:
    def spec(**notes: str) -> DatasetSpec:
        return dataclasses.replace(make_spec(noise=0.5), notes=notes)

    for number, version in enumerate("12"):
        with DatasetWriter(tmp_path, spec(made_with=version)) as writer:
            writer.add_episode(make_frames(number, 2), "stack", seed=number)
        assert DatasetReader(tmp_path).collection["made_with"] == "1"
    with pytest.raises(DatasetError, match="made_with: expected none to resume, got '1'"):
        DatasetWriter(tmp_path, spec())


def test_a_dataset_without_notes_is_continued(tmp_path: Path) -> None:
    """As of a version that did not write any."""
    write(tmp_path, 2)
    with DatasetWriter(tmp_path, dataclasses.replace(make_spec(), notes={"made_with": "2"})) as writer:
        writer.add_episode(make_frames(0, 2), "stack", seed=0)
    assert "made_with" not in DatasetReader(tmp_path).collection


# ---- empty datasets ---------------------------------------------------------------------------------------


def test_no_tasks(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="tasks: expected at least one, got none"):
        DatasetWriter(tmp_path / "d", dataclasses.replace(make_spec(), tasks={}))
    assert not (tmp_path / "d").exists()


def test_an_empty_dataset_takes_other_settings(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, dataclasses.replace(make_spec(True, noise=0.5), tasks={"fly": "Fly."})):
        pass
    with DatasetWriter(tmp_path, make_spec(noise=0.0)) as writer:
        writer.add_episode(make_frames(0, 5), "stack", seed=0)
    reader = DatasetReader(tmp_path)
    assert reader.collection["noise"] == 0.0 and not reader.image_keys
    assert reader.instructions.texts == list(TASKS.values()) and check_dataset(tmp_path) == []


@pytest.mark.parametrize("renames", range(4))
def test_so_does_one_whose_first_flush_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    writer = DatasetWriter(tmp_path, make_spec(noise=0.5))
    writer.add_episode(make_frames(9, 5), "stack", seed=9)
    die_in_flush(writer, renames, monkeypatch)
    with DatasetWriter(tmp_path, make_spec(noise=0.0)):
        assert check_dataset(tmp_path) == [] and DatasetReader(tmp_path).stats == {}
        kept = {file.name for file in tmp_path.rglob("*") if file.is_file()}
        assert kept == {"info.json", "keystep.json", "tasks.parquet"}


def test_an_empty_dataset_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, make_spec()):
        pass
    (tmp_path / "meta/keystep.json").unlink()
    before = (tmp_path / "meta/info.json").read_bytes()
    with pytest.raises(DatasetError, match="format: expected 'keystep-collection' to resume, got none"):
        DatasetWriter(tmp_path, make_spec())
    assert (tmp_path / "meta/info.json").read_bytes() == before


def test_a_dataset_with_episodes_is_never_created_anew(tmp_path: Path) -> None:
    write(tmp_path, 2)
    file = tmp_path / "meta/keystep.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "seed": 3}))
    with pytest.raises(DatasetError, match="seed: expected none to resume, got 3"):
        DatasetWriter(tmp_path, make_spec())
    assert len(DatasetReader(tmp_path)) == 2


def test_data_files_in_another_order_are_left_alone(tmp_path: Path) -> None:
    """As another tool may split them: their numbers would be given again."""
    write(tmp_path, 2)
    data = tmp_path / "data/chunk-000"
    (data / "file-000.parquet").rename(data / "file-004.parquet")
    rows = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(rows)
    number = table.schema.get_field_index("data/file_index")
    pq.write_table(table.set_column(number, "data/file_index", pa.array([4, 4])), rows)
    with pytest.raises(DatasetError, match="expected a data file for each file of meta/episodes to resume"):
        DatasetWriter(tmp_path, make_spec())
    assert (data / "file-004.parquet").exists()
