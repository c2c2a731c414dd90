"""Several frames, several vectors, depth: what networks make of them, and the reference policy's memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from keystep.features import Feature  # noqa: E402
from keystep.models import (  # noqa: E402
    ACT_PRESETS,
    PRESETS,
    DiffusionConfig,
    DiffusionController,
    camera_feature,
    load_policy,
    make_model,
    random_checkpoint,
    state_feature,
    vector_feature,
)
from keystep.models.frames import as_input  # noqa: E402
from keystep.models.reference import ReferencePolicy  # noqa: E402

FORCE, DEPTH = vector_feature("observation.force", 3), Feature("observation.far", "depth", (24, 32))
CAMERA, WIDE = camera_feature("static", 24, 32), camera_feature("wide", 16, 48)
SMALL = replace(
    PRESETS["tiny"], image_width=16, image_stages=2, keypoints=4, image_features=6, sampler=replace(
        PRESETS["tiny"].sampler, inference_steps=2
    )
)  # fmt: skip


def frames_of(history: int, *features: Feature) -> tuple[Feature, ...]:
    return tuple(replace(feature, history=history) for feature in features)


CONFIGS: dict[str, DiffusionConfig] = {
    "two frames": replace(SMALL, observation=frames_of(2, state_feature(5), CAMERA), tasks=2),
    "a goal": replace(SMALL, observation=frames_of(3, state_feature(5), CAMERA), goal="observation"),
    "everything": replace(
        SMALL, observation=(state_feature(5), FORCE, CAMERA, WIDE, DEPTH), goal="observation"
    ),
    "everything, two frames": replace(
        SMALL, observation=frames_of(2, DEPTH, WIDE, CAMERA, FORCE, state_feature(5)), goal="observation"
    ),
}


def make_batch(config: Any, rows: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    batch = {"action": torch.randn(rows, config.horizon, config.action_dim, generator=generator)}
    for name, (feature, frames) in config.inputs().items():
        batch[name] = torch.randn((rows, *feature.network_shape(frames)[1:]), generator=generator)
    return batch | ({"task": torch.arange(rows) % config.tasks} if config.tasks else {})


@pytest.mark.parametrize("name", CONFIGS)
def test_the_condition_depends_on_every_frame_of_every_feature(name: str) -> None:
    config = CONFIGS[name]
    torch.manual_seed(0)
    policy, batch = DiffusionController(config).eval(), make_batch(config, 2)
    with torch.no_grad():
        before = policy.encode(batch)
        assert before.shape == (2, config.condition_width)
        for key, (_, frames) in config.inputs().items():
            for number in range(frames):
                changed = batch[key].clone()
                (changed[:, number] if frames > 1 else changed).add_(1.0)
                after = policy.encode(batch | {key: changed})
                assert not torch.equal(before, after), (key, number)
    policy.train().loss(batch, torch.Generator().manual_seed(0)).backward()
    for parameter_name, parameter in policy.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name


def test_images_are_encoded_frame_by_frame_and_vectors_together() -> None:
    """With a slow reference: side by side, oldest first, each part by the encoder of its name."""
    config = CONFIGS["a goal"]
    policy, batch = DiffusionController(config).eval(), make_batch(config, 2)
    with torch.no_grad():
        seen = batch["observation.state"]
        parts = [policy.state_encoder(torch.cat([seen[:, n] for n in range(3)], dim=1))]
        parts += [policy.image_encoder(batch["observation.images.static"][:, n]) for n in range(3)]
        parts.append(policy.state_encoder_1(batch["goal.state"]))
        parts.append(policy.image_encoder(batch["goal.images.static"]))
        torch.testing.assert_close(policy.encode(batch), torch.cat(parts, dim=1), rtol=1e-5, atol=1e-6)


def test_images_of_one_size_and_kind_share_an_encoder_and_vectors_do_not() -> None:
    twin = camera_feature("twin", 24, 32)
    policy = DiffusionController(replace(CONFIGS["everything"], observation=(
        state_feature(5), FORCE, CAMERA, twin, WIDE, DEPTH)))  # fmt: skip
    names = {name.split(".")[0] for name in policy.state_dict()} - {"unet"}
    vectors = {"state_encoder", "state_encoder_1"}
    assert names == vectors | {"image_encoder", "image_encoder_1", "image_encoder_2"}
    assert policy.image_encoder_2.backbone[0].in_channels == 1  # depth


def test_act_takes_several_vectors_and_depth() -> None:
    config = replace(ACT_PRESETS["act-tiny"], observation=(state_feature(5), FORCE, DEPTH))
    policy, batch = make_model(config), make_batch(config, 2)
    policy.loss(batch, torch.Generator().manual_seed(0)).backward()
    policy.eval()
    with torch.no_grad():
        before = policy.act(batch)
        for key in config.inputs():
            assert not torch.equal(before, policy.act(batch | {key: batch[key] + 1.0})), key


@pytest.mark.parametrize("name", CONFIGS)
def test_configurations_survive_their_checkpoint(tmp_path: Path, name: str) -> None:
    written = random_checkpoint(tmp_path, CONFIGS[name])
    policy, read = load_policy(tmp_path)
    assert read == written and policy.config == CONFIGS[name]


def test_as_input() -> None:
    rgb = torch.randint(0, 256, (2, 3, 24, 32, 3), dtype=torch.uint8)
    assert torch.equal(as_input(CAMERA, rgb)[1, 2, 0], rgb[1, 2, :, :, 0].float() / 255)
    depth = torch.rand(2, 24, 32, dtype=torch.float64)
    assert as_input(DEPTH, depth).shape == (2, 1, 24, 32) and as_input(DEPTH, depth).dtype == torch.float32


@pytest.mark.parametrize("start", [0, 2])
def test_the_reference_remembers(tmp_path: Path, start: int) -> None:
    """Chunks are of the last three frames, the first after a reset standing for those before it."""
    config = replace(SMALL, observation=frames_of(3, state_feature(5), DEPTH), execute=3, chunk_start=start)
    random_checkpoint(tmp_path, config)
    rng = np.random.default_rng(0)
    ticks = [
        {
            "observation.state": rng.normal(size=5).astype(np.float32),
            "observation.far": rng.random((24, 32)).astype(np.float32),
        }
        for _ in range(8)
    ]
    policy = ReferencePolicy(tmp_path)
    for episode in range(2):
        policy.reset(seed=4, episode=episode)
        actions = np.stack([policy.act(tick) for tick in ticks])
        for chunk, first in enumerate(range(0, 8, 3)):
            again = ReferencePolicy(tmp_path)
            again.reset(seed=4, episode=episode)
            again._chunk = chunk
            # The ring by hand: two frames are noted, the third comes with the question.
            for place in (first - 2, first - 1):
                again._note(ticks[max(place, 0)])
            rows = again.predict_chunk(ticks[first])[start : start + 3]
            np.testing.assert_array_equal(actions[first : first + 3], rows[: len(actions) - first])
