"""examples/calvin-expit.toml, rehearsed: its settings with tiny networks, around the fake calvin_env."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")
pytest.importorskip("yaml")
pytest.importorskip("accelerate", reason="training packages are not installed")
pytest.importorskip("onnx", reason="needs the extra 'export'")

from fake_calvin import frame, write_annotations, write_config

from keystep.expit import expit, read_config
from keystep.suites.calvin.convert import convert_calvin
from keystep.suites.calvin.settings import write_settings
from keystep.suites.calvin.tasks import TASKS

EXAMPLE = Path(__file__).parents[3] / "examples" / "calvin-expit.toml"
SMALLER = {
    'output = "../runs/calvin-expit-0"': 'output = "run"',
    "iterations = 3": "iterations = 1",
    'dataset = "/data/task_D_D/validation"': 'dataset = "{split}"\nrenderer = "cpu"',
    'settings = "/data/calvin-settings.json"': 'settings = "{settings}"',
    "image_size = 96": "image_size = 16",
    'dataset = "../runs/calvin-d0"': 'dataset = "{d0}"',
    "steps = 500_000": 'steps = 4\npreset = "tiny"\nthreads = 1\ntext_encoder = "corpus"',
    "batch_size = 16": "batch_size = 4",
    "steps = 1_000_000": 'steps = 4\npreset = "tiny"\nthreads = 1',
    "batch_size = 64": "batch_size = 4",
    "reset_per_task = 50": 'reset_per_task = 1\ntasks = ["turn_on_led"]\nmax_contexts = 3',
    "replayed_per_task = 100": "replayed_per_task = 1",
    "trials = 5": "trials = 1",
    "episodes = 30": 'episodes = 1\ntasks = ["turn_on_led", "open_drawer"]',
    "max_episode_steps = 240": "max_episode_steps = 12",
}
"""What a rehearsal has in place of days of work; all else is the file's."""


def write_falling_split(folder: Path) -> Path:
    """Every action moves down, so that whoever imitates them at all turns the fake's LED on."""
    segments = [(task, 6 * number, 6 * number + 6) for number, task in enumerate(TASKS)]
    write_config(folder)
    for number in range(segments[-1][2]):
        found = frame(number)
        found["rel_actions"] = np.append(
            found["rel_actions"][:2] / 9, [-0.9 - 0.01 * (number % 9), 0, 0, 0, 1]
        )
        found["robot_obs"][2] = 0.6
        np.savez(folder / f"episode_{number:07d}.npz", **found)  # type: ignore[arg-type]
    write_annotations(folder, segments)
    return folder


def test_the_example_of_expert_iteration(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYSTEP_CACHE", str(tmp_path / "cache"))
    split = write_falling_split(tmp_path / "task_D_D")
    paths = {"split": split, "settings": tmp_path / "settings.json", "d0": tmp_path / "d0"}
    write_settings(split, paths["settings"])
    convert_calvin(split, paths["d0"], image_size=16, per_task=150)
    text = EXAMPLE.read_text(encoding="utf-8")
    for of_file, smaller in SMALLER.items():
        assert text.count(f"\n{of_file}") == 1, of_file
        text = text.replace(f"\n{of_file}", "\n" + smaller.format(**paths))
    (tmp_path / "run.toml").write_text(text)
    report = expit(read_config(tmp_path / "run.toml"))
    assert len(report.success) == 2 and not report.interrupted
    made = json.loads((tmp_path / "run/iteration-1/iteration.json").read_text())["done"]["rollouts"]
    counts = {count["kind"]: count["successes"] for count in made["counts"]}
    assert counts == {"reset": 1, "replayed": 1}
    played = json.loads((tmp_path / "run/iteration-1/evaluation.json").read_text())
    assert played["settings"]["resets"] == "fixed" and played["settings"]["fixed_starts"]["renderer"] == "cpu"
    assert played["settings"]["instructions"]["open_drawer"] == ["unseen of open_drawer"]
