"""Samples: the prompt that is trained on is the one that is asked, and the reply all that is written."""

from __future__ import annotations

import pytest

from keystep.code.packing import Target
from keystep.code.prompt import LAYOUTS, Prompt, PromptLayout
from keystep.code.questions import Question
from keystep.code.samples import CodeEpisode, SampleMaker, ToldScene, step_samples, text_samples
from keystep.code.tokenizer import Tokenizer
from keystep.code.trace import comment

WORDS = Tokenizer(("pick", "place", "cube", "('", "')", "# "))
CODES = ("pick('cube')", "place('cube')", "done()")


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_planner_writes_what_it_was_taught_and_nothing_else(layout: PromptLayout) -> None:
    """As at run time: behind the prompt as it is asked, what is learned is the code and its end."""
    maker = SampleMaker(WORDS, layout, 2)
    codes = (CODES[0], comment(CODES[0]), CODES[1])
    episode = CodeEpisode(0, "Pick up the cube", codes, (True, False, True))
    for step, code in enumerate(codes):
        for request, sample in enumerate(step_samples(maker, episode, step)):
            asked = maker.question(Prompt(episode.task, episode.memory(step), request=bool(request)), 0, step)
            assert [chunk.tokens for chunk in sample[:-1]] == [chunk.tokens for chunk in asked]
            assert not any(chunk.weights for chunk in sample[:-1])
            *tokens, end = sample[-1].tokens
            assert (WORDS.decode(tokens), end) == (code, WORDS.end)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
@pytest.mark.parametrize("seen", [True, False])
def test_no_sample_is_longer_than_the_longest(layout: PromptLayout, seen: bool) -> None:
    maker = SampleMaker(WORDS, layout, 5)
    if seen:
        trace = [text for code in CODES for text in (code, comment(code))]
        episode = CodeEpisode(0, "Pick up", tuple(trace), (True, False) * len(CODES))
        samples = [one for step in range(len(trace)) for one in step_samples(maker, episode, step)]
    else:
        samples = list(text_samples(maker, "Pick up", CODES, 0))
    lengths = [sum(len(chunk.tokens) for chunk in sample) for sample in samples]
    most = maker.longest("Pick up", CODES, seen)
    assert max(lengths) <= most < max(lengths) + 2 * len(WORDS.encode(CODES[1])) + 60
    assert {sample[-1].target for sample in samples} == {
        Target.KEYSTEP,
        Target.GOES_ON,
        Target.REQUESTED,
    }


def test_a_text_with_its_scenes_is_asked_as_though_they_were_seen() -> None:
    """The same prompt but for the picture's place, where words stand; cells are learned, too."""
    maker = SampleMaker(Tokenizer((*WORDS.words, "actor_pos=(", "12", ", ", "7")), LAYOUTS["default"], 3)
    codes = ("pick('cube', actor_pos=(12, 7))", "done()")
    asked = Question("where", "Where is the cube?", "The cube is at (12, 7).")
    scenes = [ToldScene((21, 22, 23), (asked,)), ToldScene((24, 25, 26))]
    samples = list(text_samples(maker, "Pick up", codes, 0, scenes, cell_weight=4.0))
    assert [sample[-1].target for sample in samples] == [
        Target.REQUESTED,
        Target.KEYSTEP,
        Target.ANSWER,
        Target.REQUESTED,
        Target.GOES_ON,
    ]
    wanted = [
        Prompt("Pick up", request=True, proprioception=False),
        Prompt("Pick up", proprioception=False),
        Prompt("Pick up", question=asked.question, proprioception=False),
        Prompt("Pick up", codes[:1], request=True, proprioception=False),
        Prompt("Pick up", codes[:1], proprioception=False),
    ]
    for number, (sample, prompt) in enumerate(zip(samples, wanted, strict=True)):
        told = iter(scenes[number // 3].ids)
        plain = [token for chunk in maker.question(prompt, 0, 0) for token in chunk.tokens]
        expected = [next(told) if token == WORDS.image else token for token in plain]
        assert [token for chunk in sample[:-1] for token in chunk.tokens] == expected
        assert next(told, None) is None and all(chunk.shown is None for chunk in sample)
    assert samples[0][-1].weights.count(4.0) == 2 and samples[3][-1].weights.count(4.0) == 0
    assert 0.0 in next(text_samples(maker, "Pick up", codes, 0))[-1].weights
