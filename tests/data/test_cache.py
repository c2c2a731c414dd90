"""The cache of decoded columns: checked, mended, bounded."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from foreign_video import CAMERAS, write_video_dataset

from keystep.data import DatasetError, DatasetReader, cache_room
from keystep.data import cache as caching
from keystep.data.cache import mapped_columns

KEYS = ["action", *CAMERAS]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that has compared nothing yet."""
    monkeypatch.setattr(caching, "_compared", set())


def folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


def test_videos_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    written = write_video_dataset(tmp_path / "d")
    for _ in range(2):
        caching._compared.clear()
        found = mapped_columns(DatasetReader(tmp_path / "d"), KEYS, tmp_path / "cache")
        for key in KEYS:
            np.testing.assert_array_equal(found[key], written[key])
        monkeypatch.setattr(DatasetReader, "iter_batches", None)  # whoever decodes again fails


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no note", "other note"])
def test_a_damaged_column_is_converted_again(tmp_path: Path, fresh: None, damage: str) -> None:
    written = write_video_dataset(tmp_path / "d")
    key = next(iter(CAMERAS))
    mapped_columns(DatasetReader(tmp_path / "d"), KEYS, tmp_path / "cache")
    (path,) = (tmp_path / "cache").rglob(f"{key}.npy")
    data = path.read_bytes()
    if damage in ("cut", "empty"):
        path.write_bytes(data[: -1000 if damage == "cut" else 0])
    elif damage == "flipped":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif damage == "no note":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text("{}")
    caching._compared.clear()
    found = mapped_columns(DatasetReader(tmp_path / "d"), [key], tmp_path / "cache")[key]
    np.testing.assert_array_equal(found, written[key])
    assert path.read_bytes() == data and not list((tmp_path / "cache").rglob(".*"))


def test_what_was_not_used_for_longest_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    key = next(iter(CAMERAS))
    for number, name in enumerate("abc"):
        write_video_dataset(tmp_path / name, (6 + number,))
    readers = {name: DatasetReader(tmp_path / name) for name in "abc"}
    frame = 48 * 64 * 3
    monkeypatch.setenv("KEYSTEP_CACHE_GB", str(16 * frame / 1e9))  # for two of them
    (tmp_path / "cache" / "mine").mkdir(parents=True)
    for name in "ab":
        mapped_columns(readers[name], [key], tmp_path / "cache")
    for age, name in ((200, "b"), (100, "a")):
        place = tmp_path / "cache" / f"{readers[name].sha256()[:32]}-{caching._VERSION}"
        os.utime(place, (age, age))
    mapped = mapped_columns(readers["a"], [key], tmp_path / "cache")[key]  # now used after b
    mapped_columns(readers["c"], [key], tmp_path / "cache")
    kept = {f"{readers[name].sha256()[:32]}-{caching._VERSION}" for name in "ac"}
    assert folders(tmp_path / "cache") == {"mine", *kept}
    monkeypatch.setenv("KEYSTEP_CACHE_GB", str(6 * frame / 1e9))  # b does not fit, whatever goes
    message = r"expected room for 0\.00 GB of decoded frames.*KEYSTEP_CACHE_GB the limit"
    with pytest.raises(DatasetError, match=message):
        mapped_columns(readers["b"], [key], tmp_path / "cache")
    own = f"{readers['b'].sha256()[:32]}-{caching._VERSION}"
    assert folders(tmp_path / "cache") == {"mine", own, *kept}
    monkeypatch.setenv("KEYSTEP_CACHE_GB", str(7.5 * frame / 1e9))
    mapped_columns(readers["b"], [key], tmp_path / "cache")
    assert folders(tmp_path / "cache") == {"mine", own}
    assert mapped.sum() > 0  # of a dataset that was removed, still there for whoever has it


@pytest.mark.parametrize("limit", ["0", "-1", "much", "nan"])
def test_a_limit_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None, limit: str
) -> None:
    write_video_dataset(tmp_path / "d", (6,))
    monkeypatch.setenv("KEYSTEP_CACHE_GB", limit)
    with pytest.raises(DatasetError, match=f"KEYSTEP_CACHE_GB: expected a number above 0, got '{limit}'"):
        mapped_columns(DatasetReader(tmp_path / "d"), ["action"], tmp_path / "cache")


def test_a_little_is_taken_of_a_disk_that_has_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    write_video_dataset(tmp_path / "d", (6,))
    needed = 6 * 7 * 4
    usage = shutil.disk_usage(tmp_path)
    for free in (2 * needed - 1, 2 * needed):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        refused = (
            pytest.raises(DatasetError, match="expected room for") if free < 2 * needed else nullcontext()
        )
        with refused:
            mapped_columns(DatasetReader(tmp_path / "d"), ["action"], tmp_path / "cache")


def test_of_two_that_want_the_same_one_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    written = write_video_dataset(tmp_path / "d")
    decoding, go_on, readers = Event(), Event(), list[int]()
    decode = DatasetReader.iter_batches

    def slowly(reader: DatasetReader, columns: list[str]) -> Iterator[dict[str, np.ndarray]]:
        readers.append(id(reader))
        decoding.set()
        assert go_on.wait(60)
        return decode(reader, columns)

    def opened() -> dict[str, np.ndarray]:
        return mapped_columns(DatasetReader(tmp_path / "d"), KEYS, tmp_path / "cache")

    monkeypatch.setattr(DatasetReader, "iter_batches", slowly)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(opened)]
        assert decoding.wait(60)
        both.append(pool.submit(opened))
        wait(both, 0.5)  # time to do it, too
        go_on.set()
        for result in both:
            for key in KEYS:
                np.testing.assert_array_equal(result.result(60)[key], written[key])
    assert len(readers) == 1


def test_what_is_converted_now_makes_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    key = next(iter(CAMERAS))
    written = write_video_dataset(tmp_path / "a", (6,))
    write_video_dataset(tmp_path / "b", (7,))
    monkeypatch.setenv("KEYSTEP_CACHE_GB", str(8 * 48 * 64 * 3 / 1e9))  # for one of them
    decode = DatasetReader.iter_batches

    def while_another_wants_room(
        reader: DatasetReader, columns: list[str]
    ) -> Iterator[dict[str, np.ndarray]]:
        for batch in decode(reader, columns):
            yield batch
            monkeypatch.setattr(DatasetReader, "iter_batches", decode)
            with pytest.raises(DatasetError, match="expected room for"):
                mapped_columns(DatasetReader(tmp_path / "b"), [key], tmp_path / "cache")

    monkeypatch.setattr(DatasetReader, "iter_batches", while_another_wants_room)
    found = mapped_columns(DatasetReader(tmp_path / "a"), [key], tmp_path / "cache")
    np.testing.assert_array_equal(found[key], written[key])


def test_what_a_kill_has_left_is_removed(tmp_path: Path, fresh: None) -> None:
    """Not what another machine converts now: locks of folders on a shared disk do not tell of it."""
    write_video_dataset(tmp_path / "d", (6,))
    reader = DatasetReader(tmp_path / "d")
    mapped_columns(reader, ["action"], tmp_path / "cache")
    (place,) = (tmp_path / "cache").iterdir()
    names = [f".converting-{host}" for host in (f"{socket.gethostname()}-a", "other-b", "other-c")]
    for name in names:
        (place / name).mkdir()
        (place / name / "frames.npy").write_bytes(bytes(100))
    for path in (place / names[1], place / names[1] / "frames.npy"):
        os.utime(path, (0, 0))
    mapped_columns(reader, ["observation.state"], tmp_path / "cache")
    assert [path.name for path in place.glob(".*")] == [names[2]]


def test_processes_that_were_forked_meanwhile_do_not_keep_the_lock(tmp_path: Path) -> None:
    with cache_room.held(tmp_path / "d", alone=True):
        # As a worker of a loader has it, which lives on.
        numbers = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
        copies = [os.dup(number) for number in numbers if is_folder(number, tmp_path / "d")]
    assert copies
    descriptor = os.open(tmp_path / "d", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for opened in (*copies, descriptor):
        os.close(opened)


def is_folder(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except OSError:
        return False


def test_a_folder_that_is_removed_before_it_is_opened_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, removals = os.open, [tmp_path / "d"]

    def late(path: Path, flags: int) -> int:
        if removals:
            removals.pop().rmdir()
        return opened(path, flags)

    monkeypatch.setattr(os, "open", late)
    with cache_room.held(tmp_path / "d"):
        assert (tmp_path / "d").is_dir() and not removals


def test_what_another_user_has_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    key, cache = next(iter(CAMERAS)), tmp_path / "cache"
    for name, frames in (("a", 6), ("b", 7), ("c", 8)):
        write_video_dataset(tmp_path / name, (frames,))
    mapped_columns(DatasetReader(tmp_path / "a"), [key], cache)
    (theirs,) = cache.iterdir()
    os.utime(theirs, (0, 0))
    mapped_columns(DatasetReader(tmp_path / "b"), [key], cache)
    opened = os.open

    def refused(path: Path, flags: int, **options: int) -> int:
        if path == theirs:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, **options)

    monkeypatch.setattr(os, "open", refused)
    monkeypatch.setenv("KEYSTEP_CACHE_GB", str(16 * 48 * 64 * 3 / 1e9))  # for two of them
    mapped_columns(DatasetReader(tmp_path / "c"), [key], cache)
    assert len(folders(cache)) == 2 and theirs.name in folders(cache)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None, error: int
) -> None:
    """Where the file had holes instead, the first page without a place would end the process (SIGBUS)."""
    write_video_dataset(tmp_path / "d", (6,))

    def full(file: int, start: int, size: int) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = f"could not write the cache: .*{os.strerror(error)}.*KEYSTEP_CACHE names another folder"
    with pytest.raises(DatasetError, match=message):
        mapped_columns(DatasetReader(tmp_path / "d"), ["action"], tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_file_system_that_cannot_allocate_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    written = write_video_dataset(tmp_path / "d", (6,))

    def unknown(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    monkeypatch.setattr(fcntl, "flock", unknown)
    found = mapped_columns(DatasetReader(tmp_path / "d"), KEYS, tmp_path / "cache")
    for key in KEYS:
        np.testing.assert_array_equal(found[key], written[key])


def test_an_unknown_column_is_one_error(tmp_path: Path) -> None:
    write_video_dataset(tmp_path / "d", (6,))
    with pytest.raises(DatasetError, match=r"columns: expected one of .*action.*, got 'actions'"):
        mapped_columns(DatasetReader(tmp_path / "d"), ["action", "actions"], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
