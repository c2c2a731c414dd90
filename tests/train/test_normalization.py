"""How numbers are normalised: the choice, exact quantiles, the clip range they ask for, named outliers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import torch
import tyro

from keystep.data import Column, DatasetError, DatasetReader, DatasetSpec, DatasetWriter
from keystep.data.check import inspect_dataset
from keystep.models import (
    SamplerConfig,
    camera_feature,
    normalization_entry,
    random_checkpoint,
    read_checkpoint,
    state_feature,
)
from keystep.models.checkpoint import save_checkpoint
from keystep.models.normalizer import Normalizer, offset_and_scale
from keystep.models.presets import ACT_PRESETS, PLANNER_PRESETS, PRESETS
from keystep.train import ControllerTraining, PlannerTraining, train
from keystep.train.normalization import clip_range, normalize
from keystep.train.recipe import recipe_of
from keystep.train.same_run import check_values

STATE = "observation.state"


@pytest.fixture(autouse=True)
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYSTEP_CACHE", str(tmp_path / "cache"))


def write_dataset(folder: Path, episodes: list[np.ndarray], unit: float = 1.0, **told: Any) -> Path:
    """Episodes of states (T, 2); actions (T, 2) are `unit` times those, bounded by 10 units."""
    features = {STATE: Column("float32", (2,), ("x", "y")), "action": Column("float32", (2,), ("dx", "dy"))}
    bound = [10.0 * unit] * 2
    action = {"names": ["dx", "dy"], "units": ["m"] * 2, "min": [-value for value in bound], "max": bound}
    action |= {"rate_limit": None, "hold": [0.0] * 2} | told
    with DatasetWriter(folder, DatasetSpec(60, features, {"go": "Go."}, "toy", {"action": action})) as writer:
        for number, states in enumerate(episodes):
            states = states.astype(np.float32)
            writer.add_episode({STATE: states, "action": np.float32(unit) * states}, "go", seed=number)
    return folder


def healthy(episodes: int = 12, length: int = 40, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-0.1, 0.1, (length, 2)) for _ in range(episodes)]


def flung(dimension: int, values: dict[int, float]) -> list[np.ndarray]:
    """Healthy episodes, in some of which one frame lies far out."""
    episodes = healthy()
    for episode, value in values.items():
        episodes[episode][7, dimension] = value
    return episodes


def config(kind: type, dataset: Path, output: Path, **changes: Any) -> Any:
    settings = dict(
        dataset=dataset, output=output, preset="tiny", steps=2, batch_size=8, device="cpu", threads=1
    )
    if kind is PlannerTraining:
        settings |= dict(steps_per_subgoal=2, latest_start=4)
    return kind(**settings | changes)


def recipe(kind: type, dataset: Path, **changes: Any) -> Any:
    settings = config(kind, dataset, dataset.parent / "run", **changes)
    return recipe_of(settings, DatasetReader(dataset))


def quantile_plan(dataset: Path) -> Any:
    return recipe(ControllerTraining, dataset, normalization=("quantile",)).plan


# ---- quantiles


def test_quantiles_are_those_of_all_frames(tmp_path: Path) -> None:
    """Episodes at different places: the mean of their quantiles is nowhere near."""
    episodes = [place + part for place, part in zip((0, 5, 9), healthy(3), strict=True)]
    plan = recipe(
        ControllerTraining, write_dataset(tmp_path / "d", episodes), normalization=("quantile",)
    ).plan
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
    farthest = float(made.plan.normalizer().normalize(sampled, frames).abs().max())
    allowed = made.plan.config.sampler.clip_range
    assert allowed == 1.0 if mode == "min_max" else farthest <= allowed <= farthest + 0.01
    assert made.plan.normalization[sampled] == mode
    assert made.plan.normalization.keys() == made.plan.normalizer().entries.keys()


def test_standing_still_is_not_clipped(tmp_path: Path) -> None:
    """The chunk of a goal ends with it, and it may lie beyond the actions that were seen."""
    dataset = write_dataset(tmp_path / "d", [5 + part for part in healthy(4)], law=["relative"] * 2)
    plan = recipe(ControllerTraining, dataset, normalization=("quantile",)).plan
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
    plan = recipe(ControllerTraining, dataset, preset="act-tiny", normalization=("quantile",)).plan
    assert plan.kind == "act" and plan.normalizer().entries["action"]["mode"] == "quantile"


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


# ---- outliers


def remarks(kind: type, dataset: Path, **changes: Any) -> list[str]:
    """What is said of the numbers, without what was chosen for the actions."""
    return [note for note in recipe(kind, dataset, **changes).notes if "% of the frames" in note]


def test_outliers_are_named(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", flung(1, {3: 1.8, 8: -1.1}))
    (remark,) = remarks(PlannerTraining, dataset)
    for part in (
        f"{STATE}[1] (y)",
        "-1.1 .. 1.8",
        "episode 3 (1.8 in frame 7)",
        "episode 8 (-1.1 in frame 7)",
    ):
        assert part in remark, remark
    assert f"--normalization {STATE}=mean_std or quantile" in remark
    assert remark.index("episode 3 ") < remark.index("episode 8 ")  # the farther first


def test_a_controller_is_told_of_each_key(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", flung(0, {2: 4.0}))
    state, action = sorted(remarks(ControllerTraining, dataset), reverse=True)
    assert f"{STATE}[0] (x)" in state and "mean_std keeps them" in state
    assert "action[0] (dx)" in action and "--normalization action=mean_std or quantile" in action


def test_many_episodes_are_counted(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", flung(0, {episode: 3.0 + episode for episode in range(8)}))
    (remark,) = remarks(PlannerTraining, dataset)
    assert "episode 7 (10 in frame 7)" in remark and " and 3 more" in remark and "episode 2 (" not in remark


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1500.0])
def test_healthy_data_are_not_remarked_on(scale: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    episodes = [scale * rng.normal(3, 1, (400, 2)) for _ in range(5)]
    for states in episodes:
        states[:, 1] = scale * np.sign(states[:, 1] - 2 * scale)  # a gripper, closed most of the time
    assert remarks(PlannerTraining, write_dataset(tmp_path / "d", episodes)) == []


def test_a_switch_is_not_remarked_on_but_one_frame_is(tmp_path: Path) -> None:
    episodes = [np.zeros((100, 2)) for _ in range(4)]
    for states in episodes:
        states[50:53, 0] = 1.0
    episodes[2][9, 1] = 1.0
    (remark,) = remarks(PlannerTraining, write_dataset(tmp_path / "d", episodes))
    assert f"{STATE}[1] (y)" in remark and "episode 2 (1 in frame 9)" in remark


def test_what_never_moves_is_not_remarked_on(tmp_path: Path) -> None:
    episodes = [np.full((20, 2), 90.0) for _ in range(3)]
    assert remarks(ControllerTraining, write_dataset(tmp_path / "d", episodes, 0.01)) == []


def advice(states: np.ndarray, mode: str, tmp_path: Path) -> str:
    """On the first dimension of a planner's subgoals; the second is healthy."""
    healthy = np.random.default_rng(1).uniform(-1, 1, len(states))
    dataset = write_dataset(tmp_path / "d", np.array_split(np.stack([states, healthy], axis=1), 4))
    (remark,) = remarks(PlannerTraining, dataset, normalization=(mode,))
    return remark


@pytest.mark.parametrize("mode", ["min_max", "mean_std", "quantile"])
def test_a_mode_that_would_not_help_is_not_advised(mode: str, tmp_path: Path) -> None:
    states = np.random.default_rng(0).uniform(-1e-4, 1e-4, 480)
    states[100] = 0.5
    told = advice(states, mode, tmp_path)
    assert "--normalization" not in told and "keeps them" not in told
    assert f"{mode} leaves the rest 0." in told and "no other mode helps" in told


@pytest.mark.parametrize("mode", ["min_max", "quantile"])
def test_of_many_outliers_quantiles_are_not_free(mode: str, tmp_path: Path) -> None:
    states = np.random.default_rng(0).uniform(-0.1, 0.1, 480)
    states[::20], states[::40] = 0.8, -0.8  # 2.5 % of the frames on either side
    told = advice(states, mode, tmp_path)
    assert told.endswith(f"--normalization {STATE}=mean_std."), told


def test_a_mode_that_helps_is_said_to(tmp_path: Path) -> None:
    states = np.random.default_rng(0).uniform(-0.1, 0.1, 480)
    states[100] = 0.9
    assert "quantile keeps them, far from the rest" in advice(states, "quantile", tmp_path)


# ---- what moves too little


def narrow(kind: type, dataset: Path, **changes: Any) -> list[str]:
    return [note for note in recipe(kind, dataset, **changes).notes if "for constant" in note]


@pytest.mark.parametrize(
    ("mode", "limit"),
    [
        ("min_max", "range is below 0.001"),
        ("quantile", "range is below 0.001"),
        ("mean_std", "standard deviation is below 0.01"),
    ],
)
def test_what_moves_too_little_is_named(mode: str, limit: str, tmp_path: Path) -> None:
    episodes = healthy(4)
    for states in episodes:
        states[:, 0] *= 4e-3  # 0.8 mm in m
    dataset = write_dataset(tmp_path / "d", episodes)
    state, action = sorted(narrow(ControllerTraining, dataset, normalization=(mode,)), reverse=True)
    for note, name in ((state, f"{STATE}[0] (x)"), (action, "action[0] (dx)")):
        assert f"warning: {name} moves within -0.0003" in note and limit in note and "mm instead" in note
    entries = recipe(ControllerTraining, dataset, normalization=(mode,)).plan.normalizer().entries
    scale = offset_and_scale(entries["action"])[1][0]
    assert scale == pytest.approx(0.01 if mode == "mean_std" else 0.5)  # the meaning of entries stays


def test_another_mode_is_named_where_it_sees_more(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", [0.05 * part for part in healthy(4)])
    notes = narrow(ControllerTraining, dataset)
    assert len(notes) == 2 and all(note.endswith(f"--normalization {STATE}=min_max") for note in notes)
    assert narrow(ControllerTraining, dataset, normalization=("min_max",)) == []


def test_min_max_is_not_named_beside_outliers(tmp_path: Path) -> None:
    episodes = [0.01 * part for part in healthy(4)]
    episodes[1][7, 0] = 0.04
    dataset = write_dataset(tmp_path / "d", episodes)
    first, second = narrow(ControllerTraining, dataset)
    assert "(x)" in first and first.endswith("(mm instead of m)") and "min_max" in second


def test_a_dimension_that_is_seen_well_enough_is_not_remarked_on(tmp_path: Path) -> None:
    assert narrow(ControllerTraining, write_dataset(tmp_path / "d", [0.12 * e for e in healthy(4)])) == []


def test_rounding_is_no_motion(tmp_path: Path) -> None:
    episodes = [np.full((20, 2), 1.5707964) for _ in range(3)]
    episodes[1] += 1.2e-7
    assert narrow(ControllerTraining, write_dataset(tmp_path / "d", episodes)) == []


def test_training_prints_it_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = write_dataset(tmp_path / "d", flung(1, {3: 1.8}))
    assert train(config(PlannerTraining, dataset, tmp_path / "run")).step == 2
    assert "episode 3 (1.8 in frame 7)" in capsys.readouterr().err


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    reader = DatasetReader(write_dataset(tmp_path / "d", healthy(3)))
    recipe(ControllerTraining, tmp_path / "d")  # the columns are in the cache now
    (column,) = (tmp_path / "cache").glob(f"*/{STATE}.npy")
    values = np.load(column)
    values[47, 1] = np.nan
    np.save(column, values)
    network = replace(PRESETS["tiny"], observation=(state_feature(2),), action_dim=2, sampler=SamplerConfig())
    with pytest.raises(DatasetError, match=r"state\[1\] \(y\): .* got nan in frame 7 of episode 1"):
        normalize(network, reader, {key: dict(value) for key, value in reader.stats.items()}, (), None)


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
        np.testing.assert_allclose(made.plan.stats["action"][name], value, rtol=1e-12)
    np.testing.assert_allclose(made.plan.stats["action"]["std"], frames.std(0), rtol=1e-9)
    normal = made.plan.normalizer().normalize("action", torch.from_numpy(frames).float())
    assert float(normal.std()) > 0.5 and float(normal.abs().max()) <= made.plan.config.sampler.clip_range
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
