"""Planners: shapes, the loss, guidance, and the training windows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers", reason="training packages are not installed")

import torch
from walks import write_dataset

from keystep.data import DatasetError, DatasetReader, PlanWindows
from keystep.features import Feature
from keystep.models import (
    PLANNER_PRESETS,
    ConfigError,
    PlannerConfig,
    camera_feature,
    make_model,
    state_feature,
)
from keystep.models.planner import PerceiverResampler, Planner
from keystep.models.planner_config import TransformerConfig
from keystep.suites.franka3blocks.layout import STATE_PARTS
from keystep.suites.franka3blocks.symmetries import SYMMETRIES

TINY = replace(PLANNER_PRESETS["tiny"], text_tokens=3, text_width=8)
IMAGE = replace(TINY, observation=(camera_feature("static", 16, 16),))
CLEAN = replace(IMAGE, min_snr=0.0, sampler=replace(IMAGE.sampler, prediction="sample"))
TOKENS = replace(
    TINY, network="transformer", transformer=TransformerConfig(width=16, layers=2, heads=2, parts=STATE_PARTS)
)
CONFIGS = {"state": TINY, "tokens": TOKENS, "image": IMAGE, "clean image": CLEAN}


def make_planner(config: PlannerConfig) -> Planner:
    """With weights that are nowhere zero: an untrained U-Net ends in zeros."""
    torch.manual_seed(0)
    model = make_model(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    assert isinstance(model, Planner)
    return model.eval()


def make_batch(config: PlannerConfig, size: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "observation": config.subgoal_shape,
        "subgoals": (config.subgoals, *config.subgoal_shape),
        "text": (config.text_tokens, config.text_width),
    }
    return {key: torch.randn((size, *shape), generator=generator) for key, shape in shapes.items()}


@pytest.mark.parametrize("kind", CONFIGS)
def test_shapes_and_what_the_prediction_depends_on(kind: str) -> None:
    config = CONFIGS[kind]
    model, batch = make_planner(config), make_batch(config)
    goal = model.goal(batch["text"])
    assert goal.shape == (4, config.embedding)
    timestep = torch.tensor([0, 3, 50, 99])

    def predict(**changes: torch.Tensor) -> torch.Tensor:
        inputs = {"sample": batch["subgoals"], "goal": goal, "observation": batch["observation"]}
        return model.denoise(timestep=timestep, **{**inputs, **changes})

    plain = predict()
    assert plain.shape == batch["subgoals"].shape
    assert torch.allclose(plain, predict(), atol=0)
    for name, value in (("sample", batch["subgoals"]), ("goal", goal), ("observation", batch["observation"])):
        assert not torch.allclose(plain, predict(**{name: value + 0.5}), atol=1e-4), name
    one = model.denoise(batch["subgoals"][2:3], timestep[2:3], goal[2:3], batch["observation"][2:3])
    torch.testing.assert_close(one, plain[2:3], rtol=1e-4, atol=1e-4)  # rows do not mix


def test_the_loss_is_weighted_by_min_snr() -> None:
    """Against the formula, with one time-step at a time: min(snr, 5) / (snr + 1) for v-prediction."""
    config = replace(
        TINY, text_dropout=0.0, observation_noise=0.0, sampler=replace(TINY.sampler, guidance=0.0)
    )
    model, batch = make_planner(config), make_batch(config)
    generator = torch.Generator().manual_seed(7)
    loss = model.loss(batch, generator)
    generator = torch.Generator().manual_seed(7)
    for _ in range(2):
        torch.randn(batch["subgoals"].shape if _ == 0 else batch["observation"].shape, generator=generator)
    noise = torch.randn(batch["subgoals"].shape, generator=generator)
    timestep = torch.randint(config.sampler.train_steps, (4,), generator=generator)
    bar = model.scheduler.alphas_cumprod[timestep].reshape(-1, 1, 1)
    noisy = bar.sqrt() * batch["subgoals"] + (1 - bar).sqrt() * noise
    velocity = bar.sqrt() * noise - (1 - bar).sqrt() * batch["subgoals"]
    predicted = model.denoise(noisy, timestep, model.goal(batch["text"]), batch["observation"])
    snr = (bar / (1 - bar)).flatten()
    weight = torch.minimum(snr, torch.tensor(5.0)) / (snr + 1)
    want = (weight * (predicted - velocity).square().mean(dim=(1, 2))).mean()
    torch.testing.assert_close(loss, want, rtol=1e-5, atol=1e-6)


def test_the_paper_size() -> None:
    """201 M parameters, perceiver resampler included (HD-ExpIt, App. B), to within 1 %."""
    with torch.device("meta"):
        model = make_model(PLANNER_PRESETS["paper"])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(201e6, rel=0.01), count


def test_clean_frames_begin_as_what_is_seen_and_have_no_weight() -> None:
    """An untrained U-Net ends in zeros: the prediction is the observation, the loss a plain mean square."""
    torch.manual_seed(0)
    config = replace(CLEAN, observation_noise=0.0)
    model, batch = make_model(config), make_batch(config)
    assert isinstance(model, Planner)
    seen = batch["observation"].unsqueeze(1).expand_as(batch["subgoals"])
    loss = model.loss(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, (seen - batch["subgoals"]).square().mean(), rtol=1e-5, atol=1e-6)


def test_dropout_trains_the_null_text() -> None:
    """With certain dropout the loss cannot depend on the text; without it, it does."""
    batch = make_batch(TINY)
    other = batch | {"text": batch["text"].flip(0)}
    for dropout, same in ((0.999999, True), (0.0, False)):
        sampler = replace(TINY.sampler, guidance=0.0)
        model = make_planner(replace(TINY, text_dropout=dropout, sampler=sampler))
        losses = [model.loss(x, torch.Generator().manual_seed(3)) for x in (batch, other)]
        assert torch.equal(*losses) == same


def test_the_resampler_ignores_the_order_of_tokens_and_takes_any_number() -> None:
    resampler = PerceiverResampler(TINY.resampler, 8).eval()
    tokens = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resampler(tokens), resampler(tokens.flip(1)), rtol=1e-4, atol=1e-5)
    assert resampler(tokens[:, :2]).shape == (2, TINY.resampler.latents, TINY.resampler.dim)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"observation": (state_feature(26), camera_feature("static", 16, 16))}, "planner.observation"),
        ({"observation": ()}, "planner.observation"),
        ({"observation": (Feature("observation.far", "depth", (16, 16)),)}, "planner.observation"),
        ({"observation": (state_feature(26, history=2),)}, "planner.observation: observation.state.history"),
        ({"subgoals": 0}, "planner.subgoals"),
        ({"subgoals": 7}, "planner.subgoals"),
        ({"text_dropout": 1.0}, "planner.text_dropout"),
        ({"text_dropout": 0.0}, "planner.sampler.guidance"),
    ],
)
def test_bad_configurations(change: dict, field: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}: expected"):
        replace(TINY, **change)


# ---- windows


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> DatasetReader:
    return DatasetReader(write_dataset(tmp_path_factory.mktemp("data") / "toy", length=20, image=True))


def test_plans_against_a_slow_loop(reader: DatasetReader, tmp_path: Path) -> None:
    frames = np.concatenate([b["observation.state"] for b in reader.iter_batches(["observation.state"])])
    windows = PlanWindows(reader, "observation.state", 4, 3, latest_start=9, cache=tmp_path)
    batch = windows.batch(np.arange(len(windows)))
    row = 0
    for episode in reader.episodes():
        for start in range(10):
            want = [frames[min(episode.start + start + 3 * k, episode.stop - 1)] for k in range(1, 5)]
            np.testing.assert_array_equal(batch["observation"][row], frames[episode.start + start])
            np.testing.assert_array_equal(batch["subgoals"][row], want)
            row += 1
    assert row == len(windows)


def test_plans_of_images_and_of_some_episodes(reader: DatasetReader, tmp_path: Path) -> None:
    windows = PlanWindows(reader, "observation.images.static", 2, 5, episodes=[1, 4], cache=tmp_path)
    batch = windows.batch(np.array([0, 1]))
    assert len(windows) == 2 and batch["subgoals"].shape == (2, 2, 32, 32, 3)
    assert batch["subgoals"].dtype == np.uint8 and batch["task"].tolist() == [1, 0]


def test_bad_windows(reader: DatasetReader, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="subgoals: expected at least 1, got 0"):
        PlanWindows(reader, "observation.state", 0, cache=tmp_path)
    with pytest.raises(DatasetError, match=r"subgoal: expected one of .*, got 'touch'"):
        PlanWindows(reader, "touch", cache=tmp_path)
    with pytest.raises(DatasetError, match="expected at least one episode"):
        PlanWindows(reader, "observation.state", episodes=[], cache=tmp_path)


def test_equal_parts_are_treated_alike() -> None:
    """But for the vector that tells which part it is, cubes may change places."""
    model, batch = make_planner(TOKENS), make_batch(TOKENS)
    with torch.no_grad():
        model.network.part[2:] = model.network.part[1]
        goal, timestep = model.goal(batch["text"]), torch.tensor([0, 3, 50, 99])
        plans = model.denoise(batch["subgoals"], timestep, goal, batch["observation"])
        for symmetry in SYMMETRIES:
            order = list(symmetry.columns["observation.state"])
            seen, sample = batch["observation"][:, order], batch["subgoals"][..., order]
            changed = model.denoise(sample, timestep, goal, seen)
            torch.testing.assert_close(changed, plans[..., order], rtol=1e-4, atol=1e-4)


def test_a_vector_that_nobody_has_divided_is_one_part() -> None:
    config = replace(TOKENS, transformer=replace(TOKENS.transformer, parts=()))
    model, batch = make_planner(config), make_batch(config)
    assert model.network.widths == [26]
    goal, timestep = model.goal(batch["text"]), torch.tensor([0, 3, 50, 99])
    plans = model.denoise(batch["subgoals"], timestep, goal, batch["observation"])
    assert plans.shape == batch["subgoals"].shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "mlp"}, "planner.network: expected unet | transformer, got 'mlp'"),
        (
            {"parts": (0, 1)},
            "planner.transformer.parts: expected 26 numbers 0, 1, .. without gaps",
        ),
        ({"parts": (0,) * 25 + (2,)}, "planner.transformer.parts: expected 26 numbers 0, 1, .. without gaps"),
        ({"width": 18, "heads": 4}, "planner.transformer.width: expected a multiple of 8, got 18"),
        ({"layers": 0}, "planner.transformer.layers: expected a positive integer, got 0"),
    ],
)
def test_transformers_that_there_are_not(changes: dict[str, object], message: str) -> None:
    of_planner = {key: value for key, value in changes.items() if key == "network"}
    sizes = {key: value for key, value in changes.items() if key not in of_planner}
    with pytest.raises(ConfigError) as caught:
        replace(TOKENS, transformer=replace(TOKENS.transformer, **sizes), **of_planner)
    assert message in str(caught.value)
    with pytest.raises(ConfigError, match=r"planner\.network: expected unet, got 'transformer'"):
        replace(IMAGE, network="transformer")
