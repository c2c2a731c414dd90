"""The tabletop suite as text: its words, episodes without a simulator, and samples of them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from keystep import ArgumentError
from keystep.code.executor import Executor
from keystep.code.grammar import parse
from keystep.code.grid import GRID, PAPER_GRID
from keystep.code.packing import NO_TARGET, Target, pack
from keystep.code.prompt import LAYOUTS, Prompt
from keystep.code.questions import questions
from keystep.code.samples import SampleMaker, text_samples
from keystep.code.tokenizer import FIRST_WORD, SPECIALS
from keystep.code.trace import comment
from keystep.suites import suite_named
from keystep.suites.base import texts, tokenizer
from keystep.suites.tabletop.camera import first_boxes
from keystep.suites.tabletop.objects import COLOURS, SHAPES
from keystep.suites.tabletop.oracle.texts import FIRST_SEED, StillRobot, text_episode
from keystep.suites.tabletop.tasks import TASKS

SUITE = suite_named("tabletop")
WORDS = tokenizer(SUITE, GRID)
EPISODES = list(islice(texts(SUITE, None, GRID), 2 * len(TASKS)))


def spelt(text: str) -> str:
    """What of a text is encoded byte by byte."""
    return bytes(number - len(SPECIALS) for number in WORDS.encode(text) if number < FIRST_WORD).decode()


def test_no_word_of_prompts_and_code_is_spelt() -> None:
    for episode in EPISODES:
        for text in (episode.prompt, *episode.keysteps, *map(comment, episode.keysteps)):
            assert not any(character.isalnum() or character in "_'([#" for character in spelt(text)), text
            assert WORDS.decode(WORDS.encode(text)) == text


def test_no_word_of_questions_is_spelt() -> None:
    rng = np.random.default_rng(0)
    possible = [f"{colour} {shape}" for colour in COLOURS for shape in (*SHAPES, "area")]
    for task in ("BalanceScale", "SortByTexture", "NovelNoun", "Swap"):
        bodies = TASKS[task].build(rng).bodies
        names = [body.thing.name for body in bodies]
        for one in questions(names, first_boxes(bodies), rng, possible):
            rest = spelt(one.question + "\n" + one.answer)
            assert not any(character.isalnum() for character in rest), (one, rest)


def test_replies_and_memories_are_short() -> None:
    replies = [len(WORDS.encode(code)) + 1 for episode in EPISODES for code in episode.keysteps]
    memories = [len(WORDS.encode("\n".join(episode.keysteps) + "\n")) for episode in EPISODES]
    assert np.mean(replies) < 12 and np.percentile(replies, 95) <= 40
    assert np.mean(memories) < 110
    assert len(WORDS) < 1000


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_prompt_is_what_its_sections_give(layout) -> None:
    """Cutting at a section changes no number: so a cache of the first sections serves every prompt."""
    for episode in EPISODES[::5]:
        for count in range(len(episode.keysteps)):
            memory = episode.keysteps[:count]
            prompt = Prompt(episode.prompt, memory, request=count % 2 == 0, image=False, proprioception=False)
            sections = [WORDS.encode_pieces(pieces) for _, pieces in layout.sections(prompt)]
            whole = WORDS.encode("".join(layout.pieces(prompt)))
            assert [number for part in sections for number in part] == whole


def test_texts_are_the_programs_of_the_scenes_of_their_seeds() -> None:
    assert [episode.task for episode in EPISODES] == [*TASKS, *TASKS]
    assert len({episode.seed for episode in EPISODES}) == len(EPISODES)
    assert min(episode.seed for episode in EPISODES) >= FIRST_SEED > 10**9
    for episode in EPISODES:
        scenario = TASKS[episode.task].build(np.random.default_rng(episode.seed))
        assert episode.prompt == scenario.prompt and episode.keysteps[-1] == "done()"
        assert text_episode(episode.task, episode.seed, GRID) == episode
        names = {body.thing.name for body in scenario.bodies}
        for code in episode.keysteps:
            assert parse(code)
            named = code.split("get_actor('")[1:]
            assert {part.split("'")[0] for part in named} <= names
        assert all(
            "actor_pos=" in line
            for code in episode.keysteps
            for line in code.split("\n")
            if "get_pose" in line and "pose_dict" in line
        )


def test_code_as_text_runs_in_a_scene_and_names_cells_of_what_it_means() -> None:
    for task in ("RotateSymmetry", "SortByTexture", "NovelAdjective", "Swap"):
        for seed in range(6):
            for grid in (GRID, PAPER_GRID):
                episode = text_episode(task, seed, grid)
                scenario = TASKS[task].build(np.random.default_rng(seed))
                robot = StillRobot(scenario, grid)
                executor = Executor(robot)
                results = [executor.run(code) for code in episode.keysteps]
                assert all(result.reason == "" for result in results)
                assert scenario.predicate is not None and episode.prompt == scenario.prompt


def test_a_suite_without_code_has_no_texts() -> None:
    other = suite_named("franka3blocks")
    for ask in (lambda: texts(other, None, GRID), lambda: tokenizer(other, GRID)):
        with pytest.raises(
            ArgumentError, match="suite: expected one whose demonstrations are code, got franka"
        ):
            ask()


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_samples_of_an_episode_as_text(layout) -> None:
    """Every key-step is asked for once; each but the last goes on; the numbers of cells have no loss."""
    maker = SampleMaker(WORDS, layout, 4)
    for episode in EPISODES[::4]:
        samples = list(text_samples(maker, episode.prompt, episode.keysteps, episode.seed))
        replies = [(sample[-1].target, sample[-1].key[1]) for sample in samples]
        asked = [text for target, text in replies if target is Target.REQUESTED]
        assert asked == list(episode.keysteps)
        goes_on = [text for target, text in replies if target is Target.GOES_ON]
        assert goes_on == [comment(code) for code in episode.keysteps[:-1]]
        assert [text for target, text in replies if target is Target.KEYSTEP] == [episode.keysteps[0]]
        (row,) = pack(samples, 10_000)
        assert not {WORDS.image, WORDS.proprioception} & set(row.tokens.tolist())
        alone = sum(len(chunk.tokens) for sample in samples for chunk in sample)
        assert len(row) < 0.75 * alone or len(samples) < 4
        for sample in samples:
            tokens, weights = sample[-1].tokens, sample[-1].weights
            text = WORDS.decode(
                [
                    number
                    for number, weight in zip(tokens, weights, strict=True)
                    if weight and number != WORDS.end
                ]
            )
            kept = sample[-1].key[1].count("actor_pos=(") + sample[-1].key[1].count("near=(")
            assert text.count("=(, )") == kept
        predicted = row.targets != NO_TARGET
        assert (row.weights[predicted] == 1).all() and predicted.any()
