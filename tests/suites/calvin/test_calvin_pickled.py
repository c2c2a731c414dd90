"""auto_lang_ann.npy: every way numpy writes it is read, and nothing in it is ever called."""

from __future__ import annotations

import functools
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_calvin import annotations

from keystep.data import DatasetError
from keystep.suites.calvin.pickled import PlaySegment, read_segments

VALUE = annotations([("open_drawer", 3, 9), ("turn_on_led", 6, 12)])
SEGMENTS = [
    PlaySegment(0, "open_drawer", "words 0 for open_drawer", 3, 9),
    PlaySegment(1, "turn_on_led", "words 1 for turn_on_led", 6, 12),
]


def write(path: Path, value: Any, protocol: int = 4) -> Path:
    with path.open("wb") as file:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(file, header)
        pickle.dump(np.array(value, dtype=object), file, protocol=protocol)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(tmp_path: Path, protocol: int) -> None:
    assert read_segments(write(tmp_path / "a.npy", VALUE, protocol)) == SEGMENTS


@pytest.mark.parametrize("arrays", [True, False])
def test_as_numpy_saves_it(tmp_path: Path, arrays: bool) -> None:
    value = VALUE
    if arrays:  # lists may have become arrays
        told = VALUE["language"]
        value = {
            "language": {
                "ann": np.array(told["ann"]).tolist(),
                "task": list(told["task"]),
                "emb": told["emb"],
            },
            "info": {"episodes": [], "indx": np.array([[3, 9], [6, 12]])},
        }
    np.save(tmp_path / "a.npy", value)  # type: ignore[arg-type]
    assert read_segments(tmp_path / "a.npy") == SEGMENTS


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "function", [os.system, eval, exec, open, __import__, np.load, np.frombuffer, functools.partial, getattr]
)
@pytest.mark.parametrize("place", ["whole", "ann", "emb"])
def test_nothing_is_called(tmp_path: Path, function: Any, place: str) -> None:
    mark = tmp_path / "called"
    bad = Calls(function, f"open({str(mark)!r}, 'w')" if function in (eval, exec) else f"touch {mark}")
    value: Any = bad if place == "whole" else {**VALUE, "language": {**VALUE["language"], place: bad}}
    with pytest.raises(DatasetError, match=r"expected arrays, lists, tuples and texts, got "):
        read_segments(write(tmp_path / "a.npy", value))
    assert not mark.exists()


def without(group: str, name: str) -> dict[str, Any]:
    return {**VALUE, group: {key: value for key, value in VALUE[group].items() if key != name}}


def with_(group: str, name: str, value: Any) -> dict[str, Any]:
    return {**VALUE, group: {**VALUE[group], name: value}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "language.ann: expected a list, got NoneType"),
        (without("language", "task"), "language.task: expected a list, got NoneType"),
        (with_("language", "ann", "words"), "language.ann: expected a list, got str"),
        (with_("language", "ann", ["a", 3]), r"language.ann\[1\]: expected a text, got 3"),
        (with_("language", "ann", ["a", " "]), r"language.ann\[1\]: expected a text, got ' '"),
        (with_("language", "ann", ["a"]), "expected as many of each, got"),
        (
            with_("info", "indx", [(3, 9), (9, 9)]),
            r"info.indx\[1\]: expected first frame and end, got \(9, 9\)",
        ),
        (with_("info", "indx", [(3, 9), (-1, 9)]), r"info.indx\[1\]: expected first frame and end"),
        (with_("info", "indx", [(3, 9), (1.5, 9)]), r"info.indx\[1\]: expected first frame and end"),
        (with_("info", "indx", [(3, 9), None]), r"info.indx\[1\]: expected first frame and end, got None"),
    ],
)
def test_other_layouts(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_segments(write(tmp_path / "a.npy", value))


def test_files_of_something_else(tmp_path: Path) -> None:
    np.save(tmp_path / "n.npy", np.zeros(3))
    (tmp_path / "t.npy").write_text("words")
    for name, message in (
        ("n", "expected one pickled dict, got float64"),
        ("t", "expected a file of numpy.save"),
        ("gone", "expected a file that can be read"),
    ):
        with pytest.raises(DatasetError, match=message):
            read_segments(tmp_path / f"{name}.npy")


@pytest.mark.parametrize("protocol", [2, 4])
def test_damaged_files_give_one_kind_of_error(tmp_path: Path, protocol: int) -> None:
    """Cut anywhere, or with bytes changed: read as some segments, or refused."""
    whole = write(tmp_path / "a.npy", VALUE, protocol).read_bytes()
    rng, path, refused = random.Random(protocol), tmp_path / "b.npy", 0
    for _ in range(200):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(1, 4) if damaged else 0):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(segment.sentence, str) for segment in read_segments(path))
        except DatasetError:
            refused += 1
    assert refused > 50
