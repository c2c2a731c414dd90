"""The planner's video U-Net: size, what sees what, and that its ONNX graph computes the same."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from keystep.models.video_unet import SpaceTimeConv, SpatialAttention, VideoUnet, group_norm  # noqa: E402

SIZES: dict[str, dict[str, Any]] = {
    "attention at every level": {"multipliers": (1, 2), "attention_at": (1, 2)},
    "one level, one block": {"multipliers": (1,), "blocks": 1},
    "folded pixels": {"multipliers": (1, 3), "patch": 2, "attention_at": (4,)},
}


def tiny(**changes: Any) -> VideoUnet:
    """With random weights everywhere: a fresh network answers zero."""
    torch.manual_seed(0)
    unet = VideoUnet(**{"base": 8, "multipliers": (1, 2), "blocks": 1, "embedding": 16, **changes})
    for parameter in unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return unet.eval()


def inputs(batch: int = 2, subgoals: int = 4, side: int = 8, embedding: int = 16) -> tuple[Any, Any, Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, subgoals, 6, side, side, generator=generator)
    return x, torch.arange(batch) * 37 % 100, torch.randn(batch, embedding, generator=generator)


def test_paper_size() -> None:
    """HD-ExpIt's planner has 201 M parameters: this U-Net, and 7.9 M in the resampler and the projection."""
    with torch.device("meta"):
        unet = VideoUnet()
        x = torch.empty(1, 8, 6, 96, 96)
        assert unet(x, torch.zeros(1, dtype=torch.int64), torch.empty(1, 512)).shape == (1, 8, 3, 96, 96)
    count = sum(parameter.numel() for parameter in unet.parameters())
    assert count == 193_175_969
    attention = [module for module in unet.modules() if isinstance(module, SpatialAttention)]
    assert sorted(layer.heads for layer in attention) == [16] * 5 + [20] * 6  # 32 channels each


@pytest.mark.parametrize("size", SIZES)
def test_every_parameter_learns(size: str) -> None:
    unet = tiny(**SIZES[size])
    output = unet(*inputs())
    assert output.shape == (2, 4, 3, 8, 8)
    output.square().mean().backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_a_fresh_network_answers_zero() -> None:
    unet = VideoUnet(base=8, multipliers=(1, 2), blocks=1, embedding=16)
    assert not unet(*inputs()).any()


def test_the_temporal_half_starts_as_the_identity() -> None:
    torch.manual_seed(0)
    conv, x = SpaceTimeConv(3, 5), torch.randn(2, 3, 4, 6, 6)
    frames = torch.stack([conv.space(x[:, :, m]) for m in range(4)], dim=2)
    torch.testing.assert_close(conv(x), frames)


def test_convolution_equals_its_plain_definition() -> None:
    torch.manual_seed(0)
    conv, x = SpaceTimeConv(3, 5, stride=2), torch.randn(2, 3, 4, 6, 8)
    torch.nn.init.normal_(conv.time.weight)
    space = torch.nn.functional.conv3d(
        x, conv.space.weight[:, :, None], conv.space.bias, (1, 2, 2), (0, 1, 1)
    )
    both = torch.nn.functional.conv3d(space, conv.time.weight[..., None], conv.time.bias, 1, (1, 0, 0))
    torch.testing.assert_close(conv(x), both)


def test_attention_stays_inside_a_frame() -> None:
    torch.manual_seed(0)
    attention, x = SpatialAttention(8, 4), torch.randn(1, 8, 3, 4, 4)
    other = x.clone()
    other[:, :, 1, 0, 0] += 1
    changed = (attention(x) - attention(other)).abs().amax(dim=(0, 1))
    assert changed[1].gt(1e-6).all()
    assert not changed[[0, 2]].any()


def test_rows_do_not_mix_and_each_input_counts() -> None:
    unet, (x, timestep, goal) = tiny(), inputs()
    with torch.no_grad():
        together = unet(x, timestep, goal)
        for row in range(2):
            alone = unet(x[row : row + 1], timestep[row : row + 1], goal[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=1e-5)
        for changed in ((x.flip(1), timestep, goal), (x, timestep + 1, goal), (x, timestep, goal.flip(0))):
            assert not torch.allclose(unet(*changed), together, atol=1e-3)


@pytest.mark.parametrize("channels", [3, 8, 16, 24, 72, 128, 1152])
def test_groups_keep_the_embedding(channels: int) -> None:
    norm = group_norm(channels)
    assert channels / norm.num_groups >= min(4, channels)
    assert norm.num_groups <= 32


def test_folding_pixels_is_undone() -> None:
    unet, (x, _, _) = tiny(patch=2), inputs()
    torch.testing.assert_close(unet._unfold(unet._fold(x)), x)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="camera: expected multiples of 4, got 8 x 6"):
        tiny(patch=2)(torch.zeros(1, 2, 6, 8, 6), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 16))


@pytest.mark.parametrize("size", SIZES)
def test_onnx_runtime_computes_the_same_for_one_row_and_for_two(size: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    unet, path = tiny(**SIZES[size]), tmp_path / "unet.onnx"
    names = ["sample", "timestep", "goal"]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            unet,
            inputs(),
            str(path),
            input_names=names,
            output_names=["prediction"],
            dynamic_axes={name: {0: "rows"} for name in [*names, "prediction"]},
            opset_version=18,
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape[1:] == [4, 3, 8, 8]
    for rows in (1, 2):
        values = inputs(rows)
        got = session.run(None, {name: value.numpy() for name, value in zip(names, values, strict=True)})[0]
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(got), unet(*values), atol=1e-4, rtol=1e-4)
