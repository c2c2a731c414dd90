"""`keystep check`, and that writers refuse what readers refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from foreign_dataset import CAMERA, edit_episodes, edit_json, write_foreign, write_tasks
from foreign_dataset import TASKS as TOLD
from toy_dataset import TASKS, write

from keystep.cli import run
from keystep.data import Column, DatasetError, DatasetSpec, DatasetWriter, video_column
from keystep.data.check import check_dataset, inspect_dataset


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "own", 3, image=True)
    assert run(["check", str(tmp_path / "own")]) == 0
    assert capsys.readouterr().out == "conforms to LeRobotDataset v3.0\n"
    write_foreign(tmp_path / "foreign")
    assert run(["check", str(tmp_path / "foreign")]) == 0
    assert capsys.readouterr().out.startswith("remark: stats.json: expected statistics of next.done")
    edit_json(tmp_path / "foreign/meta/info.json", lambda info: info.update(fps=0))
    assert run(["check", str(tmp_path / "foreign")]) == 2
    told = capsys.readouterr()
    assert told.out == "problem: meta/info.json: fps: expected a positive number, got 0\n"
    assert told.err.startswith("error: ") and "found 1 problem" in told.err


def test_the_command_of_before_does_not_pass_for_a_check(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "keystep.data.check", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 1 and "keystep check DATASET" in done.stderr


def without(*names: str) -> Callable[[Path], None]:
    return lambda root: edit_json(
        root / "meta/info.json", lambda info: [info["features"].pop(name) for name in names]
    )


def renamed(old: str, new: str) -> Callable[[Path], None]:
    """Features change places: the columns of a data file, too."""

    def change(root: Path) -> None:
        edit_json(
            root / "meta/info.json", lambda info: info["features"].update({new: info["features"].pop(old)})
        )
        for path in (root / "data").rglob("*.parquet"):
            table = pq.read_table(path)
            kept = table.drop_columns([new]) if new in table.column_names else table
            names = [new if name == old else name for name in kept.column_names]
            pq.write_table(kept.rename_columns(names), path)

    return change


def told(text: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        write_tasks(root, "pandas", [TOLD[0], text])
        edit_episodes(
            root, lambda rows: [row | {"tasks": [text if n % 2 else TOLD[0]]} for n, row in enumerate(rows)]
        )

    return change


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        (without("action"), "features.action: expected numbers of one dimension, found none"),
        (renamed("observation.pose", "action"), r"features.action: .* found float32 of shape \[4, 4\]"),
        (renamed("observation.pose", "observation.state"), r"features.observation.state: .*\[4, 4\]"),
        (
            without("observation.state", "observation.pose", "observation.gripper"),
            "features: expected observation.state or .* found neither",
        ),
        (renamed(CAMERA, "observation.image"), "features.observation.image: expected a camera's name"),
        (told("a\0b"), r"tasks.parquet: task 1: expected text without NUL, got 'a\\x00b'"),
        (told(""), "tasks.parquet: task 1: expected text without NUL, got ''"),
    ],
)
def test_what_training_will_refuse_is_a_remark(
    tmp_path: Path, change: Callable[[Path], None], remark: str
) -> None:
    camera = [6, 8, 3] if "camera" in remark else None
    write_foreign(tmp_path, stats=False, camera=camera)
    assert not any("training" in line for line in inspect_dataset(tmp_path).remarks)
    change(tmp_path)
    findings = inspect_dataset(tmp_path)
    assert findings.problems == []
    assert any(re.search(f"^{remark}.*; training will refuse it", line) for line in findings.remarks)


def test_what_training_must_be_told_to_see_is_a_remark(tmp_path: Path) -> None:
    write_foreign(tmp_path, stats=False)
    without("observation.state", "observation.gripper")(tmp_path)
    (remark,) = (line for line in inspect_dataset(tmp_path).remarks if "training" in line)
    # (4, 4) numbers may be depth, of which no plan is made.
    assert remark.endswith(
        "found neither; training will see only what it is told to: give --also observation.pose"
    )
    renamed("action", "observation.force")(tmp_path)
    assert any(
        line.endswith("give --also observation.force, a planner --subgoal observation.force")
        for line in inspect_dataset(tmp_path).remarks
    )


def test_every_column_tells_its_problem(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    edit_json(
        tmp_path / "meta/info.json",
        lambda info: [info["features"][key].update(shape=[2]) for key in ("action", "observation.state")],
    )
    problems = check_dataset(tmp_path)
    assert [line.split(": ")[1] for line in problems] == ["observation.state", "action"]


def test_progress_counts_every_value(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    seen: list[tuple[int, int]] = []
    inspect_dataset(tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20 * 8, 20 * 8) and seen == sorted(
        seen
    )  # seven columns, and the index columns at once


@pytest.mark.parametrize(
    ("name", "feature", "message"),
    [
        ("index", Column("int64", (1,)), "features.index: expected another name"),
        ("timestamp", Column("float32", (3,)), "features.timestamp: expected another name"),
        ("task_index", Column("int64", (1,)), "features.task_index: expected another name"),
        ("language_events", Column("string", (1,)), "features.language_events: expected another name"),
        ("a/b", Column("float32", (1,)), "expected a printable name without '/', got 'a/b'"),
        ("", Column("float32", (1,)), "expected a printable name"),
        ("a\0", Column("float32", (1,)), "expected a printable name"),
        ("x" * 201, Column("float32", (1,)), "at most 200 bytes"),
        ("x", Column("object", (1,)), "features.x.dtype: expected one of .*, string, image"),
        ("x", Column("video", (6, 8, 3)), "features.x.codec: expected one of h264, av1, got None"),
        ("x", video_column(5, 8), "features.x.shape: expected an even height and width"),
        ("x", Column("image", (6, 8, 1)), "features.x.shape: expected .height, width, 3. of images"),
    ],
)
def test_features_that_readers_refuse_are_not_written(
    tmp_path: Path, name: str, feature: Column, message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        DatasetWriter(
            tmp_path / "d", DatasetSpec(30, {"action": Column("float32", (2,)), name: feature}, TASKS)
        )
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("fps", [0, -1, 29.97, None])
def test_an_fps_that_cannot_be_written(fps: object) -> None:
    with pytest.raises(DatasetError, match="fps: expected a whole number from 1 to 1000000"):
        DatasetSpec(fps, {"action": Column("float32", (2,))}, TASKS)  # type: ignore[arg-type]


def test_every_name_that_is_written_is_read(tmp_path: Path) -> None:
    names = ["a.b", "ä", "a b", "..", "a:b", "x" * 200]
    spec = DatasetSpec(30, {name: Column("float32", (2,)) for name in names}, TASKS)
    with DatasetWriter(tmp_path, spec) as writer:
        writer.add_episode({name: np.zeros((3, 2), np.float32) for name in names}, "stack", seed=0)
    assert check_dataset(tmp_path) == []


def test_a_foreign_dataset_is_not_continued(tmp_path: Path) -> None:
    write_foreign(tmp_path)
    for key in ("robot_type", "splits"):
        edit_json(tmp_path / "meta/info.json", lambda info, key=key: info.pop(key))
    with pytest.raises(DatasetError, match="to resume"):
        DatasetWriter(tmp_path, DatasetSpec(30, {"action": Column("float32", (3,))}, TASKS))
