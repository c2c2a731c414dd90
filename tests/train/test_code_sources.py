"""Programs and demonstrations as sources of training: rows by index, what the network is told, digests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

import fake_tabletop
from code_checkpoints import code_config

from keystep.code.packing import Target
from keystep.code.prompt import DEFAULT, PAPER, PromptLayout
from keystep.code.tokenizer import Tokenizer
from keystep.data import DatasetError
from keystep.features import Feature
from keystep.suites import suite_named
from keystep.train.code_samples import StepSampling
from keystep.train.code_sources import CodeDemonstrations, Programs
from keystep.train.scene_pictures import ScenePictures

SUITE = suite_named("tabletop")


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_tabletop.collector(tmp_path, monkeypatch)


@dataclass
class Network:
    """As much of a planner's configuration as sources look at."""

    image_tokens: int
    proprioception: Feature | None
    objects: Feature | None = None
    context: int = 1024
    names: dict[str, tuple[int, ...]] = field(default_factory=dict)


def test_a_row_for_each_episode_of_what_the_network_sees(dataset: Any) -> None:
    source = CodeDemonstrations(dataset("rgb"), SUITE, StepSampling(max_tokens=400))
    assert len(source) == 4 and [task["name"] for task in source.tasks] == ["Pick", "Swap"]
    rows = source.rows([0, 2, 3], Network(6, source.proprioception))
    assert len(rows) == 3 and rows.tasks().tolist() == [0, 1, 1]
    found = rows.batch(np.array([2, 0]), np.random.default_rng(0))
    again = rows.batch(np.array([2, 0]), np.random.default_rng(0))
    assert all(np.array_equal(found[name], again[name]) for name in found)
    pictures = (found["tokens"] == source.ids["image_id"]).sum() // 6
    assert found["pictures"].shape == (pictures, 3, 16, 16) and pictures > 4
    assert found["proprioception"].shape == (pictures, 31) and found["tokens"].shape[1] <= 400
    blind = source.rows([0], Network(6, None)).batch(np.array([0]), np.random.default_rng(0))
    assert not (blind["tokens"] == source.ids["proprioception_id"]).any()


def test_where_objects_are_is_told_in_the_networks_names(dataset: Any) -> None:
    reader = dataset("rgb")
    source = CodeDemonstrations(reader, SUITE, StepSampling(max_tokens=400))
    words = source.tokenizer
    assert source.names == {name: tuple(words.encode(name)) for name in ("blue hexagon", "red cube")}
    assert [words.decode([number]) for number in source.numbers] == [str(number) for number in range(33)]
    names = {"a plate": (1,), **source.names}  # of weights that know more
    steps = [(number, step) for number in (0, 3) for step in range(9)]
    found = source.data._boxes(steps, names)
    columns = [reader.read_episode(episode, ["objects.boxes"]) for episode in reader.episodes()]
    for (number, step), boxes, named in zip(steps, found["boxes"], found["named"], strict=True):
        stored = columns[number]["objects.boxes"][step].reshape(-1, 4)
        np.testing.assert_array_equal(boxes, stored)
        inside = ~(stored[:3] == -1).all(axis=1)
        assert named.tolist() == [*np.where(inside, [2, 1, 2], -1), *[-1] * 5]
    replies = source.rows([0], Network(8, source.proprioception, names=names))
    assert "boxes" not in replies.batch(np.array([0]), np.random.default_rng(0))


def test_sight_is_of_pictures_alone(dataset: Any) -> None:
    source = CodeDemonstrations(dataset("rgb"), SUITE, StepSampling(steps_per_episode=3), sight=True)
    rows = source.rows([0, 2, 3], Network(8, None, names=source.names))
    assert len(rows) == 3 and rows.tasks().tolist() == [0, 1, 1]
    found = rows.batch(np.array([2, 0]), np.random.default_rng(0))
    assert set(found) == {"pictures", "boxes", "named"} and found["pictures"].shape == (6, 3, 16, 16)
    assert found["named"].shape == (6, 8) and found["named"].max() == 1
    again = rows.batch(np.array([2, 0]), np.random.default_rng(0))
    other = rows.batch(np.array([2, 0]), np.random.default_rng(1))
    assert np.array_equal(found["pictures"], again["pictures"])
    assert not np.array_equal(found["pictures"], other["pictures"])


def test_half_the_pictures_of_sight_are_in_a_mirror_with_their_boxes(dataset: Any) -> None:
    source = CodeDemonstrations(dataset("rgb"), SUITE, StepSampling(steps_per_episode=9), sight=True)
    rows, rng = source.rows([0], Network(8, None, names=source.names)), np.random.default_rng(0)
    columns = source.data._columns
    columns["observation.images.base"] = rng.integers(
        0, 256, columns["observation.images.base"].shape, np.uint8
    )
    found = rows.batch(np.array([0]), rng)
    plain = source.data.shown(("image", 0, step) for step in range(len(source.data.episodes[0].codes)))[
        "pictures"
    ]
    mirrored = []
    for picture, boxes in zip(found["pictures"], found["boxes"], strict=True):
        same = [np.array_equal(one, picture) for one in plain]
        turned = [np.array_equal(one[..., ::-1], picture) for one in plain]
        assert sum(same) + sum(turned) == 1
        wanted = columns["objects.boxes"][same.index(True) if any(same) else turned.index(True)].reshape(
            -1, 4
        )
        inside = ~(wanted == -1).all(axis=1)
        if any(turned):
            wanted = np.where(
                inside[:, None], [1, 0, 1, 0] + wanted[:, [2, 1, 0, 3]] * [-1, 1, -1, 1], wanted
            )
        np.testing.assert_allclose(boxes, wanted, atol=1e-6)
        mirrored.append(any(turned) and bool(inside.any()))
    assert 1 < sum(mirrored) < 8


def test_what_is_called_left_is_never_in_a_mirror(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_tabletop, "OBJECTS", ["left plate", "leftover cube"])
    source = CodeDemonstrations(dataset("rgb"), SUITE, StepSampling(steps_per_episode=9), sight=True)
    rows, columns = source.rows([0], Network(8, None, names=source.names)), source.data._columns
    rng = np.random.default_rng(0)
    key = "observation.images.base"
    columns[key] = rng.integers(0, 256, columns[key].shape, np.uint8)
    steps = range(len(source.data.episodes[0].codes))
    plain = source.data.shown(("image", 0, step) for step in steps)["pictures"]
    for view, mirrored in ([0, 1], False), ([1], True):  # where the plate is in view, and where it is not
        boxes = np.full((len(columns["objects.boxes"]), 8, 4), -1, np.float32)
        boxes[:, view] = (0.1, 0.2, 0.3, 0.4)
        columns["objects.boxes"] = boxes.reshape(len(boxes), -1)
        found = rows.batch(np.array([0]), rng)
        same = [any(np.array_equal(one, picture) for one in plain) for picture in found["pictures"]]
        assert (not all(same)) == mirrored
        lefts = found["boxes"][:, 1, 0]
        np.testing.assert_allclose(lefts, np.where(same, 0.1, 0.7), atol=1e-6)


@pytest.mark.parametrize("box", [(0.5, 0.1, 0.4, 0.2), (0.0, 0.0, 12.0, 9.0), (np.nan, 0.0, 0.5, 0.5)])
def test_boxes_that_are_in_no_picture_are_refused(dataset: Any, box: tuple) -> None:
    source = CodeDemonstrations(dataset("rgb"), SUITE, sight=True)
    rows = source.rows([0], Network(8, None, names=source.names))
    source.data._columns["objects.boxes"] = np.tile(np.float32(box), (60, 8))
    with pytest.raises(ValueError, match=r"^box: expected fractions 0 <= left <= right <= 1"):
        rows.batch(np.array([0]), np.random.default_rng(0))


@pytest.mark.parametrize("names", ["red cube", [5], [""], ["red cube", " "]])
def test_what_are_no_names_is_refused(dataset: Any, monkeypatch: pytest.MonkeyPatch, names: Any) -> None:
    monkeypatch.setattr(fake_tabletop, "OBJECTS", names)
    problem = r"names: expected texts that are not empty, of the objects of episode 0, got "
    with pytest.raises(DatasetError, match=problem):
        CodeDemonstrations(dataset("rgb"), SUITE)


def test_sight_needs_pictures_with_places(dataset: Any) -> None:
    problem = r"^stage: expected text or pictures, as .* has no pictures with objects\.boxes .*, got sight$"
    with pytest.raises(DatasetError, match=problem):
        CodeDemonstrations(dataset("state"), SUITE, seen="state", sight=True)


def test_states_are_eight_tokens_and_their_statistics_those_of_any_slot(dataset: Any) -> None:
    source = CodeDemonstrations(dataset("state"), SUITE, seen="state")
    found = source.rows([1], Network(8, source.proprioception)).batch(np.array([0]), np.random.default_rng(0))
    assert found["objects"].shape[1:] == (8, 20)
    assert (found["tokens"] == source.ids["image_id"]).sum() == 8 * len(found["objects"])
    stats = {name: np.reshape(source.stats["observation.objects"][name], (8, 20)) for name in ("mean", "std")}
    frames = np.concatenate([part["observation.objects"] for part in source._dataset.iter_batches()])
    slots = frames.reshape(-1, 20).astype(np.float64)
    np.testing.assert_allclose(stats["mean"][3, 1:], slots.mean(axis=0)[1:], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(stats["std"][5, 1:], slots.std(axis=0)[1:], rtol=1e-3, atol=1e-5)
    assert (stats["mean"][:, 0] == 0).all() and (stats["std"][:, 0] == 1).all()
    with pytest.raises(DatasetError, match="image_tokens: expected 8 for states, got 6"):
        source.rows([1], Network(6, None))


def test_programs_are_rows_of_text_told_like_the_demonstrations(dataset: Any) -> None:
    like = CodeDemonstrations(dataset("rgb"), SUITE)
    source = Programs(SUITE, 33, like, max_tokens=250)
    assert len(source) == 33 and len(source.tasks) == 31
    assert source.language == like.language and source.ids == like.ids
    rows = source.rows(list(range(33)), Network(6, like.proprioception))
    assert rows.tasks().tolist() == [*range(31), 0, 1]
    found = rows.batch(np.array([0, 20, 32]), np.random.default_rng(0))
    assert 50 < found["tokens"].shape[1] <= 250 and set(found) >= {"mask", "targets", "weights", "positions"}
    assert "pictures" not in found and not (found["tokens"] == source.ids["image_id"]).any()
    assert source.sha256() == Programs(SUITE, 33, like).sha256() != Programs(SUITE, 32, like).sha256()
    with pytest.raises(ValueError, match="programs: expected at least 1, got 0"):
        Programs(SUITE, 0, like)


def test_programs_come_with_their_scenes_in_words(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all names are known, in the share that is asked for; nothing is looked at."""
    like = CodeDemonstrations(dataset("rgb"), SUITE, StepSampling(question_share=1.0, cell_weight=7.0))
    source = Programs(SUITE, 33, like, 900, scenes=1.0)
    every = sorted({name for episode in source.episodes for name in episode.names})
    names = {name: tuple(source.tokenizer.encode(name)) for name in every}
    config = code_config(
        observation=(like.proprioception, Feature("observation.images.base", "rgb", (128, 128, 3))),
        names=names,
        numbers=like.numbers,
        image_tokens=36,
        vocabulary=source.vocabulary,
        **source.ids,
    )
    swap = next(number for number, one in enumerate(source.episodes) if one.task == "Swap")

    def row(config: Any, seed: int = 0) -> Any:
        return source.rows([swap], config).packed(np.array([0]), np.random.default_rng(seed))[0]

    told, again = row(config), row(config)
    assert told.shown == () and not (told.tokens == source.ids["image_id"]).any()
    assert np.array_equal(told.tokens, again.tokens) and not np.array_equal(
        told.tokens, row(config, 1).tokens
    )
    text = source.tokenizer.decode([int(token) for token in told.tokens if token > 5])
    assert "What is visible" in text and {1.0, 7.0} <= set(told.weights.tolist())
    few = replace(config, names={name: ids for name, ids in names.items() if "hexagon" in name})
    known = {name for name in few.names} >= set(source.episodes[swap].names)
    assert not known and "What is visible" not in source.tokenizer.decode(
        [int(token) for token in row(few).tokens if token > 5]
    )
    source.scenes = 0.0
    assert "actor_pos" in source.tokenizer.decode([int(token) for token in row(config).tokens if token > 5])
    assert 7.0 not in row(config).weights.tolist()
    monkeypatch.setattr(like, "names", {})
    with pytest.raises(
        DatasetError, match=r"^scenes: expected 0, as no picture .* says what is where, got 0.5$"
    ):
        Programs(SUITE, 3, like, scenes=0.5)


def test_of_replies_that_go_on_a_quarter_is_learned(dataset: Any) -> None:
    """What goes on is the last key-step again."""
    like = CodeDemonstrations(dataset("rgb"), SUITE)
    source = Programs(SUITE, 31, like, max_tokens=900)
    rows, rng = source.rows([20, 22], Network(6, like.proprioception)), np.random.default_rng(0)
    learned: dict[int, int] = {}
    for _ in range(60):
        for row in rows.packed(np.arange(2), rng):
            for kind in row.kinds[(row.targets == source.ids["end_id"])]:
                learned[int(kind)] = learned.get(int(kind), 0) + 1
    keysteps = sum(len(source.episodes[number].keysteps) for number in (20, 22))
    assert learned[Target.REQUESTED] == 60 * keysteps
    assert 0.2 < learned[Target.GOES_ON] / (60 * (keysteps - 2)) < 0.3


def test_sight_has_as_many_pictures_of_scenes(dataset: Any) -> None:
    source = CodeDemonstrations(dataset("rgb"), SUITE, StepSampling(steps_per_episode=3), sight=True)
    network = Network(8, None, names=source.names)
    alone = source.rows([0], network).batch(np.array([0]), np.random.default_rng(0))
    pictures = np.arange(2, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    boxes = np.full((2, 9, 4), -1.0, np.float32)
    boxes[0, 8], boxes[1, 0] = [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.6, 0.6]
    names = ((*["red cube"] * 8, "blue hexagon"), ("green thing",))
    source.scenes = ScenePictures(pictures, boxes, names)
    both = source.rows([0], network).batch(np.array([0]), np.random.default_rng(0))
    assert both["pictures"].shape == (6, 3, 16, 16) and both["boxes"].shape == (6, 9, 4)
    assert np.array_equal(both["pictures"][:3], alone["pictures"])
    assert np.array_equal(both["named"][:3, :8], alone["named"]) and (both["named"][:, 8][:3] == -1).all()
    for picture, box, named in zip(*(both[name][3:] for name in ("pictures", "boxes", "named")), strict=True):
        which = round(float(picture.max() * 255))
        wanted = [-1] * 8 + [0] if which == 0 else [-1] * 9
        assert named.tolist() == wanted, "of those in view the name; a thing without a known one is none"
        if which == 0:
            mirrored = [0.7, 0.2, 0.9, 0.4]
            assert any(np.allclose(box[8], one, atol=1e-6) for one in (boxes[0, 8], mirrored))


def test_programs_are_learned_beside_demonstrations(dataset: Any) -> None:
    """Half as many, rounded up; what is seen is the demonstrations' alone."""
    source = CodeDemonstrations(dataset("rgb"), SUITE, StepSampling(max_tokens=400))
    network, alone, beside = Network(6, source.proprioception), 0, 0
    for seed in range(4):
        found = source.rows([0, 2, 3], network).batch(np.arange(3), np.random.default_rng(seed))
        alone += int((found["positions"] == 0).sum() - (found["tokens"] == 0).sum())
    source.texts, source.texts_each = Programs(SUITE, 6, source, 400), 0.5
    digest = source.sha256()
    for seed in range(4):
        both = source.rows([0, 2, 3], network).batch(np.arange(3), np.random.default_rng(seed))
        pictures = (both["tokens"] == source.ids["image_id"]).sum() // 6
        assert both["pictures"].shape[0] == pictures > 0
        beside += int((both["positions"] == 0).sum() - (both["tokens"] == 0).sum())
    assert beside == alone + 4 * 2
    source.texts = None
    assert source.sha256() == digest


def test_a_row_has_room_for_every_sample_or_is_refused(dataset: Any) -> None:
    """What fits in no row would never be learned; what is longer than the context cannot be."""
    reader = dataset("rgb")
    like = CodeDemonstrations(reader, SUITE, StepSampling(max_tokens=60))
    network = Network(6, like.proprioception)
    with pytest.raises(ValueError, match=r"^row_tokens: expected at least \d+ tokens, .*, got 60$"):
        like.rows([0], network)
    with pytest.raises(ValueError, match=r"^row_tokens: expected at least \d+ tokens, .*, got 40$"):
        Programs(SUITE, 31, like, max_tokens=40).rows(list(range(31)), network)
    enough = CodeDemonstrations(reader, SUITE)
    with pytest.raises(ValueError, match=r"^context: expected at least \d+ tokens, .*, got 50$"):
        enough.rows([0], Network(6, enough.proprioception, context=50))


def test_the_language_is_json_that_says_how_to_read_a_checkpoint(dataset: Any) -> None:
    reader = dataset("rgb")
    ours, paper = CodeDemonstrations(reader, SUITE), CodeDemonstrations(reader, SUITE, layout=PAPER)
    assert paper.proprioception is None and ours.proprioception is not None
    assert PromptLayout.from_dict(ours.language["prompt"]) == DEFAULT
    words = Tokenizer.from_dict(ours.language["tokenizer"])
    assert words == ours.tokenizer and len(words) == ours.vocabulary
    assert ours.language["grid"] == 32 == ours.collection["grid"]
    assert ours.sha256() != paper.sha256()
