"""`keystep train code-planner` on collected demonstrations: texts first, then pictures or objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("accelerate", reason="training packages are not installed")
pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

import fake_tabletop
import numpy as np
import torch
from code_checkpoints import code_config, small_llava

from keystep.code.prompt import DEFAULT, PromptLayout
from keystep.code.samples import StepWeights
from keystep.code.tokenizer import Tokenizer
from keystep.data import DatasetError
from keystep.models.checkpoint import CheckpointError, load_model, make_model
from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS
from keystep.suites import suite_named
from keystep.suites.base import SeenScene, tokenizer
from keystep.train import CodePlannerTraining, program_texts, scene_pictures, train
from keystep.train.code_language import LANGUAGE, load_language
from keystep.train.code_planner import CodePlannerRecipe, _with_names_of, code_source
from keystep.train.code_samples import StepSampling, text_rows
from keystep.train.code_sources import CodeDemonstrations


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
    found = load_language(tmp_path / "seen")
    assert (found.tokenizer, found.layout, found.grid) == (words, DEFAULT, 32)


def test_texts_then_sight_then_replies(dataset: Any, tmp_path: Path) -> None:
    folder = dataset("rgb").path
    stages = ("text", "sight", "pictures")
    for before, stage in zip((None, *stages), stages, strict=False):
        weights = {"weights": tmp_path / before} if before else {}
        assert train(settings(tmp_path / stage, dataset=folder, stage=stage, **weights)).step == 2
    model, checkpoint = load_model(tmp_path / "pictures")
    words = tokenizer(suite_named("tabletop"), 32)
    assert [words.decode(ids) for ids in checkpoint.config.names.values()] == ["blue hexagon", "red cube"]
    assert model.sight.tokens.objects == 1  # of four tokens each, micro has four
    sight, text = (load_model(tmp_path / stage)[0].state_dict() for stage in ("sight", "text"))
    changed = {name.partition(".")[0] for name in text if not torch.equal(text[name], sight[name])}
    assert changed == {"sight"}


def test_texts_beside_pictures_are_kept_and_gone_on_with(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = dataset("rgb").path, tmp_path / "both"
    assert train(settings(run, dataset=folder, texts=0.5)).step == 2
    kept = (run / "programs.json").read_bytes()
    monkeypatch.setattr(program_texts, "texts", None)  # nothing is made again
    assert train(settings(run, dataset=folder, texts=0.5, steps=3)).step == 3
    assert (run / "programs.json").read_bytes() == kept
    with pytest.raises(ValueError, match=r"^texts: expected 0, as stage sight has none beside, got 0.5$"):
        settings(run, dataset=folder, stage="sight", texts=0.5)
    with pytest.raises(ValueError, match=r"^texts: expected at least 0, got -1$"):
        settings(run, dataset=folder, texts=-1)


def test_scenes_beside_demonstrations_are_kept_and_gone_on_with(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = dataset("rgb").path, tmp_path / "sight"

    def scenes(suite: Any, size: int) -> Any:
        while True:
            yield SeenScene(
                np.zeros((size, size, 3), np.uint8), ("red cube",), np.full((1, 4), 0.5, np.float32)
            )

    monkeypatch.setattr(scene_pictures, "seen_scenes", scenes)
    assert train(settings(run, dataset=folder, stage="sight", scene_pictures=3)).step == 2
    kept = (run / "scenes.npz").read_bytes()
    monkeypatch.delattr(scene_pictures, "seen_scenes")  # nothing is drawn again
    assert train(settings(run, dataset=folder, stage="sight", scene_pictures=3, steps=3)).step == 3
    assert (run / "scenes.npz").read_bytes() == kept
    for stage, count, wanted in (("text", 1, "0 in stage text"), ("sight", -1, "at least 0")):
        with pytest.raises(ValueError, match=rf"^scene_pictures: expected {wanted}, got {count}$"):
            settings(run, dataset=folder, stage=stage, scene_pictures=count)


def test_programs_with_scenes_train_and_go_on(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset("rgb").path
    with pytest.raises(
        DatasetError, match=r"^scenes: expected 0, as every program has an object that is none"
    ):
        train(settings(tmp_path / "none", dataset=folder, stage="text", scenes=1.0, row_tokens=640))
    monkeypatch.setattr(program_texts, "texts", fake_tabletop.texts)
    about = dict(dataset=folder, stage="text", scenes=1.0, questions=0.5, row_tokens=640)
    assert train(settings(tmp_path / "once", steps=3, **about)).step == 3
    train(settings(tmp_path / "twice", steps=1, **about))
    assert train(settings(tmp_path / "twice", steps=3, **about)).step == 3
    once, twice = (load_model(tmp_path / name)[0].state_dict() for name in ("once", "twice"))
    assert all(torch.equal(value, twice[name]) for name, value in once.items())
    config = settings(tmp_path / "rows", **about)
    source, network = code_source(config), load_model(tmp_path / "once")[1].config
    row = source.rows([0, 1], network).batch(np.array([0]), np.random.default_rng(0))["tokens"][0]
    words = source.tokenizer.decode([int(token) for token in row if token > 5])  # type: ignore[attr-defined]
    assert "What is visible" in words or "Where is" in words, "a scene is told"
    for scenes in (-0.1, 1.1):
        with pytest.raises(ValueError, match=rf"^scenes: expected 0 to 1, got {scenes}$"):
            settings(tmp_path, dataset=folder, stage="text", scenes=scenes)
    with pytest.raises(ValueError, match=r"^scenes: expected 0, as there are no programs, got 0.5$"):
        settings(tmp_path, dataset=folder, stage="pictures", scenes=0.5)


def test_pictures_without_sight_are_said_to_be_guesses(dataset: Any, tmp_path: Path) -> None:
    folder = dataset("rgb").path
    for stage in ("text", "sight"):
        train(settings(tmp_path / stage, dataset=folder, stage=stage))
    for weights, blind in ((None, True), ("text", True), ("sight", False)):
        chosen = settings(
            tmp_path / "run", dataset=folder, weights=None if weights is None else tmp_path / weights
        )
        notes = CodePlannerRecipe(chosen, code_source(chosen)).notes
        assert any("stays a guess" in note for note in notes) == blind


def test_replies_about_objects_that_the_weights_do_not_know_are_refused(dataset: Any, tmp_path: Path) -> None:
    folder = dataset("rgb").path
    train(settings(tmp_path / "sight", dataset=folder, stage="sight", steps=1))
    checkpoint = tmp_path / "sight" / "policy.json"
    assert checkpoint.read_text().count('"red cube"') == 1
    checkpoint.write_text(checkpoint.read_text().replace('"red cube"', '"red ball"'))
    second = settings(tmp_path / "seen", dataset=folder, weights=tmp_path / "sight")
    with pytest.raises(
        DatasetError, match=r"^weights\.names: expected objects that are some of .*, got red cube$"
    ):
        train(second)


def without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources as they were before objects were found."""
    monkeypatch.setattr(CodeDemonstrations, "_words", lambda _: ({}, ()))


def test_weights_that_know_no_names_are_said_to(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset("rgb").path
    with monkeypatch.context() as before:
        without_names(before)
        train(settings(tmp_path / "old", dataset=folder, steps=1))
    with pytest.raises(
        DatasetError, match=r"^weights\.names: expected some, as the dataset says .*, got none$"
    ):
        train(settings(tmp_path / "new", dataset=folder, weights=tmp_path / "old"))
    problem = r"^[^\n]*: sight\.\S+: expected .* to resume, got none; another version began this run; [^\n]*$"
    with pytest.raises(DatasetError, match=problem):
        train(settings(tmp_path / "old", dataset=folder))


def test_many_names_are_said_in_one_line() -> None:
    known, told = ({f"{word} cube": (5, 6) for word in words} for words in ("abcdefghijk", "lmnopqrstuvw"))
    networks = (code_config(names=names, numbers=(8, 9), image_tokens=4) for names in (known, told))
    with pytest.raises(DatasetError, match=r"h cube, 3 more \(the weights'\), got l cube, .*, 4 more$"):
        _with_names_of(*networks)


def test_weights_of_another_sight_are_said_to_see_something_else(dataset: Any, tmp_path: Path) -> None:
    settings_of = {
        "rgb": dict(dataset=dataset("rgb").path),
        "state": dict(dataset=dataset("state").path, preset="micro-state"),
    }
    for mode, changes in settings_of.items():
        train(settings(tmp_path / mode, stage="text", steps=1, **changes))
    for mode, other in ("rgb", "state"), ("state", "rgb"):
        with pytest.raises(DatasetError, match=r"^statistics\.observation\."):
            train(settings(tmp_path / "new", weights=tmp_path / mode, **settings_of[other]))


def test_sight_is_not_for_networks_that_find_nothing(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODE_PLANNER_PRESETS, "paper", code_config(**small_llava(False)))
    config = settings(tmp_path / "run", dataset=dataset("rgb").path, preset="paper", stage="sight")
    with pytest.raises(
        ValueError, match=r"^stage: expected text or pictures, as the preset paper .*, got sight$"
    ):
        CodePlannerRecipe(config, code_source(config))


def test_small_pictures_have_fewer_objects(dataset: Any, tmp_path: Path) -> None:
    config = settings(tmp_path / "run", dataset=dataset("rgb").path, preset="tiny", stage="sight")
    recipe = CodePlannerRecipe(config, code_source(config))
    assert recipe.notes[1:] == ["of a picture 4 objects are told, in 4 tokens each; 2 names"]
    network: Any = recipe.draft.config
    assert (network.image_tokens, network.tokens_of_an_object) == (16, 4)  # 2 x 2 cells


def test_texts_go_on_with_the_programs_they_began_with(
    dataset: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, run = dataset("rgb").path, tmp_path / "text"
    train(settings(run, dataset=folder, stage="text", steps=1))
    monkeypatch.delattr(program_texts, "texts")  # none are made
    assert train(settings(run, dataset=folder, stage="text", steps=2)).step == 2


def test_a_checkpoint_says_the_language_it_was_trained_with(dataset: Any, tmp_path: Path) -> None:
    folder, run = dataset("rgb").path, tmp_path / "run"
    train(settings(run, dataset=folder, stage="text", proprioception=False, steps=1))
    assert load_language(run).layout == DEFAULT.without("proprioception")
    other = settings(tmp_path / "second", dataset=folder, weights=run, layout="paper")
    with pytest.raises(
        DatasetError, match=r"^weights\.language\.prompt\.name: expected 'paper', got 'default'$"
    ):
        train(other)
    document = json.loads((run / LANGUAGE).read_text())
    damaged: list[tuple[Any, str]] = [
        ([], "expected an object"),
        ({}, "tokenizer: expected an object, got None"),
        ({**document, "grid": "5"}, "grid: expected 1 to 100 cells, got '5'"),
    ]
    fewer = {**document["tokenizer"], "words": document["tokenizer"]["words"][1:]}
    damaged.append(({**document, "tokenizer": fewer}, r"tokenizer: expected vocabulary \d+, the network's"))
    for value, problem in damaged:
        (run / LANGUAGE).write_text(json.dumps(value))
        with pytest.raises(CheckpointError, match=rf"language\.json: {problem}"):
            load_language(run)


@pytest.mark.parametrize(("mode", "preset"), [("rgb", "micro"), ("state", "micro-state")])
def test_without_proprioception(dataset: Any, tmp_path: Path, mode: str, preset: str) -> None:
    folder, run = dataset(mode).path, tmp_path / "run"
    train(settings(run, dataset=folder, preset=preset, proprioception=False, steps=1))
    assert load_language(run).layout == DEFAULT.without("proprioception")


@pytest.mark.parametrize(("mode", "preset"), [("rgb", "micro"), ("state", "micro-state")])
def test_a_batch_of_nothing_but_text_is_one(dataset: Any, tmp_path: Path, mode: str, preset: str) -> None:
    """Mixed batches may happen to have no picture; what stands for one is empty then."""
    config = settings(tmp_path / "run", dataset=dataset(mode).path, preset=preset)
    source: Any = code_source(config)
    recipe = CodePlannerRecipe(config, source)
    network: Any = recipe.draft.config
    rows = text_rows(suite_named("tabletop"), ("Pick",), source.maker(network), source.grid, 300)
    found = recipe.prepare(source.data.batch([next(rows)]), torch.device("cpu"))
    assert len(found["pictures" if mode == "rgb" else "objects"]) == len(found["proprioception"]) == 0
    assert make_model(network).loss(found).isfinite()


def test_pictures_are_cached_where_it_is_said_and_not_for_texts(dataset: Any, tmp_path: Path) -> None:
    folder, cache = dataset("rgb").path, tmp_path / "elsewhere"
    train(settings(tmp_path / "text", dataset=folder, stage="text", cache=cache, steps=1))
    assert not cache.exists() and not (tmp_path / "cache").exists()
    train(settings(tmp_path / "seen", dataset=folder, cache=cache, steps=1))
    assert len(list(cache.rglob("*.npy"))) == 3 and not (tmp_path / "cache").exists()


def test_settings_of_steps_reach_the_samples(dataset: Any, tmp_path: Path) -> None:
    weights = {"keystep_weight": 5.0, "border_weight": 2.0, "border_steps": 1}
    others = {"requests": False, "questions": 0.5, "questions_per_step": 3}
    config = settings(tmp_path / "run", dataset=dataset("rgb").path, **weights, **others)
    source: Any = code_source(config)
    assert source.data.sampling == StepSampling(3, StepWeights(5.0, 2.0, 1), False, 0.5, 3, 320)


def test_what_does_not_fit_is_refused(dataset: Any, tmp_path: Path) -> None:
    folder = dataset("rgb").path
    with pytest.raises(ValueError, match=r"^image_size: expected \(16, 16\), the dataset's, got 32$"):
        code_source(settings(tmp_path / "run", dataset=folder, image_size=32))
    with pytest.raises(ValueError, match=r"^layout: expected one of default, paper, got 'mine'$"):
        code_source(settings(tmp_path / "run", dataset=folder, layout="mine"))
    with pytest.raises(ValueError, match=r"^preset: expected one of micro, .*, got 'huge'$"):
        code_source(settings(tmp_path / "run", dataset=folder, preset="huge"))
