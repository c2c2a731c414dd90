"""What is said of the numbers before training: outliers, and what moves too little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
from normalization_runs import STATE, config, flung, healthy, recipe, write_dataset

from keystep.models.normalizer import offset_and_scale
from keystep.train import ControllerTraining, PlannerTraining, train

pytestmark = pytest.mark.usefixtures("private_cache")


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
    entries = recipe(ControllerTraining, dataset, normalization=(mode,)).draft.normalizer().entries
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
