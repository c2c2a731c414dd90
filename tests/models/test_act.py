"""The Action Chunking Transformer: its size, what counts, its loss, and that its graph computes the same."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from keystep.features import Feature  # noqa: E402
from keystep.models.act import ActController, Attention, image_positions  # noqa: E402
from keystep.models.config import ActConfig  # noqa: E402
from keystep.models.encoders import ImageEncoder  # noqa: E402
from keystep.models.observing import camera_feature, state_feature  # noqa: E402

TINY = ActConfig(
    observation=(state_feature(5),),
    width=16,
    heads=2,
    feedforward=32,
    encoder_layers=2,
    decoder_layers=2,
    vae_layers=1,
    latent=3,
    image_width=8,
)
CAMERAS = (camera_feature("static", 32, 64), camera_feature("wrist", 32, 64))
VARIANTS = {
    "goal state": TINY,
    "flat": replace(TINY, goal="none", tasks=3),
    "two cameras": replace(TINY, observation=CAMERAS),
    "two sizes": replace(TINY, observation=(CAMERAS[0], camera_feature("wrist", 64, 32))),
    "everything": replace(TINY, observation=(state_feature(5), CAMERAS[0]), tasks=2),
}


def make(config: ActConfig) -> ActController:
    torch.manual_seed(0)
    return ActController(config)


def random_batch(config: ActConfig, rows: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    batch = {"action": torch.randn(rows, config.horizon, config.action_dim, generator=generator)}
    for name, (feature, frames) in config.inputs().items():
        shape = (rows, *feature.network_shape(frames)[1:])
        batch[name] = torch.randn(shape, generator=generator)
    if config.tasks:
        batch["task"] = torch.arange(rows) % config.tasks
    return batch


def observed(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name != "action"}


def test_paper_size() -> None:
    """HD-ExpIt's ACT has 51 M trainable parameters (App. B)."""
    with torch.device("meta"):
        policy = ActController(ActConfig(observation=(camera_feature("static", 96, 96),)))
    count = sum(parameter.numel() for parameter in policy.parameters())
    assert count == pytest.approx(51e6, rel=0.02)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_learns(name: str) -> None:
    config = VARIANTS[name]
    policy = make(config)
    policy.loss(random_batch(config, 4), torch.Generator().manual_seed(0)).backward()
    for parameter_name, parameter in policy.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name


@pytest.mark.parametrize("name", VARIANTS)
def test_every_input_counts(name: str) -> None:
    config = VARIANTS[name]
    policy = make(config).eval()
    batch = observed(random_batch(config, 2))
    with torch.no_grad():
        chunk = policy.act(batch)
        assert chunk.shape == (2, config.horizon, config.action_dim)
        for key in batch:
            other = policy.act(batch | {key: batch[key].flip(0)})
            assert not torch.allclose(other, chunk, atol=1e-4), key


def test_observation_and_goal_are_told_apart() -> None:
    """Both go through one encoder: exchanging them must change the chunk."""
    policy = make(VARIANTS["two cameras"]).eval()
    batch = observed(random_batch(policy.config, 1))
    exchanged = {
        name: batch[f"{'goal' if name.startswith('observation') else 'observation'}.{name.split('.', 1)[1]}"]
        for name in batch
    }
    with torch.no_grad():
        assert not torch.allclose(policy.act(batch), policy.act(exchanged), atol=1e-4)


def test_acting_ignores_the_action_and_has_no_noise() -> None:
    policy = make(TINY).eval()
    batch = random_batch(TINY, 2)
    with torch.no_grad():
        chunk = policy.act(batch)
        torch.testing.assert_close(policy.act(observed(batch)), chunk, atol=0, rtol=0)
        rows = [policy.act({key: value[row : row + 1] for key, value in batch.items()}) for row in range(2)]
    torch.testing.assert_close(torch.cat(rows), chunk)


def test_loss_is_l1_and_the_divergence_of_the_latent() -> None:
    policy = make(replace(TINY, dropout=0.0))
    torch.nn.init.zeros_(policy.posterior.out.weight)
    mean, log_variance = torch.tensor([0.5, -1.0, 0.0]), torch.tensor([-20.0, -20.0, -20.0])
    with torch.no_grad():
        policy.posterior.out.bias.copy_(torch.cat([mean, log_variance]))
        batch = random_batch(policy.config, 4)
        chunk = policy.decode(batch, mean.expand(4, -1))  # deviation e^-10: hardly any noise
        normal = torch.distributions.Normal
        divergence = torch.distributions.kl_divergence(
            normal(mean, (0.5 * log_variance).exp()), normal(torch.zeros(3), torch.ones(3))
        ).sum()
        expected = (chunk - batch["action"]).abs().mean() + policy.config.kl_weight * divergence
        torch.testing.assert_close(policy.loss(batch), expected, rtol=1e-4, atol=1e-4)


def test_loss_is_a_function_of_its_generator_and_leaves_the_global_one_alone() -> None:
    policy, batch = make(TINY), random_batch(TINY, 8)
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def loss(seed: int) -> float:
        return policy.loss(batch, torch.Generator().manual_seed(seed)).item()

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_learns_what_a_goal_asks_for() -> None:
    """The chunk is the direction to the goal; unseen goals, acting with latent zero."""
    config = replace(TINY, observation=(state_feature(7),), goal="observation", dropout=0.0)
    policy = make(config)
    optimizer = torch.optim.AdamW(policy.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)

    def sample() -> dict[str, Any]:
        states = torch.randn(2, 64, 7, generator=generator)
        action = (states[1] - states[0])[:, None].expand(-1, config.horizon, -1)
        return {"observation.state": states[0], "goal.state": states[1], "action": action}

    for _ in range(200):
        optimizer.zero_grad()
        policy.loss(sample(), generator).backward()
        optimizer.step()
    batch = sample()
    with torch.no_grad():
        error = (policy.eval().act(batch) - batch["action"]).abs().mean().item()
    assert error < 0.4 * batch["action"].abs().mean().item()


def test_attention_equals_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(16, 4, 0.0), torch.nn.MultiheadAttention(16, 4, batch_first=True)
    torch.nn.init.normal_(ours.qkv.bias)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.load_state_dict(ours.out.state_dict())
        x, position = torch.randn(2, 5, 16), torch.randn(5, 16)
        memory, places = torch.randn(2, 7, 16), torch.randn(7, 16)
        expected = theirs(x + position, x + position, x)[0]
        torch.testing.assert_close(ours(x, position), expected, atol=1e-5, rtol=1e-5)
        expected = theirs(x + position, memory + places, memory)[0]
        torch.testing.assert_close(ours.cross(x, position, memory, places), expected, atol=1e-5, rtol=1e-5)


def test_image_positions_differ_in_every_cell() -> None:
    grid = image_positions(3, 4, 16)
    assert grid.shape == (12, 16)
    assert torch.cdist(grid, grid).fill_diagonal_(1).min() > 0.1


def test_cameras_of_two_sizes_share_an_encoder() -> None:
    """Each image's cells are those it has alone, in the order of the images."""
    wrist = camera_feature("wrist", 32, 96)
    config = replace(TINY, observation=(CAMERAS[0], wrist), goal="none")
    torch.manual_seed(0)
    model = ActController(config).eval()
    images = {f"observation.{f.name}": torch.randn(2, *f.network_shape()[1:]) for f in config.images}
    with torch.no_grad():
        tokens, position = model._tokens(images, torch.zeros(2, config.latent))
        first = 1
        for number, (name, feature) in enumerate(zip(images, config.images, strict=True)):
            _, height, width = feature.network_shape()[1:]
            count = -(-height // 32) * -(-width // 32)
            alone = model.image(model.backbone(images[name]).flatten(2).transpose(1, 2))
            torch.testing.assert_close(tokens[:, first : first + count], alone)
            grid = image_positions(-(-height // 32), -(-width // 32), config.width)
            torch.testing.assert_close(position[first : first + count], model.image_names[number] + grid)
            first += count
        assert first == tokens.shape[1]


def test_cameras_of_two_kinds_are_refused() -> None:
    depth = Feature("observation.far", "depth", (32, 32), 1)
    with pytest.raises(ValueError, match=r"act\.observation: expected images of one kind"):
        replace(TINY, observation=(CAMERAS[0], depth))


def test_a_history_is_refused() -> None:
    with pytest.raises(ValueError, match=r"state\.history: expected 1 \(ACT sees one frame\), got 2"):
        replace(TINY, observation=(state_feature(5, history=2),))


def test_narrow_image_encoder() -> None:
    encoder = ImageEncoder((3, 32, 32), keypoints=4, features=8, stem=8)
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 8)
    assert sum(p.numel() for p in encoder.parameters()) < 0.2e6


@pytest.mark.parametrize("name", VARIANTS)
def test_onnx_runtime_computes_the_same(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    policy, path = make(VARIANTS[name]).eval(), tmp_path / "act.onnx"
    batch = observed(random_batch(policy.config, 1))

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = policy

        def forward(self, *values: Any) -> Any:
            return self.policy.act(dict(zip(batch, values, strict=True)))

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        names = {"input_names": list(batch), "output_names": ["actions"]}
        values = tuple(batch.values())
        torch.onnx.export(Graph().eval(), values, str(path), opset_version=18, dynamo=False, **names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for seed in (0, 1):
        batch = observed(random_batch(policy.config, 1, seed))
        got = session.run(None, {key: value.numpy() for key, value in batch.items()})[0]
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(got), policy.act(batch), atol=1e-4, rtol=1e-4)
