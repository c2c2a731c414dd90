"""Tasks with weights: their windows are taken so often, evenly, and the run resumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import torch
from safetensors.torch import load_file
from walks import write_dataset

from keystep.data import DatasetError
from keystep.train import ControllerTraining, PlannerTraining, TrainConfig, train
from keystep.train.batches import Batches
from keystep.train.trainer import Trainer

pytestmark = pytest.mark.usefixtures("private_cache")


def config_of(dataset: Path, output: Path, kind: type = ControllerTraining, **changes: object) -> TrainConfig:
    settings: dict = dict(
        dataset=dataset, output=output, preset="tiny", steps=6, batch_size=8, warmup_steps=1
    )
    settings |= dict(val_fraction=0.0, log_every=2, checkpoint_every=3, device="cpu", threads=1)
    return kind(**{**settings, **changes})


class Counted:
    """Windows whose batches are their own numbers, for `Batches` alone."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def batch(self, windows: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"window": windows}

    def prepare(self, arrays: dict[str, np.ndarray], device: object) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(value) for key, value in arrays.items()}


@pytest.mark.parametrize("weight", [0.001, 0.3, 1.0, 1.5, 2.5, 4.0])
def test_an_epoch_takes_every_window_as_often_as_its_weight_says(weight: float) -> None:
    windows = Counted(30)
    weights = np.where(np.arange(30) < 10, weight, 1.0)
    batches = Batches(windows, windows, 1, 0, torch.device("cpu"), weights=weights)
    extra = max(1, round(10 * weight))
    epoch = 20 + extra
    orders = []
    for number in range(3):
        taken = np.array([int(batches[number * epoch + step]["window"][0]) for step in range(epoch)])
        counts = np.bincount(taken, minlength=30)
        assert (counts[10:] == 1).all()
        assert counts[:10].sum() == extra
        assert counts[:10].max() - counts[:10].min() <= 1
        orders.append(taken.tolist())
    assert orders[0] != orders[1]
    again = Batches(windows, windows, 1, 0, torch.device("cpu"), weights=weights)
    assert int(again[epoch + 3]["window"][0]) == orders[1][3]


@pytest.mark.parametrize("kind", [ControllerTraining, PlannerTraining])
def test_the_batches_of_a_run_have_the_share(kind: type, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "toy")
    changes = {"subgoals": 2, "latest_start": 30} if kind is PlannerTraining else {}
    trainer = Trainer(config_of(dataset, tmp_path / "run", kind, task_weights=("left=3",), **changes))
    tasks = trainer.batches._windows.tasks()
    share = 3 * (tasks == 0).sum() / (3 * (tasks == 0).sum() + (tasks != 0).sum())
    order = trainer.batches._epoch_order(0)
    assert (tasks[order] == 0).mean() == pytest.approx(share)
    assert share > (tasks == 0).mean() + 0.1


def test_a_run_of_weights_resumes_bit_for_bit_and_with_no_others(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "toy")
    settings: dict = dict(schedule="constant", task_weights=("left=2.5",))
    train(config_of(dataset, tmp_path / "whole", **settings))
    train(config_of(dataset, tmp_path / "parts", **settings, steps=3))
    train(config_of(dataset, tmp_path / "parts", **settings))
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    with pytest.raises(DatasetError, match=r"task_weights: expected .*=2.5.* to resume, got \[\]"):
        train(config_of(dataset, tmp_path / "parts", schedule="constant"))


@pytest.mark.parametrize("text", ["stack", "stack=", "=2", "stack=0", "stack=-1", "stack=inf", "stack=nan"])
def test_what_is_no_weight_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task_weights: expected TASK=WEIGHT with a weight above 0, got"):
        config_of(tmp_path, tmp_path, task_weights=(text,))


def test_a_task_is_weighted_once_and_must_be_the_datasets(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task_weights: expected a once, got 'a=3' again"):
        config_of(tmp_path, tmp_path, task_weights=("a=2", "a=3"))
    dataset = write_dataset(tmp_path / "toy")
    with pytest.raises(ValueError, match="task_weights: expected tasks of left, right, got 'stack'"):
        train(config_of(dataset, tmp_path / "run", task_weights=("stack=2",)))
