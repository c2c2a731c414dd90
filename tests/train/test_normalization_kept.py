"""Statistics that others wrote, and those of a run that is continued."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
import torch
from normalization_runs import STATE, config, healthy, recipe, write_dataset

from keystep.data import DatasetError
from keystep.data.check import inspect_dataset
from keystep.train import ControllerTraining, PlannerTraining, train
from keystep.train.same_run import check_values

pytestmark = pytest.mark.usefixtures("private_cache")


# ---- statistics of others


def with_stats(folder: Path, **action: Any) -> Path:
    """The dataset, whose meta/stats.json says something else of its actions."""
    path = folder / "meta/stats.json"
    stats = json.loads(path.read_text())
    stats["action"] |= action
    path.write_text(json.dumps(stats))
    return folder


@pytest.mark.parametrize("mode", ["min_max", "mean_std", "quantile"])
def test_the_frames_decide_not_what_others_wrote_of_them(mode: str, tmp_path: Path) -> None:
    episodes = [60 + 100 * part for part in healthy(4)]
    dataset = write_dataset(tmp_path / "d", episodes, 0.1)
    with_stats(dataset, min=[0.0] * 2, max=[1.0] * 2, mean=[0.5] * 2, std=[0.3] * 2)
    made = recipe(ControllerTraining, dataset, normalization=(f"action={mode}",))
    frames = (np.float32(0.1) * np.concatenate(episodes).astype(np.float32)).astype(np.float64)
    for name, value in (("min", frames.min(0)), ("max", frames.max(0)), ("mean", frames.mean(0))):
        np.testing.assert_allclose(made.draft.stats["action"][name], value, rtol=1e-12)
    np.testing.assert_allclose(made.draft.stats["action"]["std"], frames.std(0), rtol=1e-9)
    normal = made.draft.normalizer().normalize("action", torch.from_numpy(frames).float())
    assert float(normal.std()) > 0.5 and float(normal.abs().max()) <= made.draft.config.sampler.clip_range
    (note,) = [note for note in made.notes if "statistics" in note]
    assert "action.min: expected those of the frames, [5." in note and "got [0, 0]" in note


@pytest.mark.parametrize("kind", [ControllerTraining, PlannerTraining])
def test_right_statistics_are_not_remarked_on(kind: type, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", healthy(4), 1e-3)
    assert not [note for note in recipe(kind, dataset).notes if "statistics" in note]
    assert not inspect_dataset(dataset).remarks


def test_check_remarks_on_wrong_statistics(tmp_path: Path) -> None:
    dataset = with_stats(write_dataset(tmp_path / "d", healthy(4)), max=[0.05, 70.0])
    found = inspect_dataset(dataset)
    (remark,) = found.remarks
    assert remark.startswith("stats.json: action.max: expected those of the frames, ")
    assert remark.endswith("got [0.05, 70]") and not found.problems


# ---- a run that is continued


def resumed_with(dataset: Path, change: Callable[[dict[str, Any]], Any]) -> Any:
    """Two steps, then two more after `change` of the stored numbers."""
    train(config(ControllerTraining, dataset, dataset.parent / "run"))
    (path,) = (dataset.parent / "run/training_state").glob("step-*/state.json")
    numbers = json.loads(path.read_text())
    change(numbers)
    path.write_text(json.dumps(numbers))
    return train(config(ControllerTraining, dataset, dataset.parent / "run", steps=4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: n["normalization_values"]["action"]["max"].__setitem__(1, 7.0), r"action\.max: .* 7\.0"),
        (
            lambda n: n["normalization_values"]["action"].update(mode="quantile"),
            r"action\.mode: .*'quantile'",
        ),
        (
            lambda n: n["normalization_values"].update(clip_range=2.5),
            r"clip_range: expected 2\.5 .* 1\.0",
        ),
        (lambda n: n["normalization_values"].pop(STATE), "expected .* to resume"),
    ],
)
def test_weights_are_not_given_another_normalization(change: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"normalization.*{message}"):
        resumed_with(write_dataset(tmp_path / "d", healthy(4)), change)


@pytest.mark.parametrize(
    "change",
    [
        lambda n: None,
        lambda n: n.pop("normalization_values"),  # a run of before
        lambda n: n["normalization_values"]["action"].update(
            max=[value * (1 + 1e-12) for value in n["normalization_values"]["action"]["max"]]
        ),
    ],
)
def test_the_same_normalization_resumes(change: Any, tmp_path: Path) -> None:
    assert resumed_with(write_dataset(tmp_path / "d", healthy(4)), change).step == 4


def test_statistics_of_images_that_changed_are_not_resumed(tmp_path: Path) -> None:
    entries = {"observation.images.a": {"mode": "mean_std", "mean": [0.5], "std": [0.2]}}
    check_values("normalization", entries, json.loads(json.dumps(entries)))
    other = {"observation.images.a": {"mode": "mean_std", "mean": [0.4], "std": [0.2]}}
    with pytest.raises(DatasetError, match=r"images\.a\.mean: expected \[0\.5\] .* restore .*stats\.json"):
        check_values("normalization", entries, other)


# ---- relative actions


@pytest.mark.parametrize("preset", ["tiny", "act-tiny"])
def test_standing_still_beyond_the_range_is_told(preset: str, tmp_path: Path) -> None:
    episodes = healthy(4)
    for states in episodes:
        states[:, 0] += 0.5
    dataset = write_dataset(tmp_path / "d", episodes, law=["relative"] * 2)
    notes = [note for note in recipe(ControllerTraining, dataset, preset=preset).notes if "clips" in note]
    if preset == "act-tiny":  # which clips nothing
        assert notes == []
        return
    (note,) = notes
    assert "warning: normalization: dx (0.4" in note and "dy" not in note
    assert "--normalization action=mean_std" in note and "--action-law" in note
    for changes in ({"normalization": ("action=mean_std",)}, {"action_law": "absolute"}):
        told = recipe(ControllerTraining, dataset, preset=preset, **changes).notes
        assert not [note for note in told if "clips" in note]
