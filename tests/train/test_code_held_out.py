"""A trained planner is asked about held-out demonstrations as it was trained, and figures come out."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

import fake_tabletop
import torch

from keystep import cli
from keystep.code.grid import cell
from keystep.code.packing import pack
from keystep.code.questions import KINDS, SCENE
from keystep.code.samples import step_samples
from keystep.data import DatasetError
from keystep.models.checkpoint import CheckpointError, random_checkpoint
from keystep.models.code_planner.writing import ReplyWriter
from keystep.models.presets import PRESETS
from keystep.train import CodePlannerTraining, code_held_out, code_samples, program_texts, train
from keystep.train.code_held_out import AskedEpisode, evaluate_code_planner
from keystep.train.code_planner import CodePlannerRecipe, code_source
from keystep.train.code_sources import CodeDemonstrations


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_tabletop.collector(tmp_path, monkeypatch)


def settings(output: Path, **changes: object) -> CodePlannerTraining:
    values: dict = dict(preset="micro", image_size=16, programs=6, steps_per_row=3, row_tokens=320, steps=1)
    values |= dict(batch_size=2, val_fraction=0.5, warmup_steps=1, device="cpu", threads=1)
    return CodePlannerTraining(output=output, **{**values, **changes})


@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        ("rgb", {}),
        ("rgb", {"layout": "paper"}),
        ("state", {"preset": "micro-state", "proprioception": False}),
    ],
)
def test_a_question_is_the_one_of_training(dataset: Any, tmp_path: Path, mode: str, changes: dict) -> None:
    config = settings(tmp_path / "run", dataset=dataset(mode).path, **changes)
    source: Any = code_source(config)
    recipe = CodePlannerRecipe(config, source)
    maker = source.maker(recipe.draft.config)
    asked = AskedEpisode(recipe, source, maker, 2, torch.device("cpu"))
    episode = source.data.episodes[2]
    assert (asked.task, asked.codes) == ("Swap", episode.codes)
    for step in (0, 4):
        sample = next(step_samples(maker, episode, step))
        whole = recipe.prepare(source.data.batch(list(pack([sample], 320))), torch.device("cpu"))
        prompt = asked.prompt(step, episode.memory(step))
        assert whole["tokens"][0, : len(prompt)].tolist() == prompt
        assert len(prompt) + len(sample[-1].tokens) == whole["tokens"].shape[1]
        seen, felt = asked.shown(step)
        np.testing.assert_array_equal(seen, whole["pictures" if mode == "rgb" else "objects"])
        assert (felt is None) == (recipe.draft.config.proprioception is None)
        if felt is not None:
            np.testing.assert_array_equal(felt, whole["proprioception"])


def test_the_held_out_episodes_are_asked_about(
    dataset: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_held_out, "ReplyWriter", partial(ReplyWriter, limit=2))  # it has learned nothing
    folder, run = dataset("rgb").path, tmp_path / "run"
    train(settings(run, dataset=folder))
    figures = evaluate_code_planner(run, folder, every=100)
    everything = evaluate_code_planner(run, folder, "all", every=100)
    assert 0 < figures["all"]["replies"] < everything["all"]["replies"]
    assert set(everything) == {"all", "Pick", "Swap"}
    assert 0 <= figures["all"]["exact"] <= 1 and figures["all"]["keysteps"] > 0
    output = tmp_path / "figures.json"
    arguments = [str(run), "--dataset", str(folder), "--every", "100", "--output", str(output)]
    assert cli.run(["replies", *arguments]) == 0
    assert json.loads(output.read_text()) == figures
    table = capsys.readouterr().out
    assert "calls" in table and f"{figures['all']['exact']:.2f}" in table
    text = tmp_path / "text"
    train(settings(text, dataset=folder, stage="text"))
    with pytest.raises(DatasetError, match=r"^dataset: expected the one it was trained on, .*, got "):
        evaluate_code_planner(text, folder)
    unseeing = evaluate_code_planner(text, folder, "all", every=100)["all"]
    assert unseeing["replies"] > 0 and "sight" not in unseeing
    none = tmp_path / "none"
    train(settings(none, dataset=folder, val_fraction=0.0))
    with pytest.raises(DatasetError, match=r"^episodes: expected some that its training held out, got none$"):
        evaluate_code_planner(none, folder)


@pytest.mark.parametrize("changes", [{"stage": "text"}, {"texts": 0.5}])
def test_who_learned_from_programs_with_scenes_is_asked_as_well(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict
) -> None:
    monkeypatch.setattr(code_held_out, "ReplyWriter", partial(ReplyWriter, limit=2))
    monkeypatch.setattr(program_texts, "texts", fake_tabletop.texts)
    folder, run = dataset("rgb").path, tmp_path / "run"
    train(settings(run, dataset=folder, scenes=0.5, row_tokens=640, **changes))
    assert evaluate_code_planner(run, folder, "all", every=100)["all"]["replies"] > 0


def test_what_it_sees_is_asked_too(
    dataset: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_held_out, "ReplyWriter", partial(ReplyWriter, limit=2))
    for mode, changes in {"rgb": {}, "state": {"preset": "micro-state"}}.items():
        reader = dataset(mode)
        folder, run = reader.path, tmp_path / f"run-{mode}"
        train(settings(run, dataset=folder, **changes))
        found = evaluate_code_planner(run, folder, "all", every=100, pictures=3)
        sight, again = found["all"]["sight"], evaluate_code_planner(run, folder, "all", every=100, pictures=3)
        assert again == found and "sight" not in found["Pick"]
        assert (sight["episodes"], sight["missing"]) == (4, None)
        asked = {kind: figures["exact"]["seen_of"] for kind, figures in sight["kinds"].items()}
        keysteps = sum(int(part["keystep"].sum()) for part in reader.iter_batches(["keystep"]))
        assert asked == {**dict.fromkeys((*KINDS, SCENE), 4 * 3), "keystep": keysteps}
        likelihood = sight["kinds"]["count"]["log_likelihood"]
        assert likelihood["seen"] < 0 and likelihood["seen"] != likelihood["blind"]
        assert "sight" not in evaluate_code_planner(run, folder, "all", every=100, pictures=0)["all"]
        arguments = ["--dataset", str(folder), "--episodes", "all", "--every", "100", "--pictures", "3"]
        assert cli.run(["replies", str(run), *arguments]) == 0
        table = capsys.readouterr().out
        assert "log-likelihood" in table and "is not known: of 10 episodes or more it would be" in table
    with pytest.raises(ValueError, match=r"^pictures: expected at least 0, got -1$"):
        evaluate_code_planner(run, folder, "all", pictures=-1)
    assert cli.run(["replies", str(run), *arguments[:-1], "-1"]) != 0
    assert "pictures: expected at least 0, got -1" in capsys.readouterr().err


def test_without_boxes_names_or_lessons_key_steps_are_still_asked(
    dataset: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_held_out, "ReplyWriter", partial(ReplyWriter, limit=2))
    folder, run, unasked = dataset("rgb").path, tmp_path / "run", tmp_path / "unasked"
    train(settings(run, dataset=folder))
    train(settings(unasked, dataset=folder, questions=0.0))

    def missing(checkpoint: Path) -> str:
        sight = evaluate_code_planner(checkpoint, folder, "all", every=100)["all"]["sight"]
        assert list(sight["kinds"]) == ["keystep"]
        return sight["missing"]

    assert missing(unasked) == "questions: expected a training with some, got none"
    with monkeypatch.context() as patch:
        patch.setattr(code_samples, "BOXES", "boxes.of.none")
        assert "expected the column boxes.of.none, found only " in missing(run)
        assert cli.run(["replies", str(run), "--dataset", str(folder), "--every", "100"]) == 0
        out = capsys.readouterr().out
        assert "No auxiliary questions: " in out and "boxes.of.none" in out and "precision" in out
    with monkeypatch.context() as patch:
        patch.setattr(code_samples, "NAMES", "no names")
        assert re.search(r"names: expected .* of 1 to 8 objects of episode 0, .*, got 0$", missing(run))
    with monkeypatch.context() as patch:
        patch.setattr(code_samples.CodeData, "questions", lambda *given: list(cell([0.5, 0.0, 0.1, 2.0])))
        assert missing(run).startswith("box: expected fractions ")


def test_another_kind_is_refused(tmp_path: Path) -> None:
    random_checkpoint(tmp_path, PRESETS["tiny"])
    with pytest.raises(CheckpointError, match=r"^kind: expected code_planner, got diffusion$"):
        evaluate_code_planner(tmp_path, tmp_path)


@pytest.mark.parametrize("names", ["none", "others"])
def test_weights_that_know_no_names_or_others_are_asked_as_well(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    """Checkpoints from before objects were found, and those of other datasets."""
    folder = dataset("rgb").path
    with monkeypatch.context() as before:
        if names == "none":
            before.setattr(CodeDemonstrations, "_words", lambda _: ({}, ()))
        train(settings(tmp_path / "run", dataset=folder))
    policy = tmp_path / "run" / "policy.json"
    policy.write_text(policy.read_text().replace('"red cube"', '"red ball"'))
    found = evaluate_code_planner(tmp_path / "run", folder, episodes="all", pictures=1)
    assert found["all"]["replies"] > 0 and found["all"]["sight"]["kinds"].keys() == {*KINDS, SCENE, "keystep"}
