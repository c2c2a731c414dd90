"""Training on datasets of other programs: it begins, or a DatasetError says what the dataset lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_dataset import CAMERA, edit_json, write_foreign

from keystep.data import DatasetError, DatasetReader
from keystep.data.windows import PADDING
from keystep.train.config import ControllerTraining, PlannerTraining
from keystep.train.kinds import recipe_of


def rename_feature(root: Path, old: str, new: str | None) -> None:
    def change(info: dict[str, Any]) -> None:
        entry = info["features"].pop(old)
        if new is not None:
            info["features"][new] = entry

    edit_json(root / "meta/info.json", change)


@pytest.mark.parametrize("style", ["list", "large_list"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("names", [None, {"motors": ["a", "b", "c"]}])
def test_batches_are_what_networks_take(tmp_path: Path, style: str, dtype: str, names: Any) -> None:
    import torch

    written = write_foreign(tmp_path / "d", style, dtype=dtype, names=names, camera=[3, 6, 8])
    told = {"action_law": "absolute", "action_bounds": "data", "cache": tmp_path / "c"}
    config = ControllerTraining(tmp_path / "d", tmp_path / "o", preset="tiny", condition="none", **told)
    recipe = recipe_of(config, DatasetReader(config.dataset))
    windows = recipe.windows([0, 1, 2])
    arrays = windows.batch(np.arange(5), np.random.default_rng(0))
    np.testing.assert_array_equal(
        arrays["observation.state"], written["observation.state"][:5].astype(np.float32)
    )
    batch = recipe.prepare(arrays, torch.device("cpu"))
    batch.pop(PADDING, None)
    assert {value.dtype for value in batch.values()} == {torch.float32}
    assert batch[CAMERA].shape == (5, 3, 6, 8)
    stats = recipe.draft.stats
    vectors = {key for key in written if key.startswith("observation.") and written[key].ndim == 2}
    assert set(stats) == {
        "action",
        CAMERA,
        *vectors,
    }  # what may be depth is measured if it is seen


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda d: rename_feature(d, "action", None),
            "features.action: expected numbers of one dimension, found none",
        ),
        (
            lambda d: rename_feature(d, CAMERA, "observation.image"),
            "observation.image: expected a camera's name",
        ),
        (
            lambda d: rename_feature(d, "observation.pose", "action"),
            r"action: .* found float32 of shape \[4, 4\]",
        ),
        (
            lambda d: rename_feature(d, "observation.pose", "observation.state"),
            "observation.state: .* of one dimension",
        ),
        (lambda d: rename_feature(d, "note", "observation.state"), "observation.state: .* found string"),
    ],
)
@pytest.mark.parametrize("config", [ControllerTraining, PlannerTraining])
def test_what_a_dataset_lacks_is_named(
    tmp_path: Path, damage: Callable[[Path], None], message: str, config: Any
) -> None:
    write_foreign(tmp_path / "d", camera=[6, 8, 3])
    damage(tmp_path / "d")
    options = {"subgoal": "observation.image"} if "camera" in message and config is PlannerTraining else {}
    settings = config(tmp_path / "d", tmp_path / "o", preset="tiny", cache=tmp_path / "c", **options)
    expected = "found image" if options else message
    with pytest.raises(DatasetError, match=expected):
        recipe_of(settings, DatasetReader(settings.dataset))
