"""Samples: the prompt that is trained on is the one that is asked, and the reply all that is written."""

from __future__ import annotations

import pytest

from keystep.code.packing import Target
from keystep.code.prompt import LAYOUTS, Prompt, PromptLayout
from keystep.code.samples import CodeEpisode, SampleMaker, step_samples, text_samples
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
