"""Datasets of code: strings and truth values per frame, extras per episode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from code_dataset import code_frames, code_spec, read_column, write_codes
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_dataset import TASKS, write

from keystep.data import Column, DatasetError, DatasetReader, DatasetSpec, DatasetWriter
from keystep.data.cache import mapped_columns
from keystep.data.check import check_dataset

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
DATA_FILE = "data/chunk-000/file-000.parquet"


# ---- strings and truth values -----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.tuples(TEXTS, st.booleans()), min_size=1, max_size=9), min_size=1, max_size=5))
def test_any_text_is_read_back(tmp_path_factory: pytest.TempPathFactory, episodes: list) -> None:
    path = tmp_path_factory.mktemp("d")
    with DatasetWriter(path, code_spec(), flush_episodes=2) as writer:
        for number, rows in enumerate(episodes):
            codes, keysteps = (list(column) for column in zip(*rows, strict=True))
            writer.add_episode(code_frames(number, codes, keysteps), "stack", seed=number)
    assert check_dataset(path) == []
    codes, keysteps = read_column(path, "code"), read_column(path, "keystep")
    assert codes.dtype == object and keysteps.dtype == bool and codes.shape == keysteps.shape
    assert list(zip(codes, keysteps.tolist(), strict=True)) == [row for rows in episodes for row in rows]
    assert {type(code) for code in codes} == {str}


def test_lists_and_arrays_of_strings_are_the_same(tmp_path: Path) -> None:
    codes = ["pick(é)", "", "# pick\n# on two lines"]
    for name, given_codes in (
        ("list", codes),
        ("object", np.array(codes, dtype=object)),
        ("unicode", np.array(codes)),
    ):
        with DatasetWriter(tmp_path / name, code_spec()) as writer:
            writer.add_episode({**code_frames(0, codes), "code": given_codes}, "stack", seed=0)
    digests = {DatasetReader(tmp_path / name).sha256() for name in ("list", "object", "unicode")}
    assert len(digests) == 1
    assert read_column(tmp_path / "list", "code").tolist() == codes


def test_the_files_have_the_types_that_lerobot_expects(tmp_path: Path) -> None:
    import json

    write_codes(tmp_path)
    schema = pq.read_schema(tmp_path / DATA_FILE)
    assert schema.field("code").type == pa.string() and schema.field("keystep").type == pa.bool_()
    hub = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert hub["code"] == {"dtype": "string", "_type": "Value"}
    assert hub["keystep"] == {"dtype": "bool", "_type": "Value"}
    info = DatasetReader(tmp_path).info["features"]
    assert info["code"] == {"dtype": "string", "shape": [1], "names": None}


def test_repeated_code_is_stored_once(tmp_path: Path) -> None:
    line = "# move3d(get_actor('red cube', actor_pos=(3, 4)))"
    with DatasetWriter(tmp_path, code_spec()) as writer:
        writer.add_episode(code_frames(0, [line] * 5000), "stack", seed=0)
    group = pq.ParquetFile(tmp_path / DATA_FILE).metadata.row_group(0)
    column = next(
        group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == "code"
    )
    assert "RLE_DICTIONARY" in column.encodings
    assert column.total_uncompressed_size < 5000 * len(line) / 100


def test_statistics_are_of_truth_values_and_not_of_strings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episodes = [rng.random(length) < 0.3 for length in (4, 9, 6)]
    with DatasetWriter(tmp_path, code_spec()) as writer:
        for number, keysteps in enumerate(episodes):
            writer.add_episode(code_frames(number, ["x"] * len(keysteps), keysteps.tolist()), "stack", number)
    found = DatasetReader(tmp_path).stats
    numbers = np.concatenate(episodes).astype(float)
    assert "code" not in found
    for name in ("min", "max", "mean", "std"):
        np.testing.assert_allclose(found["keystep"][name], [getattr(numbers, name)()], rtol=1e-12)
    columns = pq.read_schema(tmp_path / "meta/episodes/chunk-000/file-000.parquet").names
    assert "stats/keystep/mean" in columns and not any(name.startswith("stats/code") for name in columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": ["a", "b\0", "c"]}, "code: frame 1: expected text without NUL"),
        ({"code": ["a", "b", "\ud800"]}, "code: frame 2: expected text that is valid UTF-8"),
        ({"code": ["a", 7, "c"]}, "code: frame 1: expected a string, got int"),
        ({"code": ["a", None, "c"]}, "code: frame 1: expected a string, got NoneType"),
        ({"code": ["a", ["b"], "c"]}, "code: frame 1: expected a string, got list"),
        ({"code": np.zeros(3)}, "code: frame 0: expected a string, got float64"),
        ({"code": ["a", "b"]}, r"code: expected 3 strings, got list of shape \(2,\)"),
        ({"code": "abc"}, "code: expected 3 strings, got str"),
        (
            {"code": np.array([["a"], ["b"], ["c"]])},
            r"code: expected 3 strings, got ndarray of shape \(3, 1\)",
        ),
        ({"keystep": np.zeros(3, np.uint8)}, r"keystep: expected bool \(3,\), got uint8 \(3,\)"),
        ({"keystep": np.zeros((3, 1), bool)}, r"keystep: expected bool \(3,\), got bool \(3, 1\)"),
    ],
)
def test_bad_columns_are_refused_and_change_nothing(tmp_path: Path, change: dict, message: str) -> None:
    with DatasetWriter(tmp_path, code_spec()) as writer:
        with pytest.raises(DatasetError, match=message):
            writer.add_episode(
                {**code_frames(0, ["a", "b", "c"]), **change}, "stack", 0, instruction="not kept"
            )
        writer.add_episode(code_frames(0, ["a", "b", "c"]), "stack", seed=0)
    assert len(DatasetReader(tmp_path)) == 1
    assert DatasetReader(tmp_path).instructions.texts == list(TASKS.values())


def test_a_feature_of_several_strings_is_refused(tmp_path: Path) -> None:
    spec = DatasetSpec(20, {"action": Column("float32", (2,)), "words": Column("string", (3,))}, TASKS)
    with pytest.raises(DatasetError, match=r"feature shape: expected \(1,\) for strings, got \(3,\)"):
        DatasetWriter(tmp_path / "d", spec)


def test_strings_have_no_memory_map_and_truth_values_have(tmp_path: Path) -> None:
    write_codes(tmp_path / "d")
    reader = DatasetReader(tmp_path / "d")
    with pytest.raises(DatasetError, match="expected numbers or images, got 'code', which holds strings"):
        mapped_columns(reader, ["action", "code"], tmp_path / "cache")
    mapped = mapped_columns(reader, ["keystep"], tmp_path / "cache")["keystep"]
    np.testing.assert_array_equal(mapped, read_column(tmp_path / "d", "keystep"))
    assert mapped.dtype == bool and mapped.shape == (reader.frames,)


def edit_data(path: Path, column: str, change: Callable[[pa.Array], pa.Array]) -> None:
    table = pq.read_table(path / DATA_FILE)
    number = table.schema.get_field_index(column)
    changed = change(table[column].combine_chunks())
    field = pa.field(column, changed.type)
    pq.write_table(table.set_column(number, field, changed), path / DATA_FILE)


def spoil(column: pa.Array, value: bytes | str | bool | None) -> pa.Array:
    values = [item.encode() if isinstance(item, str) else item for item in column.to_pylist()]
    values[1] = value.encode() if isinstance(value, str) else value
    return pa.array(values, pa.binary()).view(pa.string()) if column.type == pa.string() else pa.array(values)


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    import json

    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: edit_data(d, "code", lambda c: spoil(c, None)), "code: expected a value in every frame"),
        (lambda d: edit_data(d, "code", lambda c: spoil(c, b"\xff")), "code: expected UTF-8"),
        (lambda d: edit_data(d, "code", lambda c: spoil(c, "a\0b")), "code: expected text without NUL"),
        (lambda d: edit_data(d, "keystep", lambda c: spoil(c, None)), "keystep: expected a value in every"),
        (
            lambda d: edit_data(d, "keystep", lambda c: pa.array([2] * len(c))),
            "keystep: expected values that bool",
        ),
        (
            lambda d: edit_json(d / "meta/stats.json", lambda s: s.update(code=s["keystep"])),
            "stats.json: code: expected no statistics",
        ),
        (
            lambda d: edit_json(d / "meta/info.json", lambda i: i["features"]["code"].update(shape=[2])),
            "features.code.shape: expected [1]",
        ),
        (
            lambda d: edit_data(d, "task_index", lambda c: pa.array([0] * len(c), pa.int64())),
            "episode 0: tasks: expected ['Lift the red block.'] as task_index says",
        ),
    ],
)
def test_the_checker_sees_damage(tmp_path: Path, damage: Callable, message: str) -> None:
    write_codes(tmp_path)
    assert check_dataset(tmp_path) == []
    damage(tmp_path)
    problems = check_dataset(tmp_path)
    assert any(message in problem for problem in problems), problems


def test_other_types_of_the_same_values_are_read_alike(tmp_path: Path) -> None:
    write_codes(tmp_path)
    written = {name: read_column(tmp_path, name) for name in ("code", "keystep")}
    edit_data(tmp_path, "code", lambda column: column.cast(pa.large_string()))
    edit_data(tmp_path, "keystep", lambda column: column.cast(pa.int8()))
    for name, values in written.items():
        np.testing.assert_array_equal(read_column(tmp_path, name), values)
    assert check_dataset(tmp_path) == []


def test_a_frame_without_a_value_is_an_error_to_the_reader(tmp_path: Path) -> None:
    write_codes(tmp_path)
    edit_data(tmp_path, "code", lambda column: spoil(column, None))
    with pytest.raises(DatasetError, match="code: expected a value in every frame, found some without"):
        read_column(tmp_path, "code")


# ---- extras -----------------------------------------------------------------------------------------------


def test_extras_are_read_back(tmp_path: Path) -> None:
    told = [{"names": ["red cube", "Würfel"], "angle": 0.5}, {"names": [], "angle": None}]
    with DatasetWriter(tmp_path, code_spec(("names", "angle")), flush_episodes=1) as writer:
        for number, extras in enumerate(told):
            writer.add_episode(code_frames(number, ["x", "y"]), "stack", seed=number, extras=extras)
    assert [episode.extras for episode in DatasetReader(tmp_path).episodes()] == told
    assert check_dataset(tmp_path) == []


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        (None, r"extras: expected \['names'\], got \[\]"),
        ({"names": [], "more": 1}, r"extras: expected \['names'\], got \['more', 'names'\]"),
        ({"names": np.zeros(2)}, "extras: expected JSON values"),
        ({"names": float("nan")}, "extras: expected JSON values"),
    ],
)
def test_bad_extras_are_refused(tmp_path: Path, extras: Any, message: str) -> None:
    with DatasetWriter(tmp_path, code_spec(("names",))) as writer:
        with pytest.raises(DatasetError, match=message):
            writer.add_episode(code_frames(0, ["x"]), "stack", seed=0, extras=extras)
        writer.add_episode(code_frames(0, ["x"]), "stack", seed=0, extras={"names": []})
    assert len(DatasetReader(tmp_path)) == 1


def test_other_extras_cannot_resume(tmp_path: Path) -> None:
    write_codes(tmp_path, spec=code_spec(("names",)), extras={"names": []})
    with pytest.raises(DatasetError, match=r"extras: expected none to resume, got \['names'\]"):
        DatasetWriter(tmp_path, code_spec())


def test_without_code_and_extras_files_are_as_they_were(tmp_path: Path) -> None:
    write(tmp_path, 2)
    names = pq.read_schema(tmp_path / "meta/episodes/chunk-000/file-000.parquet").names
    assert [name for name in names if not name.startswith("stats/")] == [
        "episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index", "success", "seed",
        "keystep.task", "data/chunk_index", "data/file_index", "meta/episodes/chunk_index",
        "meta/episodes/file_index",
    ]  # fmt: skip
    assert set(DatasetReader(tmp_path).collection) == {"format", "version", "tasks"}
    assert [episode.extras for episode in DatasetReader(tmp_path).episodes()] == [{}, {}]


def test_lerobot_itself_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lerobot = pytest.importorskip("lerobot.datasets.lerobot_dataset", reason="LeRobot is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_codes(
        tmp_path / "d", spec=code_spec(("names",)), extras={"names": []}, instruction="In other words."
    )
    item = lerobot.LeRobotDataset("keystep/test", root=tmp_path / "d")[0]
    assert (item["task"], item["code"], bool(item["keystep"])) == ("In other words.", "pick(0)", True)
