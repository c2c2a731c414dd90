"""What a run takes from elsewhere: weights, statistics, several datasets, and which frame a goal is."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import torch
from safetensors.torch import load_file
from walks import write_dataset

from keystep.data import ChunkWindows, DatasetError, DatasetReader, JoinedDatasets
from keystep.models.checkpoint import read_checkpoint
from keystep.train import ControllerTraining, PlannerTraining, TrainConfig, train
from keystep.train.trainer import Trainer

KINDS: dict[str, dict] = {
    "goal": dict(condition="goal"),
    "act": dict(condition="goal", preset="act-tiny"),
    "planner": dict(kind=PlannerTraining, subgoals=4, steps_per_subgoal=2),
}


@pytest.fixture(autouse=True)
def shared_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("KEYSTEP_CACHE", str(tmp_path_factory.getbasetemp() / "start-cache"))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "first")


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same world; longer walks, so that its statistics are others."""
    return write_dataset(tmp_path_factory.mktemp("data") / "second", episodes=4, length=30)


def config_of(
    dataset: object, output: Path, kind: type = ControllerTraining, **changes: object
) -> TrainConfig:
    settings: dict = dict(
        dataset=dataset, output=output, preset="tiny", steps=4, batch_size=8, warmup_steps=1
    )
    settings |= dict(val_fraction=0.2, log_every=2, checkpoint_every=2, device="cpu", threads=1)
    return kind(**{**settings, **changes})


# ---- weights


@pytest.mark.parametrize("name", KINDS)
def test_raw_and_averaged_weights_start_at_the_checkpoints(name: str, first: Path, tmp_path: Path) -> None:
    train(config_of(first, tmp_path / "old", **KINDS[name]))
    trainer = Trainer(config_of(first, tmp_path / "new", weights=tmp_path / "old", seed=7, **KINDS[name]))
    old = load_file(tmp_path / "old" / "model.safetensors")
    raw = trainer.model.state_dict()
    assert all(torch.equal(raw[key], old[key]) for key in old)
    shadows = zip(dict(trainer.model.named_parameters()), trainer.average.shadow_params, strict=True)
    assert all(torch.equal(shadow, old[key]) for key, shadow in shadows)
    assert (trainer.step, trainer.average.optimization_step) == (0, 0)
    assert not trainer.optimizer.state_dict()["state"]


def test_the_statistics_of_the_weights_stay_and_the_run_resumes(
    first: Path, second: Path, tmp_path: Path
) -> None:
    train(config_of(first, tmp_path / "old", condition="goal"))
    changes: dict = dict(condition="goal", weights=tmp_path / "old", schedule="constant")
    train(config_of(second, tmp_path / "whole", **changes))
    train(config_of(second, tmp_path / "parts", steps=2, **changes))
    train(config_of(second, tmp_path / "parts", **changes))
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    old, new = (read_checkpoint(tmp_path / run) for run in ("old", "whole"))
    assert new.stats == old.stats
    assert new.normalizer().entries == old.normalizer().entries
    digest = new.provenance["weights_sha256"]
    assert len(digest) == 64
    with pytest.raises(DatasetError, match="weights_sha256: expected"):
        train(config_of(second, tmp_path / "parts", **{**changes, "weights": tmp_path / "whole"}))
    with pytest.raises(DatasetError, match=r"weights_sha256: expected .* to resume, got None"):
        train(config_of(second, tmp_path / "parts", condition="goal", schedule="constant"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(kind=PlannerTraining), "kind: expected 'planner', got 'controller'"),
        (dict(condition="task"), "weights.goal: expected 'none', got 'observation'"),
        (dict(condition="goal", preset="act-tiny"), "weights.kind: expected 'act', got 'diffusion'"),
        (dict(condition="goal", preset="small"), "weights.condition_features: expected|weights.down_dims"),
        (dict(condition="goal", normalization=("quantile",)), "normalization: expected none, as"),
        (dict(condition="goal", action_law="absolute"), "action_law: expected none, as"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_refused_by_field(
    changes: dict, message: str, first: Path, tmp_path: Path
) -> None:
    train(config_of(first, tmp_path / "old", condition="goal"))
    with pytest.raises((DatasetError, ValueError), match=message):
        train(config_of(first, tmp_path / "new", weights=tmp_path / "old", **changes))
    assert not (tmp_path / "new" / "policy.json").exists()


def test_weights_must_be_a_checkpoint(first: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="weights: expected a checkpoint"):
        train(config_of(first, tmp_path / "new", weights=tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match=r"statistics: expected a checkpoint .* or a dataset"):
        train(config_of(first, tmp_path / "new", statistics=tmp_path / "nowhere"))


# ---- statistics


@pytest.mark.parametrize("name", KINDS)
def test_statistics_of_a_dataset_or_of_a_checkpoint_are_the_same(
    name: str, first: Path, second: Path, tmp_path: Path
) -> None:
    train(config_of(first, tmp_path / "old", **KINDS[name]))
    entries = [
        Trainer(config_of(second, tmp_path / f"new-{place.name}", statistics=place, **KINDS[name]))
        .recipe.draft.normalizer()
        .entries
        for place in (first, tmp_path / "old")
    ]
    own = Trainer(config_of(second, tmp_path / "own", **KINDS[name])).recipe.draft.normalizer().entries
    assert entries[0] == entries[1] == read_checkpoint(tmp_path / "old").normalizer().entries
    assert own != entries[0]


def test_a_chosen_normalisation_is_measured_where_the_statistics_are(
    first: Path, second: Path, tmp_path: Path
) -> None:
    choice: dict = dict(condition="goal", normalization=("quantile",))
    new = Trainer(config_of(second, tmp_path / "new", statistics=first, **choice)).recipe.draft
    old = Trainer(config_of(first, tmp_path / "old", **choice)).recipe.draft
    assert new.normalizer().entries == old.normalizer().entries
    assert new.config == old.config  # the clip range, too


# ---- several datasets


def test_joined_datasets_are_their_episodes_in_order(first: Path, second: Path) -> None:
    joined = JoinedDatasets([first, second])
    parts = [DatasetReader(path) for path in (first, second)]
    assert (len(joined), joined.frames) == (sum(map(len, parts)), sum(part.frames for part in parts))
    frames = np.concatenate([batch["action"] for batch in joined.iter_batches(["action"])])
    told = [episode for part in parts for episode in part.episodes()]
    for number, (episode, own) in enumerate(zip(joined.episodes(), told, strict=True)):
        reader = parts[number >= len(parts[0])]
        assert (episode.index, episode.task, episode.length) == (number, own.task, own.length)
        expected = reader.read_episode(own, ["action"])["action"]
        np.testing.assert_array_equal(frames[episode.start : episode.stop], expected)
    lows = [part.stats["observation.state"]["min"] for part in parts]
    np.testing.assert_allclose(joined.stats["observation.state"]["min"], np.min(lows, axis=0))
    assert joined.sha256() != JoinedDatasets([second, first]).sha256()


def test_tasks_are_the_same_whatever_their_numbers(first: Path, tmp_path: Path) -> None:
    from walks import TASKS

    mixed = write_dataset(tmp_path / "mixed", tasks=dict(reversed(TASKS.items())))
    assert [task["name"] for task in DatasetReader(mixed).tasks] == ["right", "left"]
    joined = JoinedDatasets([first, mixed])
    numbers = np.concatenate([batch["task_index"] for batch in joined.iter_batches(["task_index"])])
    names = [task["name"] for task in joined.tasks]
    assert [names[numbers[episode.start]] for episode in joined.episodes()] == [
        episode.task for episode in joined.episodes()
    ]


@pytest.mark.parametrize("name", KINDS)
def test_training_on_two_datasets_resumes_and_tells_both(
    name: str, first: Path, second: Path, tmp_path: Path
) -> None:
    changes: dict = dict(schedule="constant", statistics=first, **KINDS[name])
    train(config_of((first, second), tmp_path / "whole", **changes))
    train(config_of((first, second), tmp_path / "parts", steps=2, **changes))
    train(config_of((first, second), tmp_path / "parts", **changes))
    whole, parts = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    told = read_checkpoint(tmp_path / "whole").provenance
    assert told["datasets_sha256"] == [DatasetReader(path).sha256() for path in (first, second)]
    with pytest.raises(DatasetError, match="dataset_sha256: expected"):
        train(config_of(first, tmp_path / "parts", **changes))


def change_collection(path: Path, **changes: object) -> None:
    place = path / "meta" / "keystep.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | changes))


def test_datasets_that_differ_are_refused_by_field(first: Path, tmp_path: Path) -> None:
    other = shutil.copytree(first, tmp_path / "other")
    with pytest.raises(DatasetError, match="dataset: expected each folder once"):
        JoinedDatasets([first, first])
    collection = DatasetReader(first).collection
    change_collection(other, action={**collection["action"], "hold": [0.5] * 3})
    with pytest.raises(DatasetError, match=r"other: action.hold: expected \[0.0, 0.0, 0.0\].*got \[0.5"):
        JoinedDatasets([first, other])
    change_collection(other, action=collection["action"], env_id="world/B-v2")
    change_collection(first_copy := shutil.copytree(first, tmp_path / "copy"), env_id="world/A-v1")
    with pytest.raises(DatasetError, match=r"other: env_id: expected 'world/A-v1' .*got 'world/B-v2'"):
        JoinedDatasets([first_copy, other])
    with pytest.raises(DatasetError, match=r"image: features.observation.images.static: expected None"):
        JoinedDatasets([first, write_dataset(tmp_path / "image", image=True)])
    with pytest.raises(DatasetError, match=r"tasks: expected tasks of left, right"):
        JoinedDatasets([first, write_dataset(tmp_path / "tasks", tasks={"up": "Go up.", "down": "Go down."})])
    with pytest.raises(DatasetError, match="dataset: expected at least one folder, got none"):
        train(config_of((), tmp_path / "run"))


# ---- the goal's frame


@pytest.mark.parametrize(("last", "ahead"), [(False, 0), (True, 1)])
def test_the_goal_is_the_frame_after_or_of_the_last_action(last: bool, ahead: int, first: Path) -> None:
    reader = DatasetReader(first)
    windows = ChunkWindows(reader, 8, condition="goal", lengths=(3, 3), goal_last=last)
    assert len(windows) == sum(episode.length - 3 + ahead for episode in reader.episodes())
    states = np.concatenate([b["observation.state"] for b in reader.iter_batches(["observation.state"])])
    batch = windows.batch(np.array([0, 5]), np.random.default_rng(0))
    np.testing.assert_array_equal(batch["observation.state"], states[[0, 5]])
    np.testing.assert_array_equal(batch["goal.state"], states[[3 - ahead, 8 - ahead]])


def test_the_goals_frame_is_a_setting_of_training_that_stays(first: Path, tmp_path: Path) -> None:
    config = config_of(first, tmp_path, condition="goal", goal_frame="last")
    train(dataclasses.replace(config, steps=2))
    with pytest.raises(DatasetError, match="goal_frame: expected last to resume, got after"):
        train(dataclasses.replace(config, goal_frame="after"))
