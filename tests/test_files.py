"""Crash-safe writing: several files appear together or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from keystep import files


def test_several_files_are_replaced_together(tmp_path: Path) -> None:
    first, second = tmp_path / "weights", tmp_path / "new" / "description"
    with files.replacing(first, second) as (a, b):
        a.write_text("1")
        b.write_text("2")
        assert not first.exists()
    assert (first.read_text(), second.read_text()) == ("1", "2")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["description", "new", "weights"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_files_and_no_others(tmp_path: Path, error: BaseException) -> None:
    paths = tmp_path / "weights", tmp_path / "description"
    for path in paths:
        path.write_text("old")
    with pytest.raises(type(error)), files.replacing(*paths) as (a, _):
        a.write_text("new")
        raise error
    assert {path: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(paths, "old")


def test_a_file_that_was_never_written_replaces_nothing(tmp_path: Path) -> None:
    paths = tmp_path / "weights", tmp_path / "description"
    with pytest.raises(FileNotFoundError), files.replacing(*paths) as (a, _):
        a.write_text("new")
    assert list(tmp_path.iterdir()) == []
