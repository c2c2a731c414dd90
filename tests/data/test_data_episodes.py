"""One episode alone, and episodes one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from code_dataset import code_frames, code_spec, read_column, write_codes

from keystep.data import DatasetError, DatasetReader, DatasetWriter, layout
from keystep.data.check import check_dataset


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


def opened_files(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Parquet files opened from now on."""
    found: list[Path] = []
    real = layout.open_parquet
    monkeypatch.setattr(layout, "open_parquet", lambda path: found.append(path) or real(path))
    return found


@pytest.mark.parametrize("episodes", [10, 60])
def test_reading_episodes_one_by_one_opens_few_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, episodes: int
) -> None:
    """A constant number per episode, however many there are."""
    write_codes(tmp_path, episodes)
    files_ = len(list((tmp_path / "data").rglob("*.parquet")))
    assert files_ == episodes // 2
    opened = opened_files(monkeypatch)
    reader = DatasetReader(tmp_path)
    for episode in reader.episodes():
        reader.read_episode(episode, ["action"])
    assert len(opened) <= 3 * files_ + episodes
    opened.clear()
    for number in range(episodes):
        reader.episode(number)
    assert len(opened) <= episodes


@pytest.mark.parametrize("flush", [1, 2, 3, 50])
def test_an_episode_alone_is_the_one_of_the_list(tmp_path: Path, flush: int) -> None:
    with DatasetWriter(tmp_path, code_spec(), flush_episodes=flush) as writer:
        for number in range(7):
            writer.add_episode(code_frames(number, ["x"] * (2 + number)), "stack", number)
    reader = DatasetReader(tmp_path)
    assert [reader.episode(number) for number in range(7)] == list(reader.episodes())


def test_a_data_file_may_belong_to_several_episode_files(tmp_path: Path) -> None:
    """As other writers do it: here all frames are in the first data file."""
    write_codes(tmp_path, 5)
    whole = {key: read_column(tmp_path, key) for key in ("code", "action", "index")}
    parts = sorted((tmp_path / "data").rglob("*.parquet"))
    together = pa.concat_tables([pq.read_table(part) for part in parts])
    pq.write_table(together, parts[0])
    for part in parts[1:]:
        part.unlink()
    for file in (tmp_path / "meta/episodes").rglob("*.parquet"):
        table = pq.read_table(file)
        number = table.schema.get_field_index("data/file_index")
        pq.write_table(table.set_column(number, "data/file_index", pa.array([0] * len(table))), file)
    reader = DatasetReader(tmp_path)
    assert reader.data_files() == parts[:1] and check_dataset(tmp_path) == []
    for number in range(5):
        episode = reader.episode(number)
        for key, values in reader.read_episode(episode, list(whole)).items():
            np.testing.assert_array_equal(values, whole[key][episode.start : episode.stop])


def test_an_episode_file_without_a_column_that_is_needed(tmp_path: Path) -> None:
    write_codes(tmp_path)
    file = tmp_path / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["length"]), file)
    with pytest.raises(DatasetError, match=r"file-000.parquet: expected the column length, found none"):
        DatasetReader(tmp_path).episode(0)


def test_an_episode_of_an_empty_dataset(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, code_spec()):
        pass
    with pytest.raises(DatasetError, match="expected at least one episode, found none"):
        DatasetReader(tmp_path).episode(0)


def test_an_episode_that_is_not_there(tmp_path: Path) -> None:
    write_codes(tmp_path)
    reader = DatasetReader(tmp_path)
    for number in (-1, 3):
        with pytest.raises(DatasetError, match=rf"episode: expected 0\.\.2, got {number}"):
            reader.episode(number)
    with pytest.raises(DatasetError, match=r"columns: expected one of .* got 'sound'"):
        reader.read_episode(reader.episode(0), ["sound"])
