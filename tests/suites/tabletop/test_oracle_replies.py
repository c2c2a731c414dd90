"""VLM + Oracle: a planner's replies are run; what is no key-step, or never ends, is a failure and told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from said import Said
from truth import Truth

from keystep.code.grammar import CodeError
from keystep.suites.headless import missing_driver
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle import replies, report
from keystep.suites.tabletop.oracle.blind import Blind, mean_picture
from keystep.suites.tabletop.oracle.episodes import play
from keystep.suites.tabletop.oracle.replies import open_for, play_replies, seen_now

SEED = 4


@dataclass
class Stub:
    """Writes what it was given, then the last of it again and again."""

    texts: list[str]
    image_size: int | None = None
    tasks: list[str] = field(default_factory=list)
    seen: list[Mapping[str, np.ndarray]] = field(default_factory=list)
    prepared: int = 0

    def begin(self, task: str) -> None:
        self.tasks.append(task)
        self.rest = list(self.texts)

    def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Said:
        assert request, "it is asked for key-steps alone"
        self.seen.append(seen)
        return Said(self.rest.pop(0) if len(self.rest) > 1 else self.rest[0])

    def prepare(self) -> None:
        self.prepared += 1


@pytest.fixture
def env() -> Any:
    found = TabletopEnv("PlaceOnTop", terminate_on_success=False)
    yield found
    found.close()


def test_the_ground_truth_as_replies_is_the_oracles_own_episode(env: Any) -> None:
    own = play(env, SEED)
    trace = list(zip(own.trace.codes, own.trace.keysteps, strict=True))
    planner = Stub([code for code, keystep in trace if keystep])
    found, reason = play_replies(env, SEED, planner)
    assert own.success and found.success and reason == ""
    assert found.calls == own.calls and found.steps == own.steps
    assert (found.trace.codes, found.trace.keysteps) == (own.trace.codes, own.trace.keysteps)
    assert planner.tasks == [own.prompt] and len(planner.seen) == len(planner.texts)
    assert planner.prepared == len(planner.texts), "there is time after every reply"
    assert set(planner.seen[0]) == {"observation.state", "observation.objects"}
    assert not np.array_equal(planner.seen[0]["observation.state"], planner.seen[1]["observation.state"])


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (["# done()"], "reply: expected a key-step, got a comment"),
        ([""], "reply: expected code, got an empty reply"),
        (["import os"], "reply: "),
        (
            ["pose_dict['A'] = get_pose(get_actor('pink cube'))"],
            "line 1, column 27: get_actor: name: expected",
        ),
    ],
)
def test_what_is_no_keystep_ends_an_episode(env: Any, texts: list[str], reason: str) -> None:
    found, told = play_replies(env, SEED, Stub(texts))
    assert not found.success and told.startswith(reason) and found.steps == 0


@pytest.mark.parametrize(
    "text",
    ["done()  # x", "done()\n# that is all", "pick(get_actor('blue cylinder'))\ndone()", " # a\ndone()\n"],
)
def test_whatever_calls_done_ends_the_program(env: Any, text: str) -> None:
    found, told = play_replies(env, SEED, Stub([text, "import os"]))
    assert told == "" and found.calls[-1] == "done" and not found.success


def test_a_planner_that_never_ends_or_can_write_nothing_is_stopped(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = play(env, SEED).trace.codes[0]
    monkeypatch.setattr(replies, "MOST_KEYSTEPS", 3)
    found, told = play_replies(env, SEED, Stub([first]))
    assert told == "reply: expected done() within 3 key-steps, got none" and found.api_calls == 3

    class Endless(Stub):
        def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Said:
            return Said(first, ended=False)

    told = play_replies(env, SEED, Endless([""]))[1]
    assert told == "reply: expected its end within the limit of tokens, got none"

    class Full(Stub):
        def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Said:
            raise CodeError(1, 1, "prompt: expected 1..9 tokens, got 10")

    assert play_replies(env, SEED, Full([""]))[1] == "reply: prompt: expected 1..9 tokens, got 10"


def test_an_evaluation_of_a_perfect_planner_is_the_oracles() -> None:
    tasks, seeds = ("Touch", "PlaceOnTop"), range(3, 5)
    opened: list[Truth] = []

    def open_planner() -> Truth:
        opened.append(Truth(tasks, seeds))
        return opened[-1]

    found = report.evaluate_oracle(tasks, 2, 3, open_planner=open_planner)
    own = report.evaluate_oracle(tasks, 2, 3)
    assert len(opened) == 1 and not report._environment._open
    assert [(row.successes, row.calls, row.steps) for row in found.tasks] == [
        (row.successes, row.calls, row.steps) for row in own.tasks
    ]


def test_a_blind_planner_sees_the_same_whatever_is_there() -> None:
    plain: Callable[[], Stub] = lambda: Stub(["done()"], image_size=32)  # noqa: E731
    inner, picture = plain(), np.full((32, 32, 3), 7.0, np.float32)
    blind = Blind(lambda: inner, picture)()
    assert blind.image_size is None, "nothing is drawn for it"
    blind.begin("task")
    blind.write({"observation.state": np.ones(3), "observation.objects": np.ones(4)})
    assert inner.tasks == ["task"] and inner.seen[0][replies.PICTURE] is picture
    without = Blind(lambda: inner, None)()
    without.write({"observation.state": np.ones(3), "observation.objects": np.ones(4)})
    assert not inner.seen[1]["observation.objects"].any() and inner.seen[1]["observation.state"].all()


def test_a_planner_of_pictures_sees_those_that_demonstrations_have() -> None:
    if missing_driver() is not None:
        pytest.skip("no Vulkan driver")
    recorded = TabletopEnv("Swap", obs_mode="state+rgb", image_size=32)
    asked = open_for("Swap", Stub(["done()"], image_size=32)).unwrapped
    first, _ = recorded.reset(seed=SEED)
    asked.reset(seed=SEED)
    seen = seen_now(asked)
    for name in ("observation.state", "observation.objects", replies.PICTURE):
        np.testing.assert_array_equal(seen[name], first[name])
    assert mean_picture(["Swap"], SEED, 1, 32) == pytest.approx(first[replies.PICTURE].astype(np.float32))
    recorded.close()
    asked.close()
