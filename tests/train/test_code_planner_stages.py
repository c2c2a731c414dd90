"""`keystep train code-planner` on collected demonstrations: texts first, then pictures or objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

import fake_tabletop

from keystep.code.prompt import DEFAULT, PromptLayout
from keystep.code.tokenizer import Tokenizer
from keystep.models.checkpoint import load_model
from keystep.suites import suite_named
from keystep.suites.base import tokenizer
from keystep.train import CodePlannerTraining, train
from keystep.train.code_planner import LANGUAGE, code_source


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_tabletop.collector(tmp_path, monkeypatch)


def settings(output: Path, **changes: object) -> CodePlannerTraining:
    values: dict = dict(
        output=output,
        preset="micro",
        image_size=16,
        programs=6,
        steps_per_row=3,
        row_tokens=320,
        steps=2,
        batch_size=2,
        val_fraction=0.25,
        warmup_steps=1,
        device="cpu",
        threads=1,
    )
    return CodePlannerTraining(**{**values, **changes})


@pytest.mark.parametrize(("mode", "preset"), [("rgb", "micro"), ("state", "micro-state")])
def test_texts_then_what_is_seen(dataset: Any, tmp_path: Path, mode: str, preset: str) -> None:
    folder = dataset(mode).path
    text = settings(tmp_path / "text", dataset=folder, preset=preset, stage="text")
    assert train(text).step == 2
    second = settings(tmp_path / "seen", dataset=folder, preset=preset, weights=tmp_path / "text")
    assert train(second).step == 2
    model, checkpoint = load_model(tmp_path / "seen")
    language = json.loads((tmp_path / "seen" / LANGUAGE).read_text())
    words = Tokenizer.from_dict(language["tokenizer"])
    assert words == tokenizer(suite_named("tabletop"), 32)
    assert len(words) == checkpoint.config.vocabulary
    assert PromptLayout.from_dict(language["prompt"]) == DEFAULT
    assert checkpoint.config.proprioception.shape == (31,)
    assert model.config.image_id == words.image


def test_what_does_not_fit_is_refused(dataset: Any, tmp_path: Path) -> None:
    folder = dataset("rgb").path
    with pytest.raises(ValueError, match=r"^image_size: expected \(16, 16\), the dataset's, got 32$"):
        code_source(settings(tmp_path / "run", dataset=folder, image_size=32))
    with pytest.raises(ValueError, match=r"^layout: expected one of default, paper, got 'mine'$"):
        code_source(settings(tmp_path / "run", dataset=folder, layout="mine"))
    with pytest.raises(ValueError, match=r"^preset: expected one of micro, .*, got 'huge'$"):
        code_source(settings(tmp_path / "run", dataset=folder, preset="huge"))
