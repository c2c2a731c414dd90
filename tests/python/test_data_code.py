"""Datasets of code: strings and truth values per frame, an instruction and extras per episode."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_dataset import TASKS, make_frames, make_spec, write

from keystep import files
from keystep.data import DatasetError, DatasetReader, DatasetSpec, DatasetWriter, Feature
from keystep.data.cache import mapped_columns
from keystep.data.check import check_dataset

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
DATA_FILE = "data/chunk-000/file-000.parquet"


def code_spec(extras: tuple[str, ...] = (), **collection: object) -> DatasetSpec:
    features = {
        **make_spec().features,
        "code": Feature("string", (1,)),
        "keystep": Feature("bool", (1,)),
    }
    return DatasetSpec(20, features, TASKS, "panda", collection, extras)


def code_frames(seed: int, codes: list[str], keysteps: list[bool] | None = None) -> dict[str, Any]:
    started = [True] + [False] * (len(codes) - 1) if keysteps is None else keysteps
    return {**make_frames(seed, len(codes)), "code": codes, "keystep": np.array(started)}


def write_codes(path: Path, episodes: int = 3, spec: DatasetSpec | None = None, **options: Any) -> None:
    with DatasetWriter(path, spec or code_spec(), flush_episodes=2) as writer:
        for number in range(episodes):
            codes = [f"pick({number})", *["# pick"] * (4 + number)]
            writer.add_episode(code_frames(number, codes), "stack", seed=number, **options)


def read_column(path: Path, name: str, batch_size: int = 7) -> np.ndarray:
    return np.concatenate([b[name] for b in DatasetReader(path).iter_batches([name], batch_size)])


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
    spec = DatasetSpec(20, {"action": Feature("float32", (2,)), "words": Feature("string", (3,))}, TASKS)
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
        (lambda d: edit_data(d, "code", lambda c: c.cast(pa.large_string())), "code: expected string"),
        (lambda d: edit_data(d, "keystep", lambda c: spoil(c, None)), "keystep: expected a value in every"),
        (lambda d: edit_data(d, "keystep", lambda c: c.cast(pa.int8())), "keystep: expected bool"),
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


def test_a_frame_without_a_value_is_an_error_to_the_reader(tmp_path: Path) -> None:
    write_codes(tmp_path)
    edit_data(tmp_path, "code", lambda column: spoil(column, None))
    with pytest.raises(DatasetError, match="code: expected a value in every frame, found some without"):
        read_column(tmp_path, "code")


# ---- one episode alone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_per_group", [None, 3, 10**6])
def test_one_episode_is_read_alone(tmp_path: Path, rows_per_group: int | None) -> None:
    """Also from files of other writers, whose row groups are not episodes."""
    write_codes(tmp_path, 5)
    if rows_per_group is not None:
        for file in (tmp_path / "data").rglob("*.parquet"):
            pq.write_table(pq.read_table(file), file, row_group_size=rows_per_group)
    reader = DatasetReader(tmp_path)
    whole = {key: read_column(tmp_path, key) for key in reader.features}
    for number in range(5):
        episode = reader.episode(number)
        found = reader.read_episode(episode)
        assert list(found) == list(whole)
        for key, values in found.items():
            np.testing.assert_array_equal(values, whole[key][episode.start : episode.stop])
            assert values.dtype == whole[key].dtype


def test_an_episode_that_is_not_there(tmp_path: Path) -> None:
    write_codes(tmp_path)
    reader = DatasetReader(tmp_path)
    for number in (-1, 3):
        with pytest.raises(DatasetError, match=rf"episode: expected 0\.\.2, got {number}"):
            reader.episode(number)
    with pytest.raises(DatasetError, match=r"columns: expected one of .* got 'sound'"):
        reader.read_episode(reader.episode(0), ["sound"])


# ---- instructions -----------------------------------------------------------------------------------------


def texts_by_frame(path: Path) -> list[str]:
    """As LeRobot gives every frame its `task`: the row of the task table that task_index names."""
    table = pq.read_table(path / "meta/tasks.parquet").to_pylist()
    texts = {row["task_index"]: row["task"] for row in table}
    files_ = sorted((path / "data").rglob("*.parquet"))
    return [texts[n] for file in files_ for n in pq.read_table(file)["task_index"].to_pylist()]


WORDS = st.sampled_from([None, "Do it.", "Pick up the cube.", "Lift the red block.", "Räum auf"])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.tuples(st.sampled_from(list(TASKS)), WORDS), max_size=5), max_size=3))
def test_every_episode_has_its_own_words(tmp_path_factory: pytest.TempPathFactory, runs: list) -> None:
    """Over several runs, each of which opens the dataset anew."""
    path, number = tmp_path_factory.mktemp("d"), 0
    for episodes in runs:
        with DatasetWriter(path, make_spec(), flush_episodes=2) as writer:
            for task, words in episodes:
                writer.add_episode(make_frames(number, 3), task, seed=number, instruction=words)
                number += 1
    expected = [(task, TASKS[task] if words is None else words) for run in runs for task, words in run]
    reader = DatasetReader(path) if runs else None
    if reader is None:
        return
    assert [(episode.task, episode.instruction) for episode in reader.episodes()] == expected
    if expected:
        assert texts_by_frame(path) == [words for _, words in expected for _ in range(3)]
        assert check_dataset(path) == []
    distinct = list(dict.fromkeys([*TASKS.values(), *(words for _, words in expected)]))
    assert reader.instructions.texts == distinct and reader.info["total_tasks"] == len(distinct)
    names = {text: name for name, text in TASKS.items()}
    assert reader.tasks == [{"name": names.get(text, text), "instruction": text} for text in distinct]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "expected words"),
        (" \n", "expected words"),
        ("a\0", "without NUL"),
        ("\udfff", "UTF-8"),
        (7, "a str"),
    ],
)
def test_bad_instructions_are_refused(tmp_path: Path, words: Any, message: str) -> None:
    with (
        DatasetWriter(tmp_path, make_spec()) as writer,
        pytest.raises(DatasetError, match=f"instruction: .*{message}"),
    ):
        writer.add_episode(make_frames(0, 3), "stack", seed=0, instruction=words)


@pytest.mark.parametrize("renames", range(6))
def test_a_kill_between_any_two_renames_keeps_the_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """A flush renames data, episodes, stats, tasks, info; the process dies before rename number `renames`."""
    with DatasetWriter(tmp_path, make_spec()) as writer:
        writer.add_episode(make_frames(0, 5), "stack", seed=0, instruction="first words")
    before, digest = DatasetReader(tmp_path).instructions.texts, DatasetReader(tmp_path).sha256()
    real, done = os.replace, []

    def replace(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise SystemExit("killed")
        done.append(Path(target).name)
        real(source, target)

    writer = DatasetWriter(tmp_path, make_spec())
    writer.add_episode(make_frames(1, 5), "stack", seed=1, instruction="second words")
    monkeypatch.setattr(os, "replace", replace)
    if renames < 5:
        with pytest.raises(SystemExit):
            writer.flush()
    else:  # all of them: the commit
        writer.flush()
        before, digest = [*before, "second words"], DatasetReader(tmp_path).sha256()
    os.close(writer._lock)  # as the death of the process does
    monkeypatch.undo()
    order = ["file-001.parquet", "file-001.parquet", "stats.json", "tasks.parquet", "info.json"]
    assert done == order[:renames]

    reader = DatasetReader(tmp_path)
    assert reader.instructions.texts == before and len(reader.tasks) == len(before)
    assert reader.sha256() == digest
    with DatasetWriter(tmp_path, make_spec()) as again:
        assert len(pq.read_table(tmp_path / "meta/tasks.parquet")) == len(before)  # repaired
        assert DatasetReader(tmp_path).sha256() == digest
        again.add_episode(make_frames(2, 5), "stack", seed=2, instruction="third words")
    assert check_dataset(tmp_path) == []
    assert DatasetReader(tmp_path).instructions.texts == [*before, "third words"]


def test_a_failed_flush_forgets_its_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with DatasetWriter(tmp_path, make_spec()) as writer:
        writer.add_episode(make_frames(0, 5), "stack", seed=0, instruction="lost words")
        monkeypatch.setattr(files, "sync", full)
        with pytest.raises(DatasetError, match=r"could not write episodes 0\.\.0"):
            writer.flush()
        monkeypatch.undo()
        writer.add_episode(make_frames(1, 5), "stack", seed=1, instruction="kept words")
    assert DatasetReader(tmp_path).instructions.texts == [*TASKS.values(), "kept words"]
    assert check_dataset(tmp_path) == []


def test_too_few_instructions_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, 2)
    table = pq.read_table(tmp_path / "meta/tasks.parquet")
    pq.write_table(table.slice(0, 1), tmp_path / "meta/tasks.parquet")
    with pytest.raises(DatasetError, match=r"tasks.parquet: expected 2 instructions, got 1"):
        _ = DatasetReader(tmp_path).tasks


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
    with pytest.raises(DatasetError, match=r"extras: expected None to resume, got \['names'\]"):
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
