"""VLM + Oracle, asked at every control step: the planner says when a call is over, early, late or never."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")


from said import Said

from keystep.code.executor import Result
from keystep.code.grammar import CodeError
from keystep.code.outcome import Outcome
from keystep.code.trace import check_trace, comment
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.episodes import OracleEpisode, play
from keystep.suites.tabletop.oracle.replies import MOST_WAITING, Watcher, play_replies

SEED = 4


class Scheduled:
    """Writes the next text once so many replies were given since the one before; else it goes on."""

    image_size = None

    def __init__(self, texts: list[str], after: list[int]) -> None:
        self.texts, self.after = texts, after

    def begin(self, task: str) -> None:
        self.waiting, self.place, self.asked = 0, 0, 0

    def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Said:
        assert not request
        self.asked += 1
        if self.place < len(self.texts) and self.waiting == self.after[self.place]:
            self.place, self.waiting = self.place + 1, 1
            return Said(self.texts[self.place - 1])
        self.waiting += 1
        return Said(comment(self.texts[max(0, self.place - 1)]))

    def prepare(self) -> None:
        pass


class Heard(Watcher):
    def __init__(self) -> None:
        self.results, self.refusals, self.steps, self.replies = list[Result](), list[str](), 0, 0

    def replied(self, reply: Any, ms: float) -> None:
        self.replies += 1

    def refused(self, text: str, problem: str) -> None:
        self.refusals.append(text)

    def stepped(self, action: np.ndarray) -> None:
        assert action.shape == (7,) and action.dtype == np.float32
        self.steps += 1

    def ended(self, result: Result) -> None:
        self.results.append(result)


@pytest.fixture(scope="module")
def env() -> Any:
    found = TabletopEnv("PlaceOnTop", terminate_on_success=False)
    yield found
    found.close()


@pytest.fixture(scope="module")
def own(env: Any) -> OracleEpisode:
    return play(env, SEED)


def schedule(own: OracleEpisode) -> tuple[list[str], list[int]]:
    """Key-steps, and the steps from each to the next one, which are replies as well."""
    starts = [step for step, keystep in enumerate(own.trace.keysteps) if keystep]
    gaps = [starts[0], *(later - step for step, later in pairwise(starts))]
    return [own.trace.codes[step] for step in starts], gaps


def asked(env: Any, planner: Any) -> tuple[OracleEpisode, str, Heard]:
    heard = Heard()
    episode, reason = play_replies(env, SEED, planner, watchers=(heard,), every_step=True)
    assert heard.steps == episode.steps == len(episode.trace.codes)
    return episode, reason, heard


def test_who_knows_every_border_plays_the_oracles_own_episode(env: Any, own: OracleEpisode) -> None:
    texts, gaps = schedule(own)
    planner = Scheduled(texts, gaps)
    found, reason, heard = asked(env, planner)
    assert own.success and found.success and reason == ""
    assert (found.trace.codes, found.trace.keysteps) == (own.trace.codes, own.trace.keysteps)
    assert found.calls == own.calls and len(heard.results) == len(texts)
    assert planner.asked == heard.replies == own.steps, "once at every control step"


def test_a_keystep_that_comes_early_ends_the_call_that_runs(env: Any, own: OracleEpisode) -> None:
    texts, gaps = schedule(own)
    early = [gaps[0], gaps[1] - 3, *gaps[2:]]
    found, _, heard = asked(env, Scheduled(texts, early))
    starts = [step for step, keystep in enumerate(found.trace.keysteps) if keystep]
    assert starts[1] == gaps[1] - 3 == heard.results[0].steps
    assert found.calls[:2] == own.calls[:2]
    check_trace(found.trace.codes, found.trace.keysteps)


def test_a_keystep_that_comes_early_ends_the_text_of_the_call_that_runs(env: Any, own: OracleEpisode) -> None:
    env.reset(seed=SEED)
    held, below = (f"get_actor({body.thing.name!r})" for body in env.scenario.bodies[:2])
    texts = [f"pick({held})\nplace_on({held}, {below})", f"pick({held})"]
    found, _, heard = asked(env, Scheduled(texts, [0, 3]))
    first, second = heard.results[:2]
    assert (first.outcome, first.interrupted, first.calls, first.steps) == (
        Outcome.SUCCESS, True, ("pick",), 3,
    )  # fmt: skip
    assert (second.outcome, second.interrupted, second.calls) == (Outcome.SUCCESS, False, ("pick",))
    assert found.trace.codes[3] == texts[1] and found.calls == ["pick", "pick"]
    _, reason, heard = asked(env, Scheduled([texts[0], "import os"], [0, 3]))
    assert reason.startswith("reply: ") and [one.calls for one in heard.results] == [("pick",)]
    assert heard.results[0].interrupted


def test_after_a_call_the_hand_waits_for_a_keystep(env: Any, own: OracleEpisode) -> None:
    texts, gaps = schedule(own)
    found, reason, _ = asked(env, Scheduled(texts, [gaps[0], gaps[1] + 5, *gaps[2:]]))
    assert found.success and reason == ""
    assert found.trace.codes[gaps[1] : gaps[1] + 5] == [comment(texts[0])] * 5
    assert found.trace.codes[gaps[1] + 5] == texts[1]


def test_who_never_goes_on_is_stopped(env: Any, own: OracleEpisode) -> None:
    texts, gaps = schedule(own)
    found, reason, _ = asked(env, Scheduled(texts[:1], gaps[:1]))
    assert reason == "reply: expected a key-step within 40 steps after a call, got comments"
    assert found.steps == gaps[1] + MOST_WAITING and not found.success
    limit, env.max_episode_steps = env.max_episode_steps, gaps[1] + 7
    found, reason, _ = asked(env, Scheduled(texts[:1], gaps[:1]))
    env.max_episode_steps = limit
    assert reason == f"reply: expected a key-step within the episode's {gaps[1] + 7} steps, got comments"


def test_what_is_no_code_ends_the_call_that_runs_and_the_episode(env: Any, own: OracleEpisode) -> None:
    texts, gaps = schedule(own)
    found, reason, heard = asked(env, Scheduled([texts[0], "import os"], [gaps[0], 4]))
    assert reason.startswith("reply: ") and heard.refusals == ["import os"]
    assert found.steps == 4 and [result.steps for result in heard.results] == [4]
    found, reason, heard = asked(env, Scheduled(["# done()"], [0]))
    assert reason == "reply: expected a key-step first, got a comment" and not found.steps

    class Broken(Scheduled):
        def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Said:
            if self.asked == 3:
                raise CodeError(1, 1, "logits: expected finite numbers, got NaN or Inf")
            return super().write(seen, request)

    found, reason, _ = asked(env, Broken(texts, gaps))
    assert reason == "reply: logits: expected finite numbers, got NaN or Inf" and found.steps == 3


def test_an_interrupted_done_is_not_the_end(env: Any, own: OracleEpisode) -> None:
    texts, gaps = schedule(own)
    assert texts[-1] == "done()"
    found, reason, heard = asked(env, Scheduled(["done()", *texts], [0, 2, *gaps[1:]]))
    assert found.success and reason == "" and heard.results[0].steps == 2
