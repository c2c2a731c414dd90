"""Programs of stage 1 are made once: a run that is continued reads those it began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

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
    assert program_texts(SUITE, 40, 32, path) == episodes


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"grid": 10}, "grid: expected 32, got 10; without this file"),
        ({"suite": None}, "suite: expected 'tabletop', got None"),
        ({"programs": 3}, "programs: expected 2, got 3"),
        ({"episodes": {}}, "episodes: expected 2 of them, got {}"),
        ({"episodes": [1]}, "episodes: expected 2 of them, got 1 of them"),
        ({"episodes": [1, 2]}, r"episodes\[0\]\.keysteps: expected texts, got None"),
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
    document["episodes"][1]["seed"] = "1"
    path.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"episodes\[1\]\.seed: expected int, got '1'"):
        program_texts(SUITE, 2, 32, path)
    path.write_text('{"format"')
    with pytest.raises(DatasetError, match=r"programs\.json: expected JSON, got .*; without this file"):
        program_texts(SUITE, 2, 32, path)
