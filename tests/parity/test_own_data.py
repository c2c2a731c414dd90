"""A foreign dataset to a bundle in C++: two mp4 cameras of different sizes, history, declared actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_video import CAMERAS, FPS, JOINTS, TASK, write_video_dataset

pytest.importorskip("diffusers")
pytest.importorskip("accelerate", reason="training packages are not installed")

import keystep
from keystep.cli import run
from keystep.models.reference import ReferencePolicy

SETTINGS = (
    "--steps 8 --batch-size 8 --warmup-steps 1 --checkpoint-every 8 --log-every 4 --device cpu --threads 1"
)
LAW = ",".join(["relative"] * 6 + ["absolute"])
ACTIONS = {
    "absolute": "--action-law absolute --action-bounds margin=0.1",
    "delta": f"--action-law {LAW} --action-bounds data --hold 0,0,0,0,0,0,-30",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("foreign") / "d"
    return folder, write_video_dataset(folder)


@pytest.fixture(autouse=True)
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEYSTEP_CACHE", str(tmp_path / "cache"))


def train(dataset: Path, output: Path, *options: str) -> int:
    words = ["train", "controller", "--dataset", str(dataset), "--output", str(output), *SETTINGS.split()]
    return run([*words, *options])


def episode(policy: Any, frames: dict[str, np.ndarray], task: str | None) -> np.ndarray:
    """Actions (T, 7) on the frames of the first episode."""
    policy.reset(task, seed=3)
    seen = ["observation.state", *CAMERAS]
    return np.stack([policy.act({key: frames[key][t] for key in seen}) for t in range(12)])


@pytest.mark.parametrize(
    ("preset", "law", "options"),
    [
        ("tiny", "absolute", ["--history", "2", "--chunk-start", "1", "--execute", "4"]),
        ("tiny", "delta", ["--sampler", "flow_euler"]),
        ("act-tiny", "absolute", ["--condition", "none"]),
    ],
)
def test_it_is_trained_exported_and_acts_the_same_in_cpp(
    tmp_path: Path, dataset: tuple[Path, dict[str, np.ndarray]], preset: str, law: str, options: list[str]
) -> None:
    folder, frames = dataset
    checkpoint, bundle = tmp_path / "run", tmp_path / "own.keystep"
    assert train(folder, checkpoint, "--preset", preset, *ACTIONS[law].split(), *options) == 0
    assert run(["export", str(checkpoint), str(bundle)]) == 0
    assert run(["verify", str(bundle), "--checkpoint", str(checkpoint)]) == 0
    manifest = keystep.read_manifest(bundle)
    assert manifest["action"]["names"] == [f"{joint}.pos" for joint in JOINTS]
    assert manifest["control_rate_hz"] == FPS
    shapes = {entry["key"]: entry["shape"] for entry in manifest["observation"] if "images" in entry["key"]}
    assert {key: tuple(shape[-3:-1]) for key, shape in shapes.items()} == CAMERAS
    low, high = frames["action"].min(axis=0), frames["action"].max(axis=0)
    margin = 0.1 * (high - low) if law == "absolute" else 0
    np.testing.assert_allclose(manifest["action"]["min"], low - margin, rtol=1e-6)
    np.testing.assert_allclose(manifest["action"]["max"], high + margin, rtol=1e-6)
    wanted = {"mode": "last"} if law == "absolute" else {"mode": "values", "values": [0.0] * 6 + [-30.0]}
    assert manifest["action"]["hold"] == wanted
    task = None if "none" in options else TASK
    with keystep.load(bundle, threads=1) as policy:
        acted = episode(policy, frames, task)
    reference = episode(ReferencePolicy(checkpoint), frames, task)
    unit = (high - low) / 2
    np.testing.assert_allclose(acted / unit, reference / unit, atol=1e-4)
    assert len(np.unique(acted[:, 0])) > 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "action_law, action_bounds: expected --action-law relative or absolute"),
        (["--action-law", "absolute"], "action_bounds: expected --action-bounds data, margin=F or FILE"),
        (["--action-bounds", "data"], "action_law: expected --action-law"),
        (
            ["--action-law", "relative", "--action-bounds", "data"],
            "hold: expected --hold 0,0,0,0,0,0,0 (which stops",
        ),
    ],
)
def test_what_would_be_a_guess_is_asked_for(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dataset: tuple[Path, dict[str, np.ndarray]],
    options: list[str],
    message: str,
) -> None:
    assert train(dataset[0], tmp_path / "run", "--preset", "tiny", *options) != 0
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told and not (tmp_path / "run").exists()
