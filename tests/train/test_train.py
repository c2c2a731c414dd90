"""Training: it learns, it resumes bit for bit, Ctrl-C and bad input are handled."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import torch
from safetensors.torch import load_file
from walks import TASKS, write_dataset

from keystep.data import DatasetError
from keystep.models.checkpoint import load_policy
from keystep.models.diffusion import DiffusionController
from keystep.models.text import TextEncoderError, load_text_encoder
from keystep.train import ControllerTraining, PlannerTraining, TrainConfig, train
from keystep.train.batches import Batches
from keystep.train.schedule import learning_rate
from keystep.train.trainer import Trainer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "toy")


@pytest.fixture(autouse=True)
def private_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("KEYSTEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def make_config(
    dataset: Path, output: Path, kind: type = ControllerTraining, **changes: object
) -> TrainConfig:
    settings: dict = dict(
        dataset=dataset,
        output=output,
        preset="tiny",
        steps=12,
        batch_size=16,
        warmup_steps=3,
        val_fraction=0.3,
        log_every=4,
        checkpoint_every=5,
        device="cpu",
        threads=1,
    )
    return kind(**{**settings, **changes})


# What can be trained: settings of each kind of network.
KINDS: dict[str, dict] = {
    "flat": dict(condition="task"),
    "goal": dict(condition="goal", goal_noise=0.1),
    "none": dict(condition="none"),
    "act": dict(condition="goal", preset="act-tiny"),
    "planner": dict(kind=PlannerTraining, steps_per_subgoal=2, latest_start=4),
}


def same_weights(first: Path, second: Path, name: str = "model.safetensors") -> bool:
    a, b = load_file(first / name), load_file(second / name)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def read_curves(output: Path) -> list[dict[str, str]]:
    with (output / "curves.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_it_overfits_a_tiny_dataset(dataset: Path, tmp_path: Path) -> None:
    config = make_config(
        dataset,
        tmp_path,
        steps=300,
        batch_size=32,
        learning_rate=1e-2,
        val_fraction=0.0,
        log_every=20,
        checkpoint_every=300,
    )
    train(config)
    losses = [float(row["train_loss"]) for row in read_curves(tmp_path)]
    assert losses[-1] < losses[0] / 5, losses


def test_the_checkpoint_folder(dataset: Path, tmp_path: Path) -> None:
    result = train(make_config(dataset, tmp_path))
    assert (result.step, result.interrupted) == (12, False)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.safetensors", "policy.json", "curves.csv", "curves.png", "training_state"}
    assert [path.name for path in (tmp_path / "training_state").iterdir()] == ["step-00000012"]
    document = json.loads((tmp_path / "policy.json").read_text())
    assert set(document) == {
        "format", "version", "kind", "policy", "stats", "tasks", "action", "observation",
        "control_rate_hz", "provenance", "normalization"
    }  # fmt: skip
    assert (document["format"], document["version"]) == ("keystep-checkpoint", 4)
    assert (document["kind"], document["control_rate_hz"]) == ("diffusion", 60.0)
    assert document["tasks"] == [{"name": name, "instruction": text} for name, text in TASKS.items()]
    assert document["observation"][0]["names"] == ["x", "constant"]
    assert document["action"]["hold"] == {"mode": "values", "values": [0.0] * 3}
    assert document["action"]["law"] == ["absolute"] * 3
    assert document["stats"]["observation.state"]["count"] == 120
    loaded, checkpoint = load_policy(tmp_path)
    assert checkpoint.config.tasks == 2 and not loaded.training
    assert len(document["provenance"]["dataset_sha256"]) == 64
    rows = read_curves(tmp_path)
    assert [int(row["step"]) for row in rows] == [4, 5, 8, 10, 12]
    assert [bool(row["val_loss"]) for row in rows] == [False, True, False, True, True]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one(
    dataset: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(make_config(dataset, tmp_path / "whole", **KINDS[kind]))
    real = Trainer._train_step

    def interrupted_step(self: Trainer) -> tuple:
        if self.step == 6:  # not at a checkpoint
            os.kill(os.getpid(), signal.SIGINT)
        return real(self)

    monkeypatch.setattr(Trainer, "_train_step", interrupted_step)
    part = train(make_config(dataset, tmp_path / "parts", **KINDS[kind]))
    monkeypatch.undo()
    assert part.interrupted and part.step == 7
    torch.manual_seed(99)  # the state of the global generator must not matter
    rest = train(make_config(dataset, tmp_path / "parts", **KINDS[kind]))
    assert (rest.step, rest.interrupted) == (12, False)
    state = "training_state/step-00000012"
    for name in ("model.safetensors", f"{state}/model.safetensors", f"{state}/optimizer.safetensors"):
        assert same_weights(tmp_path / "whole", tmp_path / "parts", name), name
    assert rest.val_loss == whole.val_loss


def test_a_killed_process_resumes(dataset: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path.insert(0, os.path.dirname(sys.argv[3]))\n"
        "from pathlib import Path\n"
        "from test_train import *\n"
        "real = Trainer._train_step\n"
        "def step(self):\n"
        "    if self.step == 7: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(self)\n"
        "Trainer._train_step = step\n"
        "train(make_config(Path(sys.argv[1]), Path(sys.argv[2])))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(dataset), str(tmp_path / "killed"), __file__])
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed/training_state").iterdir()] == ["step-00000005"]
    train(make_config(dataset, tmp_path / "killed"))
    train(make_config(dataset, tmp_path / "whole"))
    assert same_weights(tmp_path / "whole", tmp_path / "killed")


def test_a_full_disk_keeps_the_last_state(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keystep.train import state

    train(make_config(dataset, tmp_path, steps=5))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keystep.files.os.fsync", full)
    with pytest.raises(DatasetError, match=r"could not write the checkpoint of step 10: .*No space left"):
        train(make_config(dataset, tmp_path))
    assert [path.name for path in (tmp_path / "training_state").iterdir()] == ["step-00000005"]
    assert state.load(tmp_path).step == 5


def test_the_seed_decides(dataset: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(make_config(dataset, tmp_path / name, seed=seed))
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_images_and_goals(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "d", episodes=3, length=10, image=True)
    image_planner = dict(kind=PlannerTraining, subgoal="observation.images.static", subgoals=2)
    for kind, settings in {**KINDS, "images": dict(observe="images"), "planner": image_planner}.items():
        result = train(make_config(data, tmp_path / kind, **settings, steps=2, batch_size=4))
        assert result.val_loss is not None and np.isfinite(result.val_loss)
        seen = json.loads((tmp_path / kind / "policy.json").read_text())["observation"]
        state = [] if kind in ("images", "planner") else ["observation.state"]
        assert [entry["key"] for entry in seen] == [*state, "observation.images.static"]
        assert seen[-1]["kind"] == "rgb" and seen[-1]["shape"] == [32, 32, 3]


def test_a_planner_takes_its_text_encoder_along(dataset: Path, tmp_path: Path) -> None:
    train(make_config(dataset, tmp_path, **KINDS["planner"]))
    document = json.loads((tmp_path / "policy.json").read_text())
    assert document["kind"] == "planner" and document["observation"][0]["shape"] == [2]
    kept, shipped = load_text_encoder(tmp_path / "text_encoder"), load_text_encoder("corpus")
    texts = ["Lift the red block.", "something else"]
    torch.testing.assert_close(kept.encode(texts), shipped.encode(texts), rtol=0, atol=0)


def test_two_processes_stop_together(dataset: Path, tmp_path: Path) -> None:
    """One of two is asked to stop; both do, at the same step, and what they leave can be continued."""
    script = (
        "import os, sys; sys.path.insert(0, os.path.dirname(sys.argv[3]))\n"
        "from pathlib import Path\n"
        "from test_train import *\n"
        "real = Trainer._train_step\n"
        "def step(self):\n"
        "    if self.step == 3 and os.environ['RANK'] == '1': os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(self)\n"
        "Trainer._train_step = step\n"
        "result = train(make_config(Path(sys.argv[1]), Path(sys.argv[2])))\n"
        "seen = f'{result.step} {result.interrupted}'\n"
        "Path(sys.argv[2] + os.environ['RANK']).write_text(seen)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    file = tmp_path / "two.py"
    file.write_text(script)
    done = subprocess.run(
        [*command, str(file), str(dataset), str(tmp_path / "run"), __file__],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"run{rank}").read_text() for rank in range(2)] == ["4 True"] * 2
    assert train(make_config(dataset, tmp_path / "run")).step == 12


def test_two_processes_share_every_batch(dataset: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_config(dataset, tmp_path, val_fraction=0.0, batch_size=8))
    halves = [
        Batches(trainer.batches._windows, trainer.recipe, 8, 0, trainer.device, process, 2)
        for process in range(2)
    ]
    for step in range(5):
        whole = trainer.batches[step]["action"]
        first, second = (half[step]["action"] for half in halves)
        assert torch.equal(torch.stack([first, second], 1).flatten(0, 1), whole)


def test_every_window_is_used_once_an_epoch(dataset: Path, tmp_path: Path) -> None:
    trainer = Trainer(make_config(dataset, tmp_path, val_fraction=0.0, batch_size=7))
    batches = trainer.batches
    drawn: list[int] = []
    real = batches._windows.batch
    batches._windows.batch = lambda chosen, rng: (drawn.extend(chosen.tolist()), real(chosen, rng))[1]
    windows = len(batches._windows)
    for step in range(3 * windows // 7 + 1):
        batches[step]
    for epoch in range(3):
        assert sorted(drawn[epoch * windows : (epoch + 1) * windows]) == list(range(windows))
    assert drawn[:windows] != drawn[windows : 2 * windows]


def test_learning_rate() -> None:
    config = ControllerTraining(Path("d"), Path("o"), steps=110, warmup_steps=10, learning_rate=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.1)
    assert learning_rate(config, 9) == pytest.approx(1.0)
    assert learning_rate(config, 60) == pytest.approx(0.5)
    assert learning_rate(config, 109) < 1e-3
    constant = dataclasses.replace(config, schedule="constant")
    assert learning_rate(constant, 109) == 1.0


def test_other_settings_or_data_cannot_resume(dataset: Path, tmp_path: Path) -> None:
    train(make_config(dataset, tmp_path / "run", steps=2))
    with pytest.raises(DatasetError, match=r"learning_rate: expected 0.0001 to resume, got 0.1"):
        train(make_config(dataset, tmp_path / "run", learning_rate=0.1))
    other = write_dataset(tmp_path / "other", episodes=7)
    with pytest.raises(DatasetError, match="dataset_sha256: expected"):
        train(make_config(other, tmp_path / "run"))
    with pytest.raises(DatasetError, match="expected no training run, found one"):
        train(make_config(dataset, tmp_path / "run", resume=False))
    assert train(make_config(dataset, tmp_path / "run", steps=4)).step == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps: expected a positive number, got 0"),
        ({"ema_decay": 1.0}, r"ema_decay: expected \[0, 1\), got 1.0"),
        ({"warmup_steps": -1}, "warmup_steps: expected at least 0, got -1"),
        (
            {"kind": PlannerTraining, "subgoals": 0},
            r"subgoals/.*: expected at least 1, 1 and 0, got \(0, 8, 0\)",
        ),
    ],
)
def test_bad_settings(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(Path("d"), Path("o"), **change)


def test_bad_datasets_and_presets(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"info.json: expected a dataset file, found none"):
        train(make_config(tmp_path / "nothing", tmp_path / "o"))
    with pytest.raises(ValueError, match=r"preset: expected one of .*, got 'huge'"):
        train(make_config(dataset, tmp_path / "o", preset="huge"))
    planner = {"kind": PlannerTraining}
    with pytest.raises(ValueError, match=r"preset: expected one of .*, got 'huge'"):
        train(make_config(dataset, tmp_path / "o", **planner, preset="huge"))
    with pytest.raises(ValueError, match=r"subgoal: expected one of observation.state, got 'image'"):
        train(make_config(dataset, tmp_path / "o", **planner, subgoal="image"))
    with pytest.raises(TextEncoderError, match="unicorn"):
        train(make_config(dataset, tmp_path / "o", **planner, text_encoder="unicorn"))


def test_a_loss_that_is_not_finite_is_an_error(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DiffusionController.loss
    monkeypatch.setattr(DiffusionController, "loss", lambda *a, **k: real(*a, **k) * float("nan"))
    with pytest.raises(FloatingPointError, match="loss: expected a finite number, got nan at step 4"):
        train(make_config(dataset, tmp_path))
    assert not (tmp_path / "model.safetensors").exists()
