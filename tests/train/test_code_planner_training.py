"""Planners that write code: trained by the one trainer in two stages, resumed bit for bit, checkpoints."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")

import torch
from code_writers import CHARACTERS
from safetensors.torch import load_file, save_file
from toy_code_source import ToyCode

from keystep.code.questions import KINDS
from keystep.data import DatasetError
from keystep.models.checkpoint import CheckpointError, load_model, random_checkpoint, read_checkpoint
from keystep.models.checks import ConfigError
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.code_planner.network import CodePlanner
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS
from keystep.models.presets import PRESETS
from keystep.train import CodePlannerTraining, train
from keystep.train.code_language import LANGUAGE
from keystep.train.trainer import Trainer


def settings(output: Path, **changes: object) -> CodePlannerTraining:
    values: dict = dict(
        dataset=Path("toy"),
        output=output,
        preset="micro",
        image_size=32,
        steps=6,
        batch_size=3,
        learning_rate=5e-3,
        warmup_steps=1,
        val_fraction=0.25,
        log_every=2,
        checkpoint_every=4,
        device="cpu",
        threads=1,
    )
    return CodePlannerTraining(**{**values, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "whole"
    result = train(settings(output), ToyCode())
    assert (result.step, result.interrupted) == (6, False)
    assert result.val_loss is not None
    return output


def test_a_checkpoint_has_all_that_it_is_and_no_pickle(trained: Path) -> None:
    model, checkpoint = load_model(trained)
    assert isinstance(model, CodePlanner) and checkpoint.kind == "code_planner"
    assert checkpoint.config == model.config
    assert checkpoint.stats["observation.state"]["mean"] == [1.0] * 5
    assert json.loads((trained / LANGUAGE).read_text()) == ToyCode().told_to(model.config)
    assert [path.name for path in trained.rglob("*") if path.suffix in (".pt", ".pth", ".pkl", ".bin")] == []
    assert (trained / "curves.csv").read_text().count("\n") == 4
    assert (trained / "curves.png").stat().st_size > 1000


def test_a_resumed_run_ends_with_the_same_weights(trained: Path, tmp_path: Path) -> None:
    train(settings(tmp_path / "parts", steps=6), _Stops(ToyCode(), after=3))
    assert train(settings(tmp_path / "parts"), ToyCode()).step == 6
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (tmp_path / "parts", trained))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(DatasetError, match=r"dataset_sha256: expected 8-True to resume, got 9-True"):
        train(settings(tmp_path / "parts"), ToyCode(9))


def test_pictures_after_text(tmp_path: Path) -> None:
    """The first stage sees nothing, and leaves what sees as it was; the second begins with its weights."""
    text = tmp_path / "text"
    train(settings(text, stage="text", steps=3), ToyCode(sighted=False))
    second = Trainer(settings(tmp_path / "pictures", weights=text, steps=3), ToyCode())
    weights = load_file(text / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in second.model.state_dict().items())
    assert second.run().step == 3


def test_weights_are_of_the_same_language(trained: Path, tmp_path: Path) -> None:
    """Of one of as many words that mean something else, nothing else would tell."""

    class Other(ToyCode):
        def told_to(self, network: CodePlannerConfig) -> dict[str, object]:
            return {**super().told_to(network), "characters": CHARACTERS[::-1]}

    config = settings(tmp_path / "run", weights=trained)
    with pytest.raises(DatasetError, match=r"^weights\.language\.characters: expected '\\n\)\(.*, got 'abc"):
        Trainer(config, Other())
    (copy := tmp_path / "copy").mkdir()
    for name in ("policy.json", "model.safetensors"):
        shutil.copy(trained / name, copy)
    with pytest.raises(CheckpointError, match=r"^checkpoint: expected .*language\.json, got no such file"):
        Trainer(settings(tmp_path / "run", weights=copy), ToyCode())
    random_checkpoint(other := tmp_path / "other", PRESETS["tiny"])
    with pytest.raises(DatasetError, match=r"^weights\.kind: expected code_planner, got diffusion$"):
        Trainer(settings(tmp_path / "run", weights=other), ToyCode())


def test_statistics_are_those_of_the_weights(trained: Path, tmp_path: Path) -> None:
    """The weights were trained with these; a second dataset's would show them other numbers."""
    source = ToyCode()
    source.stats["observation.state"] = {**source.stats["observation.state"], "mean": [7.0] * 5}
    draft = Trainer(settings(tmp_path / "run", weights=trained), source).recipe.draft
    assert draft.stats["observation.state"]["mean"] == [1.0] * 5


@pytest.mark.parametrize("preset", ["micro", "micro-state"])
def test_it_learns_what_it_sees(preset: str, tmp_path: Path) -> None:
    config = settings(tmp_path / "run", preset=preset, steps=40, batch_size=8, val_fraction=0.0, log_every=5)
    trainer = Trainer(config, ToyCode())
    trainer.run()
    assert trainer.rows[-1].train_loss < 0.3 * trainer.rows[0].train_loss


def test_proprioception_is_a_setting(tmp_path: Path) -> None:
    train(settings(tmp_path / "run", proprioception=False, steps=1), ToyCode())
    config = read_checkpoint(tmp_path / "run").config
    assert config.proprioception is None and config.picture is not None
    assert config.picture.shape == (32, 32, 3)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, CODE_PLANNER_PRESETS["micro-state"])
    model, _ = load_model(tmp_path)
    assert isinstance(model, CodePlanner)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        weights | {"head.weight": weights["head.weight"] * float("inf")}, tmp_path / "model.safetensors"
    )
    with pytest.raises(CheckpointError, match=r"head.weight: expected finite weights, got NaN or Inf"):
        load_model(tmp_path)
    document = json.loads((tmp_path / "policy.json").read_text())
    document["policy"]["heads"] = 3
    (tmp_path / "policy.json").write_text(json.dumps(document))
    with pytest.raises(
        CheckpointError, match=r"code_planner.heads: expected a multiple of 2 \(key_heads\), got 3"
    ):
        read_checkpoint(tmp_path)


def test_settings_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^questions: expected 0 to 1, got 2$"):
        settings(tmp_path, questions=2)
    for name, value in {"keystep_weight": 0, "border_weight": math.inf, "border_steps": -1}.items():
        with pytest.raises(ValueError, match=rf"^{name}: expected .*, got {value}$"):
            settings(tmp_path, **{name: value})
    assert len(KINDS) == 5
    for number in (0, len(KINDS) + 1):
        with pytest.raises(ValueError, match=rf"^questions_per_step: expected 1 to 5, got {number}$"):
            settings(tmp_path, questions_per_step=number)
    unused: dict[str, object] = {"normalization": ("min_max",), "statistics": tmp_path, "symmetries": True}
    for name, given in unused.items():
        with pytest.raises(ValueError, match=rf"^{name}: expected none, as .*, got "):
            settings(tmp_path, **{name: given})
    with pytest.raises(ValueError, match=r"^row_tokens: expected at least 1, got 0$"):
        settings(tmp_path, row_tokens=0)
    with pytest.raises(ValueError, match=r"^preset: expected one of micro, .*, got 'huge'$"):
        Trainer(settings(tmp_path, preset="huge"), ToyCode())
    with pytest.raises(
        ConfigError, match=r"code_planner.observation: observation.images.base.shape: expected"
    ):
        Trainer(settings(tmp_path, image_size=40), ToyCode())
    source = ToyCode()
    source.ids["image_id"] = 1
    with pytest.raises(
        ConfigError, match=r"code_planner.end_id: expected an id below 35, of no other special"
    ):
        Trainer(settings(tmp_path), source)


class _Stops:
    """A source whose run is interrupted when its batch of a step has been made."""

    def __init__(self, source: ToyCode, after: int) -> None:
        self._source, self._left = source, after

    def __getattr__(self, name: str) -> object:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def rows(self, episodes: list[int], config: object) -> object:
        return _Counted(self._source.rows(episodes, config), self)  # type: ignore[arg-type]

    def count(self) -> None:
        import signal

        self._left -= 1
        if self._left == 0:
            signal.raise_signal(signal.SIGINT)


class _Counted:
    def __init__(self, rows: object, stops: _Stops) -> None:
        self._rows, self._stops = rows, stops

    def __getattr__(self, name: str) -> object:
        return getattr(self._rows, name)

    def __len__(self) -> int:
        return len(self._rows)  # type: ignore[arg-type]

    def batch(self, windows: object, rng: object) -> object:
        self._stops.count()
        return self._rows.batch(windows, rng)  # type: ignore[attr-defined]
