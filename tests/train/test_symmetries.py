"""Training on equivalents of every example: what is shown is what the suite says, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import torch
from safetensors.torch import load_file
from walks import write_dataset

from keystep.data import Column, DatasetReader, DatasetSpec, DatasetWriter, image_column
from keystep.suites.franka3blocks.layout import STATE_NAMES
from keystep.suites.franka3blocks.symmetries import SYMMETRIES
from keystep.suites.franka3blocks.tasks import TASKS
from keystep.train import ControllerTraining, PlannerTraining, train
from keystep.train.controller import ControllerRecipe
from keystep.train.planner import PlannerRecipe
from keystep.train.symmetries import SymmetricWindows, symmetries_of

pytestmark = pytest.mark.usefixtures("private_cache")
STATE, LENGTH, CUBES = "observation.state", 16, slice(7, 16)


def blocks(path: Path, tasks: tuple[str, ...] = tuple(TASKS), image: bool = False) -> Path:
    """An episode of every task; a frame's state tells its task, its number and, by the cubes, its columns."""
    features = {
        STATE: Column("float32", (26,), STATE_NAMES),
        "action": Column("float32", (2,), ("dx", "dy")),
    }
    if image:
        features["observation.images.static"] = image_column(32, 32)
    action = {"names": ["dx", "dy"], "units": ["m"] * 2, "min": [-1.0] * 2, "max": [1.0] * 2}
    action |= {"rate_limit": None, "hold": [0.0] * 2}
    told = {name: TASKS[name].instruction for name in tasks}
    spec = DatasetSpec(60, features, told, "blocks", {"action": action, "suite": "franka3blocks"})
    with DatasetWriter(path, spec) as writer:
        for task in tasks:
            state = np.tile(np.arange(26, dtype=np.float32), (LENGTH, 1))
            state[:, 0] = list(TASKS).index(task)
            state[:, 1] = np.arange(LENGTH)
            frames = {STATE: state, "action": np.zeros((LENGTH, 2), np.float32)}
            if image:
                frames["observation.images.static"] = np.zeros((LENGTH, 32, 32, 3), np.uint8)
            writer.add_episode(frames, task, seed=0)
    return path


def config_of(kind: type, dataset: Path, output: Path, **changes: object):
    settings: dict = dict(preset="tiny", steps=6, batch_size=8, warmup_steps=1, val_fraction=0.0)
    settings |= dict(log_every=2, checkpoint_every=3, device="cpu", threads=1, symmetries=True)
    if kind is ControllerTraining:
        settings |= dict(condition="goal", observe="state")
    else:
        settings |= dict(subgoals=2, steps_per_subgoal=4)
    return kind(dataset, output, **{**settings, **changes})


def drawn(windows, rounds: int = 30):
    rng = np.random.default_rng(0)
    return [windows.batch(np.arange(len(windows)), rng) for _ in range(rounds)]


def test_goals_change_with_their_observation_and_actions_stay(tmp_path: Path) -> None:
    dataset = blocks(tmp_path / "blocks")
    config = config_of(ControllerTraining, dataset, tmp_path / "run")
    windows = ControllerRecipe(config, DatasetReader(dataset)).windows(list(range(10)))
    orders = {symmetry.columns[STATE] for symmetry in SYMMETRIES}
    met = set()
    for batch in drawn(windows):
        seen, goal = batch[STATE], batch["goal.state"]
        np.testing.assert_array_equal(seen[:, 2:], goal[:, 2:])  # one symmetry for both
        assert (goal[:, 1] > seen[:, 1]).all() and (goal[:, 0] == seen[:, 0]).all()  # of one episode
        met |= {(0, 1, *map(int, row[2:])) for row in seen}
    assert met == orders


@pytest.mark.parametrize("history", [1, 3])
def test_a_history_changes_as_a_whole_and_the_task_with_it(tmp_path: Path, history: int) -> None:
    dataset = blocks(tmp_path / "blocks")
    config = config_of(
        ControllerTraining, dataset, tmp_path / "run", condition="task", history=history, chunk_start=0
    )
    windows = ControllerRecipe(config, DatasetReader(dataset)).windows(list(range(10)))
    names = list(TASKS)
    for batch in drawn(windows, 5):
        seen = batch[STATE].reshape(len(windows), -1, 26)
        for rows, task in zip(seen, batch["task"], strict=True):
            assert (rows[:, CUBES] == rows[0, CUBES]).all()
            columns = (0, 1, *map(int, rows[0, 2:]))
            (symmetry,) = (each for each in SYMMETRIES if each.columns[STATE] == columns)
            assert symmetry.tasks[names[int(rows[0, 0])]] == names[task]


def test_plans_are_told_in_the_words_of_the_task_that_they_became(tmp_path: Path) -> None:
    dataset = blocks(tmp_path / "blocks")
    reader = DatasetReader(dataset)
    recipe = PlannerRecipe(config_of(PlannerTraining, dataset, tmp_path / "run", phrasings=False), reader)
    windows = recipe.windows(list(range(10)))  # one sentence a task: its number is the task's
    names = list(TASKS)
    for batch in drawn(windows, 10):
        for seen, plan, text in zip(batch["observation"], batch["subgoals"], batch["text"], strict=True):
            assert (plan[:, CUBES] == seen[CUBES]).all()
            columns = (0, 1, *map(int, seen[2:]))
            (symmetry,) = (each for each in SYMMETRIES if each.columns[STATE] == columns)
            assert symmetry.tasks[names[int(seen[0])]] == names[text]


def test_tasks_without_a_partner_keep_the_symmetries_that_leave_them(tmp_path: Path) -> None:
    stack = DatasetReader(blocks(tmp_path / "stack", ("stack",)))
    assert symmetries_of(stack, [STATE]) == SYMMETRIES
    lift = DatasetReader(blocks(tmp_path / "lift", ("lift_red",)))
    assert {each.tasks["lift_red"] for each in symmetries_of(lift, [STATE])} == {"lift_red"}
    assert len(symmetries_of(lift, [STATE])) == 2
    two = DatasetReader(blocks(tmp_path / "two", ("lift_red", "push_green_left")))
    with pytest.raises(ValueError, match=r"symmetries: expected tasks that change into each other, got lift"):
        symmetries_of(two, [STATE])


def test_what_no_symmetry_knows_is_refused_before_training(tmp_path: Path) -> None:
    images = blocks(tmp_path / "images", image=True)
    with pytest.raises(ValueError, match=r"symmetries: expected nothing seen but observation.state, got obs"):
        train(config_of(ControllerTraining, images, tmp_path / "run", observe="all"))
    with pytest.raises(ValueError, match=r"symmetries: expected nothing seen but observation.state, got obs"):
        train(config_of(PlannerTraining, images, tmp_path / "run", subgoal="observation.images.static"))
    walks = write_dataset(tmp_path / "walks")
    with pytest.raises(
        ValueError, match=r"symmetries: expected observation.state of shape \(26,\), got \(2,\)"
    ):
        train(config_of(ControllerTraining, walks, tmp_path / "run", condition="task"))
    assert not (tmp_path / "run" / "training_state").exists()


@pytest.mark.parametrize("kind", [ControllerTraining, PlannerTraining])
def test_a_run_resumes_bit_for_bit(kind: type, tmp_path: Path) -> None:
    dataset = blocks(tmp_path / "blocks")
    train(config_of(kind, dataset, tmp_path / "whole", schedule="constant"))
    train(config_of(kind, dataset, tmp_path / "parts", schedule="constant", steps=3))
    train(config_of(kind, dataset, tmp_path / "parts", schedule="constant"))
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    train(config_of(kind, dataset, tmp_path / "plain", schedule="constant", symmetries=False))
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    assert not all(torch.equal(whole[key], plain[key]) for key in whole)


def test_what_is_not_a_vector_is_left_alone() -> None:
    class Windows:
        def __len__(self) -> int:
            return 3

        def tasks(self) -> np.ndarray:
            return np.zeros(3, np.int64)

        def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
            return {"state": np.tile(np.arange(26.0), (3, 1)), "action": np.arange(6.0).reshape(3, 2)}

    windows = SymmetricWindows(Windows(), SYMMETRIES, {"state": STATE}, [{"name": "stack"}])
    batch = windows.batch(np.arange(3), np.random.default_rng(1))
    np.testing.assert_array_equal(batch["action"], np.arange(6.0).reshape(3, 2))
    assert set(batch) == {"state", "action"}
