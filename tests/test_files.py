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


def bad_places(folder: Path) -> dict[str, Path]:
    """Where nobody can write a file."""
    (folder / "file").write_text("old")
    (folder / "folder").mkdir()
    return {
        "folder": folder / "folder",
        "below a file": folder / "file" / "more" / "o.json",
        "cannot be made": Path("/proc/keystep/o.json"),
        "name too long": folder / ("x" * 253),
        "device": Path("/dev/null"),
    }


@pytest.mark.parametrize("kind", ["folder", "below a file", "cannot be made", "name too long", "device"])
def test_a_place_where_no_file_can_be_written_is_known_at_once(tmp_path: Path, kind: str) -> None:
    bad = bad_places(tmp_path)[kind]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"^json: expected a file that can be written, got ") as told:
        files.check_outputs(markdown=tmp_path / "new" / "deep" / "o.md", json=bad, plot=None)
    assert f"got {bad}: " in str(told.value) and files.TEMPORARY_SUFFIX not in str(told.value)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "file").read_text() == "old"


def test_a_place_where_a_file_can_be_written_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    other = files.temporary(tmp_path / "busy")
    other.write_text("of another process")
    files.check_outputs(a=tmp_path / "old", b=tmp_path / "x" / "y", c=tmp_path / "busy", d=None)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [other.name, "old"]
    assert (tmp_path / "old").read_text() == "old" and other.read_text() == "of another process"


@pytest.mark.parametrize("kind", ["folder", "name too long"])
def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path, kind: str) -> None:
    bad = bad_places(tmp_path)[kind]
    with pytest.raises(OSError) as told:
        files.write_text(bad, "new")
    assert str(told.value).endswith(f": {str(bad)!r}")


def test_a_file_that_cannot_be_written_does_not_stop_the_others(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        files.write_each(
            lambda: files.write_text(tmp_path, "a"),
            lambda: files.write_text(tmp_path / "b", "b"),
            lambda: files.write_text(tmp_path / "b" / "c", "c"),
        )
    assert (tmp_path / "b").read_text() == "b"
