"""Stage 2: steps of a dataset become rows and batches with what was seen at them. A fake oracle made it."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import fake_tabletop
import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

from keystep.code.grid import GRID, PAPER_GRID
from keystep.code.packing import PackedRow, Target
from keystep.code.prompt import DEFAULT, PAPER, PromptLayout
from keystep.code.samples import CodeEpisode, SampleMaker, StepWeights, draw_steps, step_samples
from keystep.code.trace import comment
from keystep.data import DatasetError
from keystep.suites import suite_named
from keystep.suites.base import tokenizer
from keystep.train.code_samples import CodeData, StepSampling, text_rows

SUITE = suite_named("tabletop")
WORDS = tokenizer(SUITE, GRID)
KEYSTEPS = [True, False, False, False, False, False, False, False, True, False, False, False, False, True]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_tabletop.collector(tmp_path, monkeypatch)


def replies(row: PackedRow, kind: Target) -> list[str]:
    """The texts that a row wants, by what follows what: from the first target of a reply to its end."""
    found, text = [], []
    for place in np.flatnonzero(row.kinds == kind):
        text.append(int(row.targets[place]))
        if text[-1] == WORDS.end:
            found.append(WORDS.decode(text[:-1]))
            text = []
    assert not text
    return found


@pytest.mark.parametrize(
    "layout", [DEFAULT, PAPER, DEFAULT.without("proprioception")], ids=["ours", "paper", "no proprioception"]
)
@pytest.mark.parametrize("seen", ["image", "state"])
def test_a_batch_shows_what_was_seen_at_its_steps(dataset: Any, layout: PromptLayout, seen: Any) -> None:
    reader = dataset("rgb" if seen == "image" else "state")
    maker = SampleMaker(WORDS, layout, 8)
    data = CodeData(reader, StepSampling(steps_per_episode=5, question_share=0.5, max_tokens=2000), seen)
    rows = list(islice(data.rows(maker, np.random.default_rng(0)), 2))
    found = data.batch(rows)
    column = "observation.images.base" if seen == "image" else "observation.objects"
    frames = [reader.read_episode(episode, [column, "observation.state"]) for episode in reader.episodes()]
    shown = [one for row in rows for one in row.shown]
    pictures = [(episode, step) for name, episode, step in shown if name == "image"]
    vectors = [(episode, step) for name, episode, step in shown if name == "proprioception"]
    key = "pictures" if seen == "image" else "objects"
    assert len(found[key]) == len(pictures) > 10 and found[key].dtype == np.float32
    for (episode, step), value in zip(pictures, found[key], strict=True):
        stored = frames[episode][column][step]
        wanted = np.moveaxis(stored, -1, 0) / np.float32(255) if seen == "image" else stored.reshape(8, -1)
        np.testing.assert_allclose(value, wanted, rtol=1e-6)
    assert len(vectors) == (0 if layout is PAPER or "proprioception" not in layout.order else len(pictures))
    for (episode, step), value in zip(vectors, found["proprioception"], strict=True):
        np.testing.assert_array_equal(value, frames[episode]["observation.state"][step])
    assert (found["tokens"] == WORDS.image).sum() == 8 * len(pictures)
    assert (found["tokens"] == WORDS.proprioception).sum() == len(vectors)


def test_the_replies_are_the_trace_and_the_memory_what_came_before(dataset: Any) -> None:
    maker = SampleMaker(WORDS, DEFAULT, 2)
    data = CodeData(dataset("rgb"), StepSampling(max_tokens=2000))
    for episode in data.episodes:
        for step, (code, keystep) in enumerate(zip(episode.codes, episode.keysteps, strict=True)):
            memory = [
                text for text, start in zip(episode.codes[:step], episode.keysteps, strict=False) if start
            ]
            samples = list(step_samples(maker, episode, step))
            assert len(samples) == 1 + keystep
            for sample in samples:
                said = [chunk for chunk in sample if chunk.key[0] == "memory"]
                assert [WORDS.decode(chunk.tokens) for chunk in said] == [f"{text}\n" for text in memory]
                assert sample[-1].key[1] == code
                assert WORDS.decode(sample[-1].tokens[:-1]) == code
    row = next(data.rows(maker, np.random.default_rng(1)))
    said = {code for episode in data.episodes for code in episode.codes}
    assert set(replies(row, Target.GOES_ON)) <= {text for text in said if text.startswith("#")}
    assert set(replies(row, Target.KEYSTEP)) == set(replies(row, Target.REQUESTED))


def test_equal_seeds_give_equal_rows_and_shares_are_kept(dataset: Any) -> None:
    reader, maker = dataset("rgb"), SampleMaker(WORDS, DEFAULT, 2)

    def kinds(seed: int, **options: Any) -> np.ndarray:
        data = CodeData(reader, StepSampling(**options))
        return np.concatenate([row.kinds for row in islice(data.rows(maker, np.random.default_rng(seed)), 3)])

    np.testing.assert_array_equal(kinds(3), kinds(3))
    assert not np.array_equal(kinds(3)[:500], kinds(4)[:500])
    assert Target.ANSWER not in kinds(0, question_share=0.0)
    assert Target.ANSWER in kinds(0, question_share=1.0)
    assert Target.REQUESTED not in kinds(0, requests=False)


def test_steps_near_borders_weigh_more() -> None:
    weights = StepWeights(keystep=8, border=3, border_steps=2).of(KEYSTEPS)
    assert weights.tolist() == [8, 1, 1, 1, 1, 1, 3, 3, 8, 3, 3, 3, 3, 8]
    counts = np.zeros(len(KEYSTEPS))
    rng = np.random.default_rng(0)
    for _ in range(2000):
        steps = draw_steps(weights, 2, rng)
        assert len(set(steps)) == 2
        counts[steps] += 1
    assert counts[[0, 8, 13]].min() > 1.5 * counts[[6, 7, 9]].max() > 2 * counts[1:6].max()
    assert sorted(draw_steps(weights, 99, rng)) == list(range(len(KEYSTEPS)))


@pytest.mark.parametrize("layout", [DEFAULT, PAPER], ids=["ours", "paper"])
def test_a_full_row_keeps_late_steps_as_often_as_early_ones(dataset: Any, layout: PromptLayout) -> None:
    calls, length = 12, 8
    maker = SampleMaker(WORDS, layout, 8)
    data = CodeData(dataset("rgb"), StepSampling(question_share=0.0, max_tokens=400))
    data.episodes[0] = long_episode(calls, length)
    rng, counts = np.random.default_rng(0), np.zeros(calls * length)
    for _ in range(300):
        row = data.row(0, maker, rng)
        assert len(row) <= 400
        counts[sorted({step for name, _, step in row.shown if name == "image"})] += 1
    assert counts.sum() < 0.8 * 300 * data.sampling.steps_per_episode, "not all of them fit"
    starts = counts[::length]
    assert starts[-4:].mean() > 0.85 * starts[:4].mean()
    assert counts[-32:].mean() > 0.85 * counts[:32].mean()


def long_episode(calls: int, length: int) -> CodeEpisode:
    codes = []
    for number in range(calls):
        code = f"move3d(get_actor('red cube', actor_pos=({number}, {number})))"
        codes += [code, *[comment(code)] * (length - 1)]
    keysteps = tuple(step % length == 0 for step in range(calls * length))
    return CodeEpisode(0, "Pick up the red cube", tuple(codes), keysteps)


def test_a_dataset_that_does_not_say_its_grid_asks_in_the_papers(dataset: Any) -> None:
    reader = dataset("rgb", PAPER_GRID)
    assert CodeData(reader, StepSampling()).grid == PAPER_GRID
    del reader.collection["grid"]
    assert CodeData(reader, StepSampling()).grid == PAPER_GRID


def test_what_is_missing_is_named(dataset: Any) -> None:
    reader = dataset("state")
    with pytest.raises(DatasetError, match=r"expected the column observation\.images\.base, found only"):
        CodeData(reader, StepSampling())
    with pytest.raises(DatasetError, match="image_tokens: expected 8 for states, got 36"):
        CodeData(reader, StepSampling(), "state").check(SampleMaker(WORDS, DEFAULT, 36), 1024)
    reader.collection["grid"] = 0
    with pytest.raises(DatasetError, match="grid: expected 1 to 100 cells, got 0"):
        CodeData(reader, StepSampling(), "state")


def test_questions_need_names(dataset: Any) -> None:
    """A table full of things without names is not empty."""
    reader = dataset("rgb")
    infos = list(reader.episodes())
    infos[2].extras.pop("names")
    reader.episodes = lambda: infos
    problem = r"names: expected names of 1 to \d+ objects of episode 2, to ask about them, got 0"
    with pytest.raises(DatasetError, match=problem):
        CodeData(reader, StepSampling())
    assert len(CodeData(reader, StepSampling(question_share=0)).episodes) == 4


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: StepSampling(questions_per_step=6), "questions_per_step: expected 1 to 5, got 6"),
        (lambda: StepSampling(steps_per_episode=0), "steps_per_episode: expected at least 1, got 0"),
        (lambda: StepSampling(question_share=1.5), "question_share: expected 0 to 1, got 1.5"),
        (lambda: StepWeights(border=0), "border: expected more than 0, got 0"),
        (lambda: StepWeights(border_steps=-1), "border_steps: expected at least 0, got -1"),
        (lambda: SampleMaker(WORDS, DEFAULT, 0), "image_tokens: expected at least 1, got 0"),
        (lambda: CodeEpisode(0, "t", ("# a()",), (False,)), "expected a key-step first"),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make()


def test_texts_fill_rows_and_need_no_pictures(dataset: Any) -> None:
    maker = SampleMaker(WORDS, DEFAULT, 2)
    rows = list(islice(text_rows(SUITE, ("Pick", "Touch"), maker, GRID, 300), 2))
    assert all(200 < len(row) <= 300 and not row.shown for row in rows)
    asked = replies(rows[0], Target.REQUESTED)
    assert asked[2] == "done()" and comment(asked[0]) in replies(rows[0], Target.GOES_ON)
    found = CodeData(dataset("rgb"), StepSampling()).batch(rows)
    assert found["pictures"].shape == (0, 3, 16, 16) and len(found["proprioception"]) == 0
