"""The words of episodes: the task table, how it grows, and that it survives kills and full disks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_dataset import TASKS, die_in_flush, make_frames, make_spec, write

from keystep import files
from keystep.data import DatasetError, DatasetReader, DatasetSpec, DatasetWriter
from keystep.data.check import check_dataset


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


def own_words() -> DatasetSpec:
    """A spec whose episodes have words of their own."""
    return dataclasses.replace(make_spec(), tasks=dict.fromkeys(TASKS))


def test_where_every_episode_has_its_own_words_the_table_starts_empty(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, own_words()) as writer:
        assert len(pq.read_table(tmp_path / "meta/tasks.parquet")) == 0
        assert check_dataset(tmp_path) == [] and DatasetReader(tmp_path).tasks == []
        with pytest.raises(DatasetError, match="instruction: expected this episode's, as stack has none"):
            writer.add_episode(make_frames(0, 3), "stack", seed=0)
        for number, words in enumerate(("second", "first", "second")):
            writer.add_episode(make_frames(number, 3), "stack", seed=number, instruction=words)
    reader = DatasetReader(tmp_path)
    assert texts_by_frame(tmp_path) == ["second"] * 3 + ["first"] * 3 + ["second"] * 3
    assert reader.tasks == [{"name": text, "instruction": text} for text in ("second", "first")]
    assert reader.collection["tasks"] == [{"name": name} for name in TASKS]
    assert {episode.task for episode in reader.episodes()} == {"stack"} and check_dataset(tmp_path) == []


def test_tasks_of_the_same_words_share_a_row(tmp_path: Path) -> None:
    spec = dataclasses.replace(make_spec(), tasks={"a": "Do it.", "b": "Do it.", "c": "Do that."})
    with DatasetWriter(tmp_path, spec) as writer:
        for number, task in enumerate("cba"):
            writer.add_episode(make_frames(number, 2), task, seed=number)
    assert check_dataset(tmp_path) == []
    assert texts_by_frame(tmp_path) == ["Do that."] * 2 + ["Do it."] * 4
    assert [episode.task for episode in DatasetReader(tmp_path).episodes()] == ["c", "b", "a"]


def test_tasks_are_added_in_any_order(tmp_path: Path) -> None:
    """The words of an added one come into the table with its first episode."""
    runs = [["lift_red", "stack"], ["wave", "stack"], ["stack", "lift_red"]]
    words = {**TASKS, "wave": "Wave."}
    for number, names in enumerate(runs):
        spec = dataclasses.replace(make_spec(), tasks={name: words[name] for name in names})
        with DatasetWriter(tmp_path, spec) as writer:
            for name in names:
                writer.add_episode(make_frames(number, 2), name, seed=number)
    reader = DatasetReader(tmp_path)
    assert [(e.task, e.instruction) for e in reader.episodes()] == [
        (name, words[name]) for names in runs for name in names
    ]
    assert reader.tasks == [{"name": name, "instruction": text} for name, text in words.items()]
    assert reader.collection["tasks"] == reader.tasks and check_dataset(tmp_path) == []
    other = dataclasses.replace(make_spec(), tasks={"wave": "Wave twice."})
    with pytest.raises(DatasetError, match=r"tasks.wave: expected .*'Wave twice.'.* got .*'Wave.'"):
        DatasetWriter(tmp_path, other)


@pytest.mark.parametrize("renames", range(5))
def test_a_kill_between_any_two_renames_keeps_the_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """A flush renames data, episodes, stats, tasks, info; the process dies before rename number `renames`."""
    with DatasetWriter(tmp_path, make_spec()) as writer:
        writer.add_episode(make_frames(0, 5), "stack", seed=0, instruction="first words")
    before, digest = DatasetReader(tmp_path).instructions.texts, DatasetReader(tmp_path).sha256()
    writer = DatasetWriter(tmp_path, make_spec())
    writer.add_episode(make_frames(1, 5), "stack", seed=1, instruction="second words")
    order = ["file-000.parquet", "file-000.parquet", "stats.json", "tasks.parquet", "info.json"]
    assert die_in_flush(writer, renames, monkeypatch) == order[:renames]

    reader = DatasetReader(tmp_path)
    assert reader.instructions.texts == before and len(reader.tasks) == len(before)
    assert reader.sha256() == digest
    assert check_dataset(tmp_path) == []  # as the reader, it trusts the last commit
    with DatasetWriter(tmp_path, make_spec()) as again:
        assert len(pq.read_table(tmp_path / "meta/tasks.parquet")) == len(before)  # repaired
        assert DatasetReader(tmp_path).sha256() == digest
        again.add_episode(make_frames(2, 5), "stack", seed=2, instruction="third words")
    assert check_dataset(tmp_path) == []
    assert DatasetReader(tmp_path).instructions.texts == [*before, "third words"]


def test_a_failed_flush_keeps_its_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with DatasetWriter(tmp_path, make_spec()) as writer:
        writer.add_episode(make_frames(0, 5), "stack", seed=0, instruction="first words")
        monkeypatch.setattr(files, "sync", full)
        with pytest.raises(DatasetError, match=r"could not write episodes 0\.\.0"):
            writer.flush()
        monkeypatch.undo()
        assert DatasetReader(tmp_path).instructions.texts == list(TASKS.values())
        writer.add_episode(make_frames(1, 5), "stack", seed=1, instruction="second words")
    assert DatasetReader(tmp_path).instructions.texts == [*TASKS.values(), "first words", "second words"]
    assert check_dataset(tmp_path) == []


def test_too_few_instructions_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, 2)
    table = pq.read_table(tmp_path / "meta/tasks.parquet")
    pq.write_table(table.slice(0, 1), tmp_path / "meta/tasks.parquet")
    with pytest.raises(DatasetError, match=r"tasks.parquet: expected 2 instructions, got 1"):
        _ = DatasetReader(tmp_path).tasks
