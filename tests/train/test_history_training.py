"""Training with frames of history, past actions, other vectors and depth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import pyarrow as pa
import pyarrow.parquet as pq
from walks import write_dataset

from keystep.data import DatasetError
from keystep.models.checkpoint import load_policy
from keystep.train import ControllerTraining, train
from keystep.train.trainer import Trainer

FAR, FORCE = "observation.far", "observation.force"


@pytest.fixture(autouse=True)
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYSTEP_CACHE", str(tmp_path / "cache"))


def config(dataset: Path, output: Path, **changes: Any) -> ControllerTraining:
    settings: dict[str, Any] = dict(preset="tiny", steps=20, batch_size=32, warmup_steps=1, log_every=5)
    settings |= dict(learning_rate=1e-2, val_fraction=0.3, checkpoint_every=10, device="cpu", threads=1)
    return ControllerTraining(**{**settings, "dataset": dataset, "output": output, **changes})


def losses(output: Path) -> list[float]:
    rows = (output / "curves.csv").read_text().splitlines()
    column = rows[0].split(",").index("train_loss")
    return [float(row.split(",")[column]) for row in rows[1:]]


def add_columns(dataset: Path, spoiled: float | None = None) -> dict[str, np.ndarray]:
    """A depth camera and a force sensor, as plain columns of lists."""
    (path,) = (dataset / "data").rglob("*.parquet")
    table = pq.read_table(path)
    rng = np.random.default_rng(0)
    far = rng.uniform(0.3, 2.0, (len(table), 12, 16)).astype(np.float32)
    force = rng.normal(size=(len(table), 3)).astype(np.float32)
    if spoiled is not None:
        far[30, 4, 5] = spoiled
    table = table.append_column(FAR, pa.array(far.tolist(), pa.list_(pa.list_(pa.float32()))))
    table = table.append_column(FORCE, pa.array(force.tolist(), pa.list_(pa.float32(), 3)))
    pq.write_table(table, path)
    info = json.loads((dataset / "meta/info.json").read_text())
    info["features"][FAR] = {"dtype": "float32", "shape": [12, 16], "names": None}
    info["features"][FORCE] = {"dtype": "float32", "shape": [3], "names": ["fx", "fy", "fz"]}
    (dataset / "meta/info.json").write_text(json.dumps(info))
    return {FAR: far, FORCE: force}


@pytest.mark.parametrize("condition", ["task", "goal"])
def test_two_frames_and_a_past_action(tmp_path: Path, condition: str) -> None:
    data = write_dataset(tmp_path / "d", length=16)
    chunks = dict(history=2, chunk_start=1, execute=6, chunk_lengths=(2, 6))
    steps = dict(steps=60, log_every=15, checkpoint_every=60, schedule="constant")
    result = train(config(data, tmp_path / "run", condition=condition, **chunks, **steps))
    assert result.val_loss is not None and np.isfinite(result.val_loss)
    measured = losses(tmp_path / "run")
    assert measured[-1] < 0.8 * measured[0], measured
    policy, _ = load_policy(tmp_path / "run")
    assert [feature.history for feature in policy.config.observation] == [2]
    assert (policy.config.chunk_start, policy.config.execute) == (1, 6)


def test_two_frames_of_a_camera(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d", episodes=3, length=10, image=True)
    result = train(config(data, tmp_path / "run", history=2, steps=2, batch_size=4, observe="images"))
    assert result.val_loss is not None and np.isfinite(result.val_loss)
    policy, _ = load_policy(tmp_path / "run")
    assert [feature.network_shape() for feature in policy.config.observation] == [(1, 2, 3, 32, 32)]


def test_a_run_with_another_history_is_another_run(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d")
    train(config(data, tmp_path / "run", history=2, steps=2))
    for changes, message in (
        ({"history": 1}, "history: expected 2"),
        ({"execute": 3}, "execute: expected 0"),
    ):
        with pytest.raises(DatasetError, match=message):
            Trainer(config(data, tmp_path / "run", **{"history": 2, "steps": 4, **changes}))


def test_past_rows_before_an_episode_are_no_targets(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d", episodes=2, length=10)
    trainer = Trainer(config(data, tmp_path / "run", history=3, chunk_start=2, execute=6, val_fraction=0.0))
    batch = trainer.batches.tensors(np.array([0, 1, 2]), np.random.default_rng(0))
    assert batch["action_is_pad"].sum(dim=1).tolist() == [2, 1, 0]
    assert batch["observation.state"].shape == (3, 3, 2)


def test_depth_and_other_vectors(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d")
    written = add_columns(data)
    also = dict(also=(FAR, FORCE), normalization=(f"{FAR}=min_max",), batch_size=8)
    train(config(data, tmp_path / "run", history=2, steps=3, **also))
    policy, checkpoint = load_policy(tmp_path / "run")
    kinds = {feature.key: (feature.kind, feature.shape) for feature in policy.config.observation}
    assert kinds == {
        "observation.state": ("vector", (2,)),
        FAR: ("depth", (12, 16)),
        FORCE: ("vector", (3,)),
    }
    assert checkpoint.observation[2].names == ("fx", "fy", "fz")
    depth = written[FAR].astype(np.float64)
    told = {"min": depth.min(), "max": depth.max(), "mean": depth.mean(), "std": depth.std()}
    for name, value in told.items():
        assert checkpoint.stats[FAR][name] == pytest.approx([value], rel=1e-9), name
    entry = checkpoint.normalizer().entries[FAR]
    assert entry == {"mode": "min_max", "min": [float(depth.min())], "max": [float(depth.max())]}


def test_without_also_nothing_of_them_is_seen(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d")
    add_columns(data)
    trainer = Trainer(config(data, tmp_path / "run"))
    assert [feature.key for feature in trainer.recipe.draft.observation] == ["observation.state"]
    assert any(line == f"not seen by the policy: {FAR}, {FORCE}" for line in trainer.recipe.notes)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_depth_without_a_measurement_is_refused(tmp_path: Path, value: float) -> None:
    data = write_dataset(tmp_path / "d")
    add_columns(data, spoiled=value)
    with pytest.raises(DatasetError, match=r"far: expected finite values, got NaN or infinity in row 30"):
        Trainer(config(data, tmp_path / "run", also=(FAR,)))


def test_depth_has_no_quantiles(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d")
    add_columns(data)
    with pytest.raises(ValueError, match=r"min_max or mean_std of depth, got .*far=quantile"):
        Trainer(config(data, tmp_path / "run", also=(FAR,), normalization=(f"{FAR}=quantile",)))


@pytest.mark.parametrize("changes", [{"history": 0}, {"chunk_start": -1}, {"execute": -1}])
def test_settings_that_are_none(tmp_path: Path, changes: dict[str, int]) -> None:
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=rf"{name}: expected at least \d, got {value}"):
        config(tmp_path, tmp_path / "run", **changes)
