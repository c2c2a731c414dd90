"""The weights for the native engine: their layout, their rounding, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors import SafetensorError, safe_open  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from keystep.export import unet_weights  # noqa: E402
from keystep.export.manifest import ExportError  # noqa: E402
from keystep.export.unet_weights import quantise, write_unet  # noqa: E402
from keystep.models.unet1d import ConditionalUnet1d  # noqa: E402

STEPS = 20
SHAPES: dict[str, dict[str, Any]] = {
    "two levels": {"down_dims": (16, 24)},
    "one level": {"down_dims": (8,)},
    "three levels, kernel 3": {"down_dims": (8, 16, 24), "kernel_size": 3, "groups": 4},
    "bias only": {"down_dims": (16, 24), "film_scale": False},
    "as many actions as channels": {"down_dims": (8, 8), "action_dim": 8},  # no shortcut anywhere
}


def network(shape: dict[str, Any], seed: int = 0) -> ConditionalUnet1d:
    torch.manual_seed(seed)
    unet = ConditionalUnet1d(**{"action_dim": 7, "condition": 11, "step_dim": 6, **shape})
    for parameter in unet.parameters():  # norms start as ones and zeros, all alike
        nn.init.normal_(parameter, std=0.5)
    return unet


def read(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


# ---- layout


@pytest.mark.parametrize("name", SHAPES)
def test_every_weight_is_where_the_format_says(name: str, tmp_path: Path) -> None:
    unet = network(SHAPES[name])
    write_unet(unet, STEPS, "fp32", tmp_path / "unet.safetensors")
    got, rng = read(tmp_path / "unet.safetensors"), np.random.default_rng(0)
    state = {key: value for key, value in unet.state_dict().items() if not key.startswith("step.")}
    plain = {key: value for key, value in state.items() if ".film." not in key}
    assert got.keys() == plain.keys() | {"film.weight", "film.bias", "film.steps"}
    assert {tensor.dtype for tensor in got.values()} == {torch.float32}
    for key, value in plain.items():
        if value.ndim == 1:
            assert torch.equal(got[key], value), key
            continue
        grows = key.startswith("grow.")  # [inputs, outputs, taps]; the others [outputs, inputs, taps]
        outputs, inputs, taps = (value.shape[1], value.shape[0], 4) if grows else value.shape
        assert got[key].shape == (taps, inputs, outputs), key
        for _ in range(200):
            tap, i, o = rng.integers(taps), rng.integers(inputs), rng.integers(outputs)
            assert got[key][tap, i, o] == (value[i, o, tap] if grows else value[o, i, tap]), key


def test_shapes_by_name(tmp_path: Path) -> None:
    """As docs/bundle.md lists them: A = 7 actions, levels of 16 and 24 channels."""
    write_unet(network(SHAPES["two levels"]), STEPS, "fp32", tmp_path / "x")
    shapes = {name: tuple(tensor.shape) for name, tensor in read(tmp_path / "x").items()}
    film = 2 * (16 + 16 + 24 + 24 + 24 + 24 + 16 + 16)
    assert shapes.items() >= {
        ("film.weight", (1, 11, film)),
        ("film.bias", (film,)),
        ("film.steps", (STEPS, film)),
        ("down.0.0.first.0.weight", (5, 7, 16)),
        ("down.0.0.first.1.weight", (16,)),
        ("down.0.0.shortcut.weight", (1, 7, 16)),
        ("shrink.0.weight", (3, 16, 16)),
        ("middle.0.first.0.weight", (5, 24, 24)),
        ("up.0.0.first.0.weight", (5, 48, 16)),
        ("grow.0.weight", (4, 16, 16)),
        ("final.0.0.weight", (5, 16, 16)),
        ("final.1.weight", (1, 16, 7)),
    }
    assert "down.0.1.shortcut.weight" not in shapes


@pytest.mark.parametrize("name", SHAPES)
def test_film_tensors_give_the_film_of_the_network(name: str, tmp_path: Path) -> None:
    """Mish(condition) @ weight + bias + steps[t] is every block's FiLM vector, with 1 added to the scales."""
    unet = network(SHAPES[name])
    write_unet(unet, STEPS, "fp32", tmp_path / "x")
    got = read(tmp_path / "x")
    condition = torch.randn(3, 11)
    timestep = torch.tensor([0, 7, STEPS - 1])
    film = (
        nn.functional.mish(condition) @ got["film.weight"][0] + got["film.bias"] + got["film.steps"][timestep]
    )
    wanted = []
    joint = nn.functional.mish(torch.cat([unet.step(timestep), condition], dim=1))
    with torch.no_grad():
        for block in unet.blocks():
            vector = block.film(joint)
            if block.film_scale:
                scale, bias = vector.chunk(2, dim=1)
                vector = torch.cat([1 + scale, bias], dim=1)
            wanted.append(vector)
    torch.testing.assert_close(film, torch.cat(wanted, dim=1), atol=1e-5, rtol=1e-5)


def test_the_entry_describes_the_network(tmp_path: Path) -> None:
    shape = SHAPES["three levels, kernel 3"]
    entry = write_unet(network(shape), STEPS, "bf16", tmp_path / "x.safetensors")
    assert len(entry.pop("sha256")) == 64
    assert entry == {
        "kind": "conditional_unet1d",
        "file": "x.safetensors",
        "down_dims": [8, 16, 24],
        "kernel_size": 3,
        "groups": 4,
        "film_scale": True,
        "condition": 11,
        "precision": "bf16",
        "errors": {},
    }
    assert write_unet(network(SHAPES["bias only"]), STEPS, "fp32", tmp_path / "x")["film_scale"] is False


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    """safetensors writes its metadata in an order that changes from one file to the next."""
    unet = network(SHAPES["one level"])
    digests = {write_unet(unet, STEPS, "fp32", tmp_path / str(i))["sha256"] for i in range(8)}
    assert len(digests) == 1
    with safe_open(tmp_path / "0", "pt") as file:
        assert file.metadata() == {"format": "keystep-unet1d", "version": "1"}
    header = (tmp_path / "0").read_bytes()
    length = int.from_bytes(header[:8], "little")
    assert list(json.loads(header[8 : 8 + length])["__metadata__"]) == ["format", "version"]


# ---- rounding


def slow_quantise(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The law of docs/bundle.md, one weight at a time, in single precision; Python rounds half to even."""
    taps, inputs, outputs = weight.shape
    scale = np.zeros(outputs, np.float32)
    quantised = np.zeros(weight.shape, np.int8)
    for o in range(outputs):
        greatest = max(abs(weight[k, i, o]) for k in range(taps) for i in range(inputs))
        scale[o] = np.float32(greatest) / np.float32(127)
        for k in range(taps):
            for i in range(inputs):
                ratio = weight[k, i, o] / scale[o] if scale[o] > 0 else 0.0
                quantised[k, i, o] = min(127, max(-127, round(float(ratio))))
    return quantised, scale


def test_int8_is_the_law(tmp_path: Path) -> None:
    unet = network(SHAPES["two levels"])
    write_unet(unet, STEPS, "fp32", tmp_path / "fp32")
    write_unet(unet, STEPS, "int8", tmp_path / "int8")
    plain, got = read(tmp_path / "fp32"), read(tmp_path / "int8")
    rounded = {name for name, tensor in plain.items() if tensor.ndim == 3}
    assert "film.weight" in rounded and "film.steps" not in rounded and "final.1.weight" in rounded
    assert got.keys() == plain.keys() | {f"{name}.scale" for name in rounded}
    for name, tensor in plain.items():
        if name not in rounded:
            assert got[name].dtype == torch.float32 and torch.equal(got[name], tensor), name
            continue
        quantised, scale = slow_quantise(tensor.numpy())
        assert got[name].dtype == torch.int8 and got[f"{name}.scale"].dtype == torch.float32
        np.testing.assert_array_equal(got[name].numpy(), quantised, name)
        np.testing.assert_array_equal(got[f"{name}.scale"].numpy(), scale, name)


def test_int8_of_halves_zeros_and_tiny_numbers() -> None:
    smallest = 2.0**-149
    columns = {
        "halves go to even": ([127.0, 0.5, 1.5, 2.5, -0.5, -1.5], [127, 0, 2, 2, 0, -2]),
        "the greatest is negative": ([-254.0, 254.0, 1.0, 3.0, -3.0, 2.0], [-127, 127, 0, 2, -2, 1]),
        "zeros": ([0.0] * 6, [0] * 6),
        "too small for a scale": ([smallest, -smallest, 0.0, 0.0, 0.0, 0.0], [0] * 6),
        # 180 / 127 is rounded to one bit, and 180 would not fit
        "a scale of one bit": (
            [180 * smallest, 100 * smallest, -180 * smallest, 0, 0, 0],
            [127, 100, -127, 0, 0, 0],
        ),
    }
    weight = torch.tensor([column for column, _ in columns.values()]).T.reshape(2, 3, len(columns))
    got, scale = quantise(weight)
    wanted = torch.tensor([column for _, column in columns.values()]).T.reshape(2, 3, len(columns))
    assert torch.equal(got, wanted.to(torch.int8))
    assert scale.tolist() == [1.0, 2.0, 0.0, 0.0, smallest]
    slow, slow_scale = slow_quantise(weight.numpy())
    np.testing.assert_array_equal(got.numpy(), slow)
    np.testing.assert_array_equal(scale.numpy(), slow_scale)


def test_bf16_rounds_half_to_even(tmp_path: Path) -> None:
    unet = network(SHAPES["two levels"])
    weight = unet.final[1].weight.data.flatten()  # type: ignore[union-attr, operator]
    # one and a half of the last bit that stays: a tie between an even and an odd one, both ways
    weight[:2] = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8])
    write_unet(unet, STEPS, "fp32", tmp_path / "fp32")
    write_unet(unet, STEPS, "bf16", tmp_path / "bf16")
    plain, got = read(tmp_path / "fp32"), read(tmp_path / "bf16")
    assert got.keys() == plain.keys()
    for name, tensor in plain.items():
        if tensor.ndim < 3:
            assert got[name].dtype == torch.float32 and torch.equal(got[name], tensor), name
            continue
        bits = tensor.numpy().view(np.uint32).astype(np.uint64)
        rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
        np.testing.assert_array_equal(got[name].view(torch.int16).numpy().view(np.uint16), rounded, name)
    assert got["final.1.weight"].flatten()[::7][:2].tolist() == [1.0, 1 + 2**-6]


# ---- what is refused


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("weight", "named"),
    [
        ("down.0.1.second.0.weight", "down.0.1.second.0.weight"),
        ("grow.0.bias", "grow.0.bias"),
        ("final.0.1.weight", "final.0.1.weight"),
        ("middle.0.film.bias", "film.bias"),
        ("step.mlp.2.bias", "film.steps"),
    ],
)
def test_weights_that_are_not_finite(
    weight: str, named: str, value: float, precision: Any, tmp_path: Path
) -> None:
    unet = network(SHAPES["two levels"])
    unet.state_dict()[weight].flatten()[0] = value
    message = rf"planner\.unet\.{named}: expected finite weights in {precision}, got NaN or Inf"
    with pytest.raises(ExportError, match=message):
        write_unet(unet, STEPS, precision, tmp_path / "x", "planner.unet")
    assert list(tmp_path.iterdir()) == []


def test_weights_too_great_for_bf16(tmp_path: Path) -> None:
    unet = network(SHAPES["two levels"])
    unet.state_dict()["shrink.0.weight"][0, 0, 0] = torch.finfo(torch.float32).max
    write_unet(unet, STEPS, "fp32", tmp_path / "x")
    with pytest.raises(ExportError, match=r"unet\.shrink\.0\.weight: expected finite weights in bf16"):
        write_unet(unet, STEPS, "bf16", tmp_path / "y")


def other_epsilon(unet: ConditionalUnet1d) -> None:
    cast(Any, unet.middle[1]).second[1].eps = 1e-6


def another_layer(unet: ConditionalUnet1d) -> None:
    unet.attention = nn.Linear(3, 3)


def another_film(unet: ConditionalUnet1d) -> None:
    cast(Any, unet.final).film = nn.Linear(3, 3, bias=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_epsilon, r"unet\.middle\.1\.second\.1\.eps: expected 1e-05, got 1e-06"),
        (another_layer, r"unet: expected .*, got others: attention\.weight, attention\.bias"),
        (another_film, r"unet: expected .*, got others: final\.film\.weight"),
    ],
)
def test_networks_the_file_cannot_describe(
    change: Callable[[ConditionalUnet1d], None], message: str, tmp_path: Path
) -> None:
    unet = network(SHAPES["two levels"])
    change(unet)
    with pytest.raises(ExportError, match=message):
        write_unet(unet, STEPS, "fp32", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_oserror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(unet_weights, "save_file", fail)
    with pytest.raises(OSError, match=r"unet\.safetensors: .*No space left on device"):
        write_unet(network(SHAPES["one level"]), STEPS, "fp32", tmp_path / "unet.safetensors")
