"""Rows past the end of an episode: they change no loss, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import torch
from toy_dataset import write

from keystep.data import DatasetReader
from keystep.models import ACT_PRESETS, PRESETS, make_model, state_feature
from keystep.train import ControllerTraining
from keystep.train.controller import ControllerRecipe

CONFIGS = {
    "diffusion": replace(PRESETS["tiny"], observation=(state_feature(3),), action_dim=2),
    "sample": replace(
        PRESETS["tiny"],
        observation=(state_feature(3),),
        action_dim=2,
        sampler=replace(PRESETS["tiny"].sampler, prediction="sample"),
    ),
    "act": replace(ACT_PRESETS["act-tiny"], observation=(state_feature(3),), action_dim=2, goal="none"),
}
PADDING = torch.arange(8) >= torch.tensor([[8], [5], [1], [7]])


def batch(rows: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {"observation.state": torch.randn(rows, 3), "action": torch.randn(rows, 8, 2)}


def loss(model: torch.nn.Module, given: dict[str, torch.Tensor]) -> torch.Tensor:
    return model.loss(given, torch.Generator().manual_seed(5))  # type: ignore[operator]


@pytest.mark.parametrize("kind", CONFIGS)
def test_padded_rows_of_the_target_do_not_count(kind: str) -> None:
    torch.manual_seed(0)
    model = make_model(CONFIGS[kind]).eval()
    model.train()
    seen: list[torch.Tensor] = []
    last = model.unet.final if kind != "act" else model.action
    last.register_forward_hook(lambda _module, _inputs, output: output.register_hook(seen.append) and None)
    loss(model, batch() | {"action_is_pad": PADDING}).backward()
    (gradient,) = seen
    rows = gradient if kind == "act" else gradient.transpose(1, 2)
    assert (rows[PADDING] == 0).all() and (rows[~PADDING] != 0).all()


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_loss_is_the_mean_over_what_counts(kind: str) -> None:
    """With all rows of some windows marked but the first, it is what shorter targets would give."""
    torch.manual_seed(0)
    model = make_model(CONFIGS[kind]).eval()
    plain, unmarked = batch(), batch() | {"action_is_pad": torch.zeros(4, 8, dtype=torch.bool)}
    assert torch.equal(loss(model, plain), loss(model, plain))
    torch.testing.assert_close(loss(model, plain), loss(model, unmarked), rtol=1e-6, atol=0)
    assert not torch.equal(loss(model, plain), loss(model, plain | {"action_is_pad": PADDING}))


def test_the_posterior_of_act_does_not_see_padding() -> None:
    torch.manual_seed(0)
    model = make_model(CONFIGS["act"]).eval()
    given = batch() | {"action_is_pad": PADDING}
    other = given["action"].clone()
    other[PADDING] = 100.0
    assert torch.equal(loss(model, given), loss(model, given | {"action": other}))
    assert not torch.equal(loss(model, batch()), loss(model, batch() | {"action": other}))


def test_only_batches_with_padding_are_marked(tmp_path: Path) -> None:
    write(tmp_path / "d", 3)
    config = ControllerTraining(
        action_law="absolute",
        action_bounds="data",
        dataset=tmp_path / "d",
        output=tmp_path / "o",
        preset="tiny",
        condition="none",
        cache=tmp_path / "c",
    )
    recipe = ControllerRecipe(config, DatasetReader(tmp_path / "d"))
    windows = recipe.windows([0, 1, 2])
    whole, cut = (windows.batch(np.array(rows), np.random.default_rng(0)) for rows in ([0, 1], [0, 9]))
    assert "action_is_pad" not in recipe.prepare(whole, torch.device("cpu"))
    prepared = recipe.prepare(cut, torch.device("cpu"))
    assert prepared["action_is_pad"].tolist() == [[False] * 8, [False] + [True] * 7]


@pytest.mark.parametrize("dtype", ["float64", "int32", "int64"])
def test_numbers_of_other_types_reach_the_network_as_floats(tmp_path: Path, dtype: str) -> None:
    write(tmp_path / "d", 3)
    config = ControllerTraining(
        action_law="absolute",
        action_bounds="data",
        dataset=tmp_path / "d",
        output=tmp_path / "o",
        preset="tiny",
        condition="goal",
        cache=tmp_path / "c",
    )
    recipe = ControllerRecipe(config, DatasetReader(tmp_path / "d"))
    arrays = recipe.windows([0]).batch(np.array([0, 1]), np.random.default_rng(0))
    prepared = recipe.prepare(
        {key: value.astype(dtype) for key, value in arrays.items()}, torch.device("cpu")
    )
    assert {value.dtype for value in prepared.values()} == {torch.float32}
