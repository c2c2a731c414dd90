"""How numbers are normalised: the choice, exact quantiles, the clip range they ask for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
import torch
import tyro
from normalization_runs import STATE, config, flung, healthy, recipe, write_dataset

from keystep.data import DatasetError, DatasetReader, cache
from keystep.files import write_json
from keystep.models import (
    SamplerConfig,
    camera_feature,
    normalization_entry,
    random_checkpoint,
    read_checkpoint,
    state_feature,
)
from keystep.models.checkpoint import save_checkpoint
from keystep.models.normalizer import Normalizer
from keystep.models.presets import ACT_PRESETS, PLANNER_PRESETS, PRESETS
from keystep.train import ControllerTraining, PlannerTraining, train
from keystep.train.normalization import clip_range, normalize

pytestmark = pytest.mark.usefixtures("private_cache")


# ---- quantiles


def test_quantiles_are_those_of_all_frames(tmp_path: Path) -> None:
    """Episodes at different places: the mean of their quantiles is nowhere near."""
    episodes = [place + part for place, part in zip((0, 5, 9), healthy(3), strict=True)]
    plan = recipe(
        ControllerTraining, write_dataset(tmp_path / "d", episodes), normalization=("quantile",)
    ).draft
    frames = np.concatenate(episodes).astype(np.float32).astype(np.float64)
    for key in (STATE, "action"):
        for name, share in (("q01", 0.01), ("q99", 0.99)):
            np.testing.assert_allclose(plan.stats[key][name], np.quantile(frames, share, axis=0), rtol=1e-12)
    entry = plan.normalizer().entries[STATE]
    assert entry == {"mode": "quantile", "low": plan.stats[STATE]["q01"], "high": plan.stats[STATE]["q99"]}


def test_no_quantiles_are_claimed_of_the_dataset(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", healthy(3))
    written = json.loads((tmp_path / "d/meta/stats.json").read_text())
    assert set(written[STATE]) == {"min", "max", "mean", "std", "count"}
    written[STATE]["q01"] = [1e9, 1e9]  # as LeRobot writes it: a mean of the episodes'
    (tmp_path / "d/meta/stats.json").write_text(json.dumps(written))
    assert "q01" not in DatasetReader(tmp_path / "d").stats[STATE]


def test_network_values_of_each_mode() -> None:
    stats = {"min": [-4.0], "max": [8.0], "mean": [1.0], "std": [2.0], "q01": [-1.0], "q99": [3.0]}
    values = torch.tensor([[-4.0], [-1.0], [3.0], [8.0]])
    wanted = {"min_max": (-1, 1), "mean_std": (-2.5, 3.5), "quantile": (-2.5, 3.5), "identity": (-4, 8)}
    for mode, ends in wanted.items():
        normalizer = Normalizer({STATE: stats}, {STATE: mode})
        normal = normalizer.normalize(STATE, values)
        assert (float(normal[0]), float(normal[-1])) == pytest.approx(ends)  # none is clipped
        torch.testing.assert_close(normalizer.unnormalize(STATE, normal), values)
    assert Normalizer({STATE: stats}, {STATE: "quantile"}).normalize(STATE, values)[1:3, 0].tolist() == [
        -1,
        1,
    ]


def test_constant_dimensions_are_widened() -> None:
    still = {"min": [2.0], "max": [2.0], "mean": [2.0], "std": [0.0], "q01": [2.0], "q99": [2.0]}
    assert normalization_entry("min_max", still) == {"mode": "min_max", "min": [2.0], "max": [3.0]}
    assert normalization_entry("quantile", still) == {"mode": "quantile", "low": [2.0], "high": [3.0]}
    rare = still | {"min": [-1500.0], "max": [2.0]}  # moves in less than 1 % of the frames: it has one scale
    assert normalization_entry("quantile", rare) == {"mode": "quantile", "low": [-1500.0], "high": [2.0]}


def test_a_narrow_range_far_from_zero_keeps_its_digits() -> None:
    stats = {"min": [1e6 + 0.0125], "max": [1e6 + 1.0125]}
    normalizer = Normalizer({STATE: stats}, {STATE: "min_max"})
    value = torch.tensor([1e6 + 0.25])
    assert float(normalizer.normalize(STATE, value)) == pytest.approx(2 * (0.25 - 0.0125) - 1, abs=1e-6)
    assert float(normalizer.unnormalize(STATE, normalizer.normalize(STATE, value))) == float(value)


# ---- the choice


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (("max",), "expected MODE or KEY=MODE with a MODE of min_max, mean_std, quantile, got 'max'"),
        (("action=identity",), "got 'action=identity'"),
        (("action=quantile", "action=min_max"), "expected action once, got 'action=min_max' again"),
        (("quantile", "min_max"), "expected a mode for all once, got 'min_max' again"),
    ],
)
def test_choices_that_mean_nothing(choices: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="normalization: ") as caught:
        config(ControllerTraining, tmp_path, tmp_path, normalization=choices)
    assert message in str(caught.value)


@pytest.mark.parametrize("kind", [ControllerTraining, PlannerTraining])
@pytest.mark.parametrize("key", ["observation.images.static", "observation.sate", "task_index"])
def test_choices_of_what_the_network_does_not_know(kind: type, key: str, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", healthy(3))
    with pytest.raises(ValueError, match=f"normalization: expected a key of .*{STATE}.*, got {key}=quantile"):
        recipe(kind, dataset, normalization=(f"{key}=quantile",))
    if kind is PlannerTraining:
        with pytest.raises(ValueError, match="got action=quantile"):
            recipe(kind, dataset, normalization=("action=quantile",))


@pytest.mark.parametrize("choice", ["quantile", "observation.images.top=quantile"])
def test_images_have_their_own(choice: str, tmp_path: Path) -> None:
    network = replace(PLANNER_PRESETS["tiny"], observation=(camera_feature("top", 16, 16),))
    reader = DatasetReader(write_dataset(tmp_path / "d", healthy(3)))
    assert normalize(network, reader, {}, (), None).modes == {"observation.images.top": "min_max"}
    with pytest.raises(ValueError, match=rf"normalization: .*none \(images have their own\), got {choice}"):
        normalize(network, reader, {}, (choice,), None)


def test_the_command_line() -> None:
    arguments = ["--dataset", "d", "--output", "o", "--normalization", f"{STATE}=quantile", "action=mean_std"]
    for kind in (ControllerTraining, PlannerTraining):
        assert tyro.cli(kind, args=arguments).normalization == (f"{STATE}=quantile", "action=mean_std")
        assert tyro.cli(kind, args=arguments[:4]).normalization == ()


def test_a_resumed_run_keeps_its_choice(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", healthy(4))
    train(config(ControllerTraining, dataset, tmp_path / "run", normalization=("quantile",)))
    with pytest.raises(DatasetError, match=r"normalization: expected .'quantile'. to resume"):
        train(config(ControllerTraining, dataset, tmp_path / "run", steps=4))


# ---- the clip range


@pytest.mark.parametrize("mode", ["min_max", "mean_std", "quantile"])
@pytest.mark.parametrize("kind", [ControllerTraining, PlannerTraining])
def test_nothing_that_was_seen_is_clipped(kind: type, mode: str, tmp_path: Path) -> None:
    episodes = flung(1, {3: 0.9})
    made = recipe(kind, write_dataset(tmp_path / "d", episodes), normalization=(mode,))
    sampled = STATE if kind is PlannerTraining else "action"
    frames = torch.from_numpy(np.concatenate(episodes).astype(np.float32))
    farthest = float(made.draft.normalizer().normalize(sampled, frames).abs().max())
    allowed = made.draft.config.sampler.clip_range
    assert allowed == 1.0 if mode == "min_max" else farthest <= allowed <= farthest + 0.01
    assert made.draft.normalization[sampled] == mode
    assert made.draft.normalization.keys() == made.draft.normalizer().entries.keys()


def test_standing_still_is_not_clipped(tmp_path: Path) -> None:
    """The chunk of a goal ends with it, and it may lie beyond the actions that were seen."""
    dataset = write_dataset(tmp_path / "d", [5 + part for part in healthy(4)], law=["relative"] * 2)
    plan = recipe(ControllerTraining, dataset, normalization=("quantile",)).draft
    still = float(plan.normalizer().normalize("action", torch.zeros(2)).abs().max())
    assert still > 30 and still <= plan.config.sampler.clip_range <= still + 0.01


def test_clip_ranges() -> None:
    entry = {"mode": "mean_std", "mean": [1.0, 0.0], "std": [0.5, 2.0]}
    assert clip_range(entry, [np.array([1.0, 0.0]), np.array([2.0, -5.0])]) == 2.5
    assert clip_range(entry, [np.array([1.1, 0.1])]) == 1.0  # noise is as wide as that
    assert clip_range(entry, [np.array([1.0, -5.001])]) == 2.51
    assert clip_range(entry, [np.array([1.0, -3.0]), np.array([2.0, np.nan])]) == 2.0


def test_act_has_no_sampler_to_clip(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", healthy(4))
    plan = recipe(ControllerTraining, dataset, preset="act-tiny", normalization=("quantile",)).draft
    assert plan.kind == "act" and plan.normalizer().entries["action"]["mode"] == "quantile"


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    reader = DatasetReader(write_dataset(tmp_path / "d", healthy(3)))
    recipe(ControllerTraining, tmp_path / "d")  # the columns are in the cache now
    (column,) = (tmp_path / "cache").glob(f"*/{STATE}.npy")
    values = np.load(column)
    values[47, 1] = np.nan
    np.save(column, values)
    write_json(cache._note(column), {"crc32": cache._checksum(values)})
    network = replace(PRESETS["tiny"], observation=(state_feature(2),), action_dim=2, sampler=SamplerConfig())
    with pytest.raises(DatasetError, match=r"state\[1\] \(y\): .* got nan in frame 7 of episode 1"):
        normalize(network, reader, {key: dict(value) for key, value in reader.stats.items()}, (), None)


# ---- from training to the checkpoint


def test_the_checkpoint_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(tmp_path / "d", healthy(4))
    choices = (f"{STATE}=quantile", "action=mean_std")
    train(config(ControllerTraining, dataset, tmp_path / "run", normalization=choices))
    document = json.loads((tmp_path / "run/policy.json").read_text())
    assert document["normalization"] == {STATE: "quantile", "action": "mean_std"}
    assert f"normalization: {STATE} quantile, action mean_std" in capsys.readouterr().err
    assert document["policy"]["sampler"]["clip_range"] > 1
    checkpoint = read_checkpoint(tmp_path / "run")
    assert {key: entry["mode"] for key, entry in checkpoint.normalizer().entries.items()} == {
        STATE: "quantile",
        "action": "mean_std",
    }


def test_checkpoints_of_before(tmp_path: Path) -> None:
    """Version 2 had no choice: actions and subgoals min_max, the rest mean_std."""
    for name, network, modes in (
        ("controller", PRESETS["tiny"], {STATE: "mean_std", "action": "min_max"}),
        ("act", ACT_PRESETS["act-tiny"], {STATE: "mean_std", "action": "min_max"}),
        ("planner", PLANNER_PRESETS["tiny"], {STATE: "min_max"}),
    ):
        random_checkpoint(tmp_path / name, network)
        path = tmp_path / name / "policy.json"
        document = json.loads(path.read_text())
        del document["normalization"]
        (state,) = document["observation"]
        document["observation"] = {"state": {"names": state["names"]}, "images": []}
        document["policy"]["state_dim"] = len(state["names"])
        path.write_text(json.dumps(document | {"version": 2}))
        entries = read_checkpoint(tmp_path / name).normalizer().entries
        assert {key: entry["mode"] for key, entry in entries.items()} == modes


def test_a_mode_that_is_unknown_is_refused(tmp_path: Path) -> None:
    from keystep.models import CheckpointError, load_policy

    checkpoint = random_checkpoint(tmp_path, PRESETS["tiny"])
    policy, _ = load_policy(tmp_path)
    save_checkpoint(tmp_path, replace(checkpoint, normalization={"action": "log"}), policy.state_dict())
    with pytest.raises(CheckpointError, match=r"normalization.mode: expected one of min_max, .*, got 'log'"):
        read_checkpoint(tmp_path)
