"""A checkpoint answers during an episode as it is asked in training, and remembers its key-steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

import fake_tabletop
import torch
from said import Said

from keystep.code.grammar import CodeError
from keystep.code.packing import pack
from keystep.code.samples import step_samples
from keystep.models.checkpoint import CheckpointError, random_checkpoint
from keystep.models.presets import PRESETS
from keystep.train import CodePlannerTraining, train
from keystep.train.code_acting import CheckpointPlanner
from keystep.train.code_planner import CodePlannerRecipe, code_source


@pytest.mark.parametrize(("mode", "preset"), [("rgb", "micro"), ("state", "micro-state")])
def test_it_is_asked_as_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, preset: str
) -> None:
    folder, run = fake_tabletop.collector(tmp_path, monkeypatch)(mode).path, tmp_path / "run"
    config = CodePlannerTraining(
        folder, run, preset, 1, 2, val_fraction=0.25, image_size=16, row_tokens=320, device="cpu", threads=1
    )
    train(config)
    source: Any = code_source(config)
    recipe, planner = CodePlannerRecipe(config, source), CheckpointPlanner(run)
    assert planner.grid == 32 and planner.image_size == (16 if mode == "rgb" else None)
    episode, step = source.data.episodes[2], 3
    sample = list(step_samples(source.maker(recipe.draft.config), episode, step))[1]  # asked for
    source.data.open()
    whole = recipe.prepare(source.data.batch(list(pack([sample], 320))), torch.device("cpu"))
    asked: list[Any] = []

    def answer(*given: Any, **how: Any) -> Said:
        asked.append(given)
        drafts.append(how["last"])
        return said

    said, drafts = Said("pick(get_actor('red cube'))"), list[str]()
    monkeypatch.setattr(planner._writer, "write", answer)
    columns = source.data._columns
    seen = {key: np.array(columns[key][source.data._starts[2] + step]) for key in columns}
    planner.begin(episode.task)
    planner._memory = list(episode.memory(step))
    assert planner.write(seen) is said
    prompt, shown, felt = asked[0]
    assert whole["tokens"][0, : len(prompt)].tolist() == prompt
    assert len(prompt) + len(sample[-1].tokens) == whole["tokens"].shape[1]
    wanted = whole["pictures" if mode == "rgb" else "objects"]
    torch.testing.assert_close(shown.reshape(wanted.shape), wanted)
    torch.testing.assert_close(felt, whole["proprioception"])
    assert planner._memory == [*episode.memory(step), said.text]
    kept, said = said.text, Said("# pick(get_actor('red cube'))")
    planner.write(seen, request=False)
    assert drafts == ["", f"# {kept}"], "what goes on is tried in one pass"
    said = Said("place(", ended=False)
    planner.write(seen)
    assert len(planner._memory) == len(episode.memory(step)) + 1, "neither is a key-step"
    planner.begin(episode.task)
    assert planner._memory == []


def test_a_memory_beyond_the_context_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, run = fake_tabletop.collector(tmp_path, monkeypatch)("rgb").path, tmp_path / "run"
    train(
        CodePlannerTraining(
            folder, run, "micro", 1, 2, val_fraction=0, image_size=16, row_tokens=320, device="cpu", threads=1
        )
    )
    planner = CheckpointPlanner(run)
    planner.begin("Pick up the red cube.")
    planner._memory = ["pick(get_actor('red cube'))"] * 300
    seen = {
        "observation.state": np.zeros(31, np.float32),
        "observation.images.base": np.zeros((16, 16, 3), np.uint8),
    }
    with pytest.raises(CodeError, match=r"prompt: expected 1\.\.[0-9]+ tokens"):
        planner.write(seen)


def test_another_kind_of_checkpoint_is_refused(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, PRESETS["tiny"])
    with pytest.raises(CheckpointError, match="kind: expected code_planner, got diffusion"):
        CheckpointPlanner(tmp_path)
