"""Replaying: exact where nothing changed, and where it first differs where something did."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_tabletop
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy_dataset import write

import keystep
from keystep.commands import replay as command
from keystep.data import DatasetError, DatasetReader, DatasetSpec, DatasetWriter
from keystep.record.collect import collect
from keystep.suites.tabletop import layout, source
from keystep.suites.tabletop.replay import COLUMNS, ReplayComparison, load_recorded, open_env, resimulate
from keystep.suites.tabletop.suite import SUITE

DATA_FILE = "data/chunk-000/file-000.parquet"


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two episodes of Pick and two of Swap."""
    monkeypatch.setattr(source, "ENV_ID", fake_tabletop.ENV_ID)
    module = fake_tabletop.demonstrations_module()
    monkeypatch.setitem(sys.modules, "keystep.suites.tabletop.oracle.demonstrations", module)
    collect(tmp_path / "d", suite="tabletop", tasks=["Pick", "Swap"], episodes=2)
    return tmp_path / "d"


def compare(path: Path, index: int) -> ReplayComparison:
    recorded = load_recorded(path, index)
    comparison = ReplayComparison(recorded)
    for _ in comparison.watch(resimulate(open_env(recorded), recorded)):
        pass
    return comparison


def edit_collection(path: Path, **changes: object) -> None:
    file = path / "meta/keystep.json"
    found = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def edit_number(path: Path, column: str, episode: int, frame: int, element: int, change: Callable) -> None:
    """Changes one stored float32."""
    file = path / DATA_FILE
    table = pq.read_table(file)
    values = np.stack(table[column].to_numpy()).astype(np.float32)
    row = DatasetReader(path).episode(episode).start + frame
    values[row, element] = change(values[row, element])
    number = table.schema.get_field_index(column)
    changed = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    pq.write_table(table.set_column(number, table.schema.field(column), changed), file)


def next_bit(value: np.float32) -> np.float32:
    return np.nextafter(value, np.float32(2))


@pytest.mark.parametrize("index", range(4))
def test_what_was_recorded_replays_exactly(dataset: Path, index: int) -> None:
    comparison = compare(dataset, index)
    length = DatasetReader(dataset).episode(index).length
    assert comparison.first is None and comparison.largest is None and comparison.differing == 0
    assert comparison.frames == length and comparison.solved
    assert str(comparison) == f"exact in all {length} frames; solved"


def test_what_was_recorded_before_the_grid_was_a_setting_replays_exactly(dataset: Path) -> None:
    edit_collection(dataset, grid=None)
    assert compare(dataset, 2).exact


@pytest.mark.parametrize("column", ["observation.state", "objects.poses", "objects.boxes"])
def test_one_bit_of_one_number_is_found(dataset: Path, column: str) -> None:
    rng = np.random.default_rng(0)
    frame, element = int(rng.integers(8)), int(rng.integers(21))
    edit_number(dataset, column, 2, frame, element, next_bit)
    comparison = compare(dataset, 2)
    assert comparison.first is not None and comparison.first == comparison.largest
    names = (
        layout.STATE_NAMES if column == "observation.state" else source.features("state", 16)[column].names
    )
    assert names is not None
    first = comparison.first
    assert (first.frame, first.column, first.element) == (frame, column, names[element])
    assert first.stored == next_bit(np.float32(first.found)) and comparison.differing == 1
    assert f"first differs at frame {frame}, {column}, {names[element]}: expected" in str(comparison)
    assert compare(dataset, 1).first is None and compare(dataset, 3).first is None


def test_the_signs_of_zeros_count(dataset: Path) -> None:
    edit_number(dataset, "objects.poses", 0, 4, 55, lambda zero: -zero)  # of a slot without an object
    assert compare(dataset, 0).differing == 1


def test_one_bit_of_an_action_shows_from_the_next_frame_on(dataset: Path) -> None:
    edit_number(dataset, "action", 1, 2, 0, lambda value: value + np.float32(0.01))
    comparison = compare(dataset, 1)
    assert comparison.first is not None and comparison.first.frame == 3
    assert comparison.differing == comparison.frames - 3


def test_the_largest_difference_is_that_of_a_slow_search(dataset: Path) -> None:
    edit_number(dataset, "action", 1, 2, 0, lambda value: value + np.float32(0.01))
    comparison, recorded = compare(dataset, 1), load_recorded(dataset, 1)
    largest = 0.0
    for frame, seen in enumerate(resimulate(open_env(recorded), recorded)):
        for column in ("observation.state", "objects.poses", "objects.boxes"):
            if frame < recorded.episode.length:
                stored, found = recorded.columns[column][frame], np.ravel(seen[column])
                for a, b in zip(stored.tolist(), found.tolist(), strict=True):
                    largest = max(largest, abs(a - b))
    assert comparison.largest is not None
    assert abs(comparison.largest.stored - comparison.largest.found) == largest > 0


def test_a_task_that_is_not_solved_any_more_is_found(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All stored frames may be as they were: none follows the last action."""
    step = fake_tabletop.FakeTabletop.step

    def unsolved(env: fake_tabletop.FakeTabletop, action: np.ndarray) -> Any:
        *rest, info = step(env, action)
        return *rest, {**info, "success": False}

    monkeypatch.setattr(fake_tabletop.FakeTabletop, "step", unsolved)
    comparison = compare(dataset, 0)
    assert comparison.first is None and comparison.solved is False and not comparison.exact
    assert (
        str(comparison)
        == f"exact in all {comparison.frames} frames; success: expected solved, got not solved"
    )
    with pytest.raises(keystep.Error, match=r"episode 0: .*success: expected solved, got not solved"):
        command.main(dataset, 0)


def test_a_failure_that_was_recorded_replays_as_one(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = dataset / "meta/episodes/chunk-000/file-000.parquet"
    table = pq.read_table(file)
    number = table.schema.get_field_index("success")
    pq.write_table(table.set_column(number, "success", pa.array([False] * len(table))), file)
    assert str(compare(dataset, 0)).endswith("success: expected not solved, got solved")
    monkeypatch.setattr(fake_tabletop, "LENGTH", 10**6)
    comparison = compare(dataset, 0)
    assert comparison.exact and str(comparison).endswith("frames; not solved")


def test_other_words_are_found(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = fake_tabletop.prompt
    monkeypatch.setattr(fake_tabletop, "prompt", lambda task, seed: "Now " + said(task, seed))
    comparison = compare(dataset, 1)
    words = DatasetReader(dataset).episode(1).instruction
    assert comparison.scene == [f"prompt: expected {words!r}, got {'Now ' + words!r}"]
    assert comparison.first is None and not comparison.exact
    with pytest.raises(keystep.Error, match="episode 1: prompt: expected 'Pick: please"):
        command.main(dataset, 1)


def test_other_names_are_found(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_tabletop, "OBJECTS", ["red cube", "red cube", "blue hexagon"])
    comparison = compare(dataset, 0)
    expected = "['red cube', 'blue hexagon', 'red cube']"
    assert comparison.scene == [f"names: expected {expected}, got ['red cube', 'red cube', 'blue hexagon']"]
    assert not comparison.exact


def test_a_comparison_that_has_not_ended_is_not_exact(dataset: Path) -> None:
    recorded = load_recorded(dataset, 0)
    comparison = ReplayComparison(recorded)
    next(comparison.watch(resimulate(open_env(recorded), recorded)))
    assert comparison.first is None and not comparison.exact


def test_an_episode_of_the_simulator_replays_exactly(tmp_path: Path) -> None:
    pytest.importorskip("mani_skill", reason="ManiSkill is not installed")
    pytest.importorskip("keystep.suites.tabletop.oracle.demonstrations")
    collect(tmp_path, suite="tabletop", tasks=["Pick"], episodes=1)
    comparison = compare(tmp_path, 0)
    assert comparison.exact and comparison.frames > 0 and comparison.solved


# ---- what is refused --------------------------------------------------------------------------------------


def test_another_version_of_the_world_is_refused(dataset: Path) -> None:
    edit_collection(dataset, world_version=7)
    with pytest.raises(DatasetError, match=f"recorded by world version 7, this is {layout.VERSION}; --force"):
        load_recorded(dataset, 0)
    assert load_recorded(dataset, 0, force=True).episode.index == 0


@pytest.mark.parametrize("package", ["keystep", "mani_skill", "sapien", "numpy", "scipy"])
def test_other_packages_are_a_warning(dataset: Path, package: str) -> None:
    assert load_recorded(dataset, 0).warnings == ()
    collection = DatasetReader(dataset).collection
    kept = {key: {**collection[key]} for key in ("versions", "other_versions")}
    (table,) = (versions for versions in kept.values() if package in versions)
    installed, table[package] = table[package], "0.1"
    edit_collection(dataset, **kept)
    (warning,) = load_recorded(dataset, 0).warnings
    assert warning == f"{package}: recorded with 0.1, this is {installed}"
    edit_collection(dataset, versions=None, other_versions=None)
    assert len(load_recorded(dataset, 0).warnings) == 5


@pytest.mark.parametrize("index", [-1, 4, 10**9])
def test_an_episode_out_of_range(dataset: Path, index: int) -> None:
    with pytest.raises(DatasetError, match=rf"episode: expected 0\.\.3, got {index}"):
        load_recorded(dataset, index)


def test_an_empty_dataset(tmp_path: Path) -> None:
    with DatasetWriter(tmp_path, SUITE.source(["Pick"], 0, "state", 16).spec):
        pass
    with pytest.raises(DatasetError, match="expected at least one episode, found none"):
        load_recorded(tmp_path, 0)


def test_an_episode_without_names(dataset: Path) -> None:
    file = dataset / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["keystep.extras"]), file)
    with pytest.raises(DatasetError, match="expected names in the extras of episode 1, found none"):
        load_recorded(dataset, 1)


def test_another_suite_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 2)
    with pytest.raises(DatasetError, match="suite: expected 'tabletop', which can be replayed, got none"):
        load_recorded(tmp_path, 0)


@pytest.mark.parametrize("column", [*COLUMNS])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    features = {key: feature for key, feature in source.features("state", 16).items() if key != column}
    how = {"suite": "tabletop", "env_id": source.ENV_ID, "world_version": layout.VERSION}
    with DatasetWriter(tmp_path, DatasetSpec(20, features, {"Pick": "Pick"}, None, how)):
        pass
    with pytest.raises(DatasetError, match=f"expected the column {column}, found only"):
        load_recorded(tmp_path, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "moon"}, "suite: expected 'tabletop', which can be replayed, got 'moon'"),
        ({"env_id": None}, "env_id: expected one in meta/keystep.json, got none"),
    ],
)
def test_a_bad_side_file(dataset: Path, changes: dict, message: str) -> None:
    edit_collection(dataset, **changes)
    with pytest.raises(DatasetError, match=message):
        load_recorded(dataset, 0)


def test_an_unknown_environment(dataset: Path) -> None:
    edit_collection(dataset, env_id="keystep/Nowhere-<Task>-v0")
    with pytest.raises(
        DatasetError, match="env_id: expected a known environment, got keystep/Nowhere-Pick-v0"
    ):
        open_env(load_recorded(dataset, 0))


# ---- the command ------------------------------------------------------------------------------------------


def test_the_command_says_exact(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(dataset, 3)
    out = capsys.readouterr().out.splitlines()
    episode = DatasetReader(dataset).episode(3)
    assert out[0] == f"episode 3: Swap, seed {episode.seed}, {episode.length} steps"
    assert out[1] == f"exact in all {episode.length} frames; solved"


def test_the_command_fails_with_the_first_difference(dataset: Path) -> None:
    edit_number(dataset, "observation.state", 0, 5, 0, next_bit)
    with pytest.raises(
        keystep.Error, match=r"episode 0: first differs at frame 5, observation.state, joint_1_rad"
    ):
        command.main(dataset, 0)


def test_the_command_warns(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_collection(dataset, versions={}, other_versions={})
    command.main(dataset, 0)
    assert capsys.readouterr().err.count("warning: ") == 5


@pytest.mark.parametrize("differs", [False, True])
def test_the_video_is_as_long_as_the_episode(dataset: Path, tmp_path: Path, differs: bool) -> None:
    av = pytest.importorskip("av")
    video = tmp_path / "out.mp4"
    if differs:
        edit_number(dataset, "objects.poses", 0, 0, 0, next_bit)
        with pytest.raises(keystep.Error, match="first differs at frame 0"):
            command.main(dataset, 0, video)
    else:
        command.main(dataset, 0, video)
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert frames[0].shape == (768, 512, 3)
    assert len(frames) == round(DatasetReader(dataset).episode(0).length * 30 / 20)
    # The fake camera gets brighter by 20 at every step.
    assert abs(frames[0][100, 100].mean()) < 8 and abs(frames[6][100, 100].mean() - 4 * 20) < 8
