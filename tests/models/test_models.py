"""Networks, configuration, normalisation and checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from keystep.models import (  # noqa: E402
    PRESETS,
    CheckpointError,
    ConfigError,
    DiffusionConfig,
    DiffusionController,
    Normalizer,
    camera_feature,
    load_policy,
    random_checkpoint,
    read_checkpoint,
    save_checkpoint,
    state_feature,
)
from keystep.models.encoders import SpatialSoftmax  # noqa: E402
from keystep.models.reference import ReferencePolicy  # noqa: E402

TINY = PRESETS["tiny"]
CAMERA = camera_feature("static", 64, 48)
VARIANTS = {
    "flat": replace(TINY, tasks=3),
    "unconditioned": TINY,
    "goal": replace(TINY, goal="observation"),
    "image-goal": replace(TINY, observation=(state_feature(26), CAMERA), goal="observation"),
    "image-only": replace(TINY, observation=(CAMERA,), tasks=2),
    "dropout": replace(TINY, tasks=3, condition_dropout=0.5),
}


def random_batch(config: DiffusionConfig, rows: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    batch = {"action": torch.randn(rows, config.horizon, config.action_dim, generator=generator)}
    for name, (feature, frames) in config.inputs().items():
        shape = (rows, *feature.network_shape(frames)[1:])
        batch[name] = torch.randn(shape, generator=generator)
    if config.tasks:
        batch["task"] = torch.arange(rows) % config.tasks
    return batch


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns(name: str) -> None:
    config = VARIANTS[name]
    torch.manual_seed(0)
    policy = DiffusionController(config)
    policy.loss(random_batch(config, 4), torch.Generator().manual_seed(0)).backward()
    for parameter_name, parameter in policy.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("name", VARIANTS)
def test_shapes(name: str) -> None:
    config = VARIANTS[name]
    policy = DiffusionController(config)
    batch = random_batch(config, 3)
    condition = policy.encode(batch)
    assert condition.shape == (3, config.condition_width)
    assert policy.denoise(batch["action"], torch.tensor([0, 5, 99]), condition).shape == batch["action"].shape


@pytest.mark.parametrize("name", ["flat", "goal"])
def test_the_null_condition_keeps_the_scene_and_drops_what_is_to_be_done(name: str) -> None:
    policy, batch = DiffusionController(VARIANTS[name]), random_batch(VARIANTS[name], 2)
    told = "task" if name == "flat" else "goal.state"
    keep = torch.tensor([[1.0], [0.0]])
    with torch.no_grad():
        kept, null = policy.encode(batch, keep)
        torch.testing.assert_close(kept, policy.encode(batch)[0])
        other = policy.encode(batch | {told: batch[told].flip(0)}, keep)
        torch.testing.assert_close(other[1], null)
        assert not torch.allclose(other[0], kept)
        scene = policy.encode(batch | {"observation.state": batch["observation.state"].flip(0)}, keep)
        assert not torch.allclose(scene[1], null)
        row = {key: value[1:] for key, value in batch.items()}
        torch.testing.assert_close(policy.conditions(row, guided=True)[1], null)  # as trained, so sampled


def test_loss_is_a_function_of_its_generator() -> None:
    config = VARIANTS["dropout"]
    policy, batch = DiffusionController(config), random_batch(config, 8)

    def loss(seed: int) -> float:
        return policy.loss(batch, torch.Generator().manual_seed(seed)).item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


def test_training_on_one_chunk_learns_it() -> None:
    torch.manual_seed(0)
    config = replace(TINY, tasks=2)
    policy, batch = DiffusionController(config), random_batch(config, 1)
    batch = {key: value.expand(64, *value.shape[1:]) for key, value in batch.items()}
    optimizer = torch.optim.AdamW(policy.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(250):
        optimizer.zero_grad()
        loss = policy.loss(batch, generator)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-20:]) < 0.5  # the noise has variance 1: predicting nothing costs 1


def test_paper_size() -> None:
    """HD-ExpIt's goal-conditioned controller has 263 M parameters (specs: repository of the paper)."""
    views = {"observation": (camera_feature("static", 96, 96),), "goal": "observation"}
    with torch.device("meta"):
        policy = DiffusionController(replace(PRESETS["paper"], **views))
    count = sum(parameter.numel() for parameter in policy.parameters())
    assert count == pytest.approx(263e6, rel=0.02)


def test_images_have_no_batch_statistics() -> None:
    policy = DiffusionController(VARIANTS["image-goal"])
    kinds = {type(module) for module in policy.modules()}
    assert torch.nn.GroupNorm in kinds
    assert torch.nn.BatchNorm2d not in kinds


def test_spatial_softmax_finds_the_peak() -> None:
    softmax = SpatialSoftmax(1, 5, 9, 1)
    torch.nn.init.ones_(softmax.maps.weight)
    features = torch.zeros(1, 1, 5, 9)
    features[0, 0, 1, 6] = 100.0
    with torch.no_grad():
        x, y = softmax(features)[0].tolist()
    assert (x, y) == pytest.approx((0.5, -0.5), abs=1e-5)  # column 6 of 0..8, row 1 of 0..4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizon": 7}, "policy.horizon: expected a multiple of 2"),
        ({"horizon": 8, "execute": 9}, "policy.execute: expected 1..8, got 9"),
        ({"kernel_size": 4}, "policy.kernel_size"),
        ({"down_dims": (10, 20)}, "policy.down_dims"),
        ({"down_dims": ()}, "policy.down_dims"),
        ({"goal": "image"}, "policy.goal"),
        ({"observation": ()}, "policy.observation: expected at least one feature"),
        ({"observation": (CAMERA, CAMERA)}, "policy.observation: expected different keys"),
        ({"chunk_start": -1}, "policy.chunk_start: expected 0..0"),
        (
            {"chunk_start": 3, "execute": 6},
            r"policy.chunk_start: expected 0..2 \(horizon 8 - execute 6\), got 3",
        ),
        ({"action_dim": 0}, "policy.action_dim"),
        ({"condition_dropout": 1.0}, "policy.condition_dropout"),
    ],
)
def test_bad_configuration(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TINY, **changes)


@pytest.mark.parametrize("name", VARIANTS)
def test_configuration_survives_json(name: str) -> None:
    config = VARIANTS[name]
    assert DiffusionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_configuration_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"policy\.surprise"):
        DiffusionConfig.from_dict({**TINY.to_dict(), "surprise": 1})


def test_a_failed_save_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a full disk nor a description that is no JSON leaves new weights beside an old policy.json."""
    checkpoint = random_checkpoint(tmp_path, TINY, seed=0)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = DiffusionController(TINY).state_dict()
    with pytest.raises(ValueError, match="JSON compliant"):
        save_checkpoint(tmp_path, replace(checkpoint, provenance={"loss": float("nan")}), other)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(tmp_path, checkpoint, other)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_normalizer_inverts_and_survives_constant_dimensions() -> None:
    stats = {"min": [-1.0, 2.0], "max": [3.0, 2.0], "mean": [0.5, 2.0], "std": [0.8, 0.0]}
    for mode in ("min_max", "mean_std", "identity"):
        normalizer = Normalizer({"action": stats}, {"action": mode})
        value = torch.tensor([[-1.0, 2.0], [3.0, 2.0], [0.3, 2.0]])
        normal = normalizer.normalize("action", value)
        assert torch.isfinite(normal).all()
        torch.testing.assert_close(normalizer.unnormalize("action", normal), value)
    normalizer = Normalizer({"action": stats}, {"action": "min_max"})
    ends = normalizer.normalize("action", torch.tensor([[-1.0, 2.0], [3.0, 2.0]]))
    assert ends[:, 0].tolist() == [-1.0, 1.0]


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    written = random_checkpoint(tmp_path / "run", VARIANTS["flat"], seed=3)
    policy, read = load_policy(tmp_path / "run")
    assert read == written
    assert not policy.training
    assert {file.name for file in (tmp_path / "run").iterdir()} == {"model.safetensors", "policy.json"}


def spoil_json(folder: Path, key: str, value: Any) -> None:
    document = json.loads((folder / "policy.json").read_text())
    document[key] = value
    (folder / "policy.json").write_text(json.dumps(document))


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(CheckpointError, match="no such file"):
        read_checkpoint(folder)
    checkpoint = random_checkpoint(folder, TINY)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_policy(folder)
    state = DiffusionController(TINY).state_dict()
    state["unet.final.1.bias"][0] = float("nan")
    save_checkpoint(folder, checkpoint, state)
    with pytest.raises(CheckpointError, match=r"unet\.final\.1\.bias: expected finite weights"):
        load_policy(folder)
    spoil_json(folder, "kind", "oracle")
    with pytest.raises(
        CheckpointError,
        match="kind: expected one of diffusion, act, planner, scorer, code_planner, got 'oracle'",
    ):
        read_checkpoint(folder)
    spoil_json(folder, "version", 5)
    with pytest.raises(CheckpointError, match="of at most version 4, got keystep-checkpoint version 5"):
        read_checkpoint(folder)


def test_a_killed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    checkpoint = random_checkpoint(folder, TINY, seed=0)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("keystep.models.checkpoint.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(folder, checkpoint, DiffusionController(TINY).state_dict())
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_reference_policy(tmp_path: Path) -> None:
    config = replace(TINY, tasks=2)
    random_checkpoint(tmp_path, config)
    policy = ReferencePolicy(tmp_path, inference_steps=3)
    observation = {"observation.state": np.zeros(config.vector_width, np.float32)}
    with pytest.raises(RuntimeError, match="reset before act"):
        policy.predict_chunk(observation)
    with pytest.raises(ValueError, match="task: expected one of task_0, task_1, got 'fly'"):
        policy.reset("fly")
    episodes = []
    for task, seed in (("task_0", 0), ("Do task 0.", 0), ("task_1", 0), ("task_0", 1)):
        policy.reset(task, seed=seed)
        episodes.append(np.stack([policy.act(observation) for _ in range(config.execute + 1)]))
    assert np.array_equal(episodes[0], episodes[1])
    assert not np.array_equal(episodes[0], episodes[2])
    assert not np.array_equal(episodes[0], episodes[3])
    second_chunk = episodes[0][config.execute]  # has noise of its own
    assert not np.array_equal(episodes[0][0], second_chunk)


def test_reference_policy_needs_its_goal(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, VARIANTS["goal"])
    with pytest.raises(ValueError, match="goal: expected an observation"):
        policy = ReferencePolicy(tmp_path)
        policy.reset()
        policy.predict_chunk({"observation.state": np.zeros(VARIANTS["goal"].vector_width, np.float32)})
