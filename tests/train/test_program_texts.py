"""Programs of stage 1 are made once: a run that is continued reads those it began with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

from keystep.code.grid import cell
from keystep.data import DatasetError
from keystep.suites import suite_named
from keystep.train import program_texts as made
from keystep.train.program_texts import PROGRAMS, distinct, keep_programs, program_texts

SUITE = suite_named("tabletop")


def test_kept_programs_are_read_and_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / PROGRAMS
    episodes = program_texts(SUITE, 40, 32, path)
    assert len(episodes) == 40 and not path.exists() and 31 <= distinct(episodes) <= 40
    keep_programs(path, SUITE.name, 32, episodes)
    before = path.read_bytes()
    keep_programs(path, SUITE.name, 32, episodes[:1])
    assert path.read_bytes() == before, "a run keeps those it began with"
    monkeypatch.delattr(made, "texts")
    again = program_texts(SUITE, 40, 32, path)
    assert again == episodes
    for one, other in zip(episodes, again, strict=True):
        assert one.boxes is not None and one.boxes.shape == (len(one.keysteps), len(one.names), 4)
        np.testing.assert_array_equal(one.boxes, other.boxes)


def test_scenes_change_as_the_program_goes_on() -> None:
    """What is put somewhere is told where it lies then; code has the cells of its own scene."""
    episode = next(one for one in program_texts(SUITE, 31, 32) if one.task == "Swap")
    assert episode.boxes is not None
    first = re.findall(r"'([a-z ]+)', actor_pos=\((\d+), (\d+)\)", episode.keysteps[0])
    assert len(first) == 2
    for name, column, row in first:
        number = episode.names.index(name)
        assert cell(episode.boxes[0, number], 32) == (int(column), int(row))
        assert cell(episode.boxes[-1, number], 32) != (int(column), int(row))
    last = [cell(episode.boxes[-1, episode.names.index(name)], 32) for name, *_ in first]
    for (_, column, row), place in zip(first[::-1], last, strict=True):
        assert max(abs(int(column) - place[0]), abs(int(row) - place[1])) <= 1, "they changed places"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"grid": 10}, "grid: expected 32, got 10; without this file"),
        ({"suite": None}, "suite: expected 'tabletop', got None"),
        ({"programs": 3}, "programs: expected 2, got 3"),
        ({"episodes": {}}, "episodes: expected 2 of them, got {}"),
        ({"episodes": [1]}, "episodes: expected 2 of them, got 1 of them"),
        ({"episodes": [1, 2]}, r"episodes\[0\]\.keysteps: expected texts, got None"),
        ({"version": 1}, "version: expected 2, got 1; without this file"),
    ],
)
def test_kept_programs_that_are_others_or_damaged(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    path = tmp_path / PROGRAMS
    keep_programs(path, SUITE.name, 32, program_texts(SUITE, 2, 32))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DatasetError, match=rf"programs\.json: {problem}"):
        program_texts(SUITE, 2, 32, path)


def test_an_episode_that_is_none_and_a_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / PROGRAMS
    keep_programs(path, SUITE.name, 32, program_texts(SUITE, 2, 32))
    document = json.loads(path.read_text())
    for field, value, problem in (
        ("names", [1], r"names: expected texts, got \[1\]"),
        (
            "boxes",
            [[1]],
            r"boxes: expected numbers of the shape \(\d+, \d+, 4\), at most 1000, got \[\[1\]\]",
        ),
        ("boxes", "no", r"boxes: expected numbers of the shape .*, got 'no'"),
        ("boxes", (2000 * np.ones((3, 3, 4), int)).tolist(), "boxes: expected numbers of the shape"),
    ):
        one = {**document["episodes"][1], field: value}
        path.write_text(json.dumps({**document, "episodes": [document["episodes"][0], one]}))
        with pytest.raises(DatasetError, match=rf"episodes\[1\]\.{problem}"):
            program_texts(SUITE, 2, 32, path)
    document["episodes"][1]["seed"] = "1"
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"episodes\[1\]\.seed: expected int, got '1'"):
        program_texts(SUITE, 2, 32, path)
    path.write_text('{"format"')
    with pytest.raises(DatasetError, match=r"programs\.json: expected JSON, got .*; without this file"):
        program_texts(SUITE, 2, 32, path)
