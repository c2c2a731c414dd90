"""VLM + Oracle: a planner writes every key-step, and the oracle's safe executor runs it.

Source: From Code to Action, section 5.2. A key-step is asked for when the one before has ended; or the
planner is asked at every step, as beside a controller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np

from keystep.code.dialogue import parse_reply
from keystep.code.executor import Result
from keystep.code.grammar import CodeError
from keystep.code.grid import GRID
from keystep.suites.tabletop import env_id
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.api import Oracle
from keystep.suites.tabletop.oracle.episodes import OracleEpisode, run
from keystep.suites.tabletop.oracle.motion import Interrupted, Motion, OutOfTime

MOST_KEYSTEPS = 64
"""Of an episode; the longest program has fewer than half of them."""
MOST_WAITING = 40
"""Control steps (2 s) that a planner may let pass after a call before it writes the next key-step."""
PICTURE = "observation.images.base"
ENDLESS = "expected its end within the limit of tokens, got none"
"""Of a reply."""


class Endless(CodeError):
    """A reply that came to the limit of tokens without its end.

    Attributes:
        text: what was written.
    """

    def __init__(self, text: str) -> None:
        super().__init__(1, 1, ENDLESS)
        self.text = text


class Written(Protocol):
    """A reply: `keystep.CodeReply` of a bundle, `WrittenReply` of a checkpoint."""

    @property
    def text(self) -> str: ...

    @property
    def passes(self) -> int:
        """Of the decoder."""

    @property
    def ended(self) -> bool:
        """By itself, not by the limit of tokens."""


class WritesCode(Protocol):
    """A planner that writes code, and remembers the key-steps that it wrote.

    Attributes:
        image_size: height and width of the picture that it sees, in pixels; None: it sees objects.
    """

    image_size: int | None

    def begin(self, task: str) -> None:
        """A new episode, its task in words. Raises CodeError for words that it cannot be told."""

    def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Written:
        """What it writes now.

        Args:
            seen: observations of the environment as it is now: `observation.state`, `observation.objects`
                and, where it sees pictures, PICTURE.
            request: it is asked for a key-step, as when a call has ended; else it may also go on.

        Raises:
            CodeError: it can write nothing.
            Endless: what it writes has no end, and is no reply; or one that is not `ended` is given.
        """

    def prepare(self) -> None:
        """There is time until the next reply."""


OpenPlanner = Callable[[], WritesCode]
"""Picklable: every process has a planner of its own."""


class Watcher:
    """Is told what happens in an episode."""

    def began(self, prompt: str) -> None:
        """The task in words."""

    def took(self, ms: float, passes: int | None) -> None:
        """The planner was asked, whatever came of it; None where nobody knows the passes."""

    def replied(self, reply: Written, ms: float) -> None:
        """A reply that is code, a key-step or not, and how long it took."""

    def refused(self, text: str, problem: str) -> None:
        """A reply with which the episode ends."""

    def stepped(self, action: np.ndarray) -> None:
        """A control step is taken, action float32 (7,)."""

    def ended(self, result: Result) -> None:
        """A key-step ended, perhaps because the next one had come."""


class Replies:
    """`episodes.KeySteps` of a planner that is asked for one when the one before has ended.

    Up to one that calls done(), or a reply that is no key-step.

    Attributes:
        problem: why no more are run; "" else.
    """

    def __init__(self, planner: WritesCode, watchers: Sequence[Watcher] = ()) -> None:
        self._planner, self._watchers, self.problem = planner, watchers, ""
        self._over = False

    def __call__(self, oracle: Oracle) -> Iterator[str]:
        self._env = oracle.env
        prompt = oracle.env.scenario.prompt
        for watcher in self._watchers:
            watcher.began(prompt)
        try:
            self._planner.begin(prompt)
            yield from self._keysteps(oracle)
        except CodeError as error:
            self.problem = f"reply: {error.problem}"

    def stepped(self, seen: dict[str, np.ndarray], action: np.ndarray) -> None:
        """`episodes.run` calls it before every control step."""
        for watcher in self._watchers:
            watcher.stepped(action)

    def ended(self, result: Result) -> None:
        """And this after every key-step."""
        self._over = "done" in result.calls and not result.interrupted
        for watcher in self._watchers:
            watcher.ended(result)

    def _keysteps(self, oracle: Oracle) -> Iterator[str]:
        for _ in range(MOST_KEYSTEPS):
            yield self._next(oracle)
            if self._over:
                return
        raise CodeError(1, 1, f"expected done() within {MOST_KEYSTEPS} key-steps, got none")

    def _next(self, oracle: Oracle) -> str:
        text, keystep = self._ask(request=True)
        if not keystep:
            raise self._refusal(text, "expected a key-step, got a comment")
        return text

    def _ask(self, request: bool) -> tuple[str, bool]:
        """The text of a reply, and whether it is a key-step. CodeError for what is no code."""
        reply, ms = self._written(request)
        if not reply.ended:
            raise self._refusal(reply.text, ENDLESS)
        try:
            keystep = parse_reply(reply.text).keystep
        except CodeError as error:
            raise self._refusal(reply.text, error.problem) from None
        for watcher in self._watchers:
            watcher.replied(reply, ms)
        self._planner.prepare()
        return reply.text, keystep

    def _written(self, request: bool) -> tuple[Written, float]:
        """A reply, and how many milliseconds it took. CodeError where none can be written."""
        seen = seen_now(self._env)
        started = time.perf_counter()
        try:
            reply: Written | CodeError = self._planner.write(seen, request)
        except CodeError as error:
            reply = error
        ms = 1e3 * (time.perf_counter() - started)
        for watcher in self._watchers:
            watcher.took(ms, None if isinstance(reply, CodeError) else reply.passes)
        if isinstance(reply, Endless):
            raise self._refusal(reply.text, reply.problem)
        if isinstance(reply, CodeError):
            raise reply
        return reply, ms

    def _refusal(self, text: str, problem: str) -> CodeError:
        for watcher in self._watchers:
            watcher.refused(text, problem)
        return CodeError(1, 1, problem)


class RepliesAtEveryStep(Replies):
    """The same of a planner that is asked at every control step, and says itself when a call is over.

    A key-step that comes while a call runs ends that call. After a call the hand waits until one comes.
    """

    def __init__(self, planner: WritesCode, watchers: Sequence[Watcher] = ()) -> None:
        super().__init__(planner, watchers)
        self._arrived: str | None = None  # a key-step that is not run yet
        self._failed: CodeError | None = None  # what came instead, while a call ran
        self._running = self._begun = False  # a call; the first one
        self._answered = False  # the planner has replied to what is seen at this step

    def stepped(self, seen: dict[str, np.ndarray], action: np.ndarray) -> None:
        if self._running and not self._answered:
            self._listen()
        self._answered = False
        super().stepped(seen, action)

    def _listen(self) -> None:
        """Interrupted when there is more to do than to go on."""
        if self._arrived is None and self._failed is None:
            try:
                text, keystep = self._ask(request=False)
                self._arrived = text if keystep else None
            except CodeError as error:
                self._failed = error
        if self._arrived is not None or self._failed is not None:
            raise Interrupted

    def _next(self, oracle: Oracle) -> str:
        self._running = False
        for _ in range(MOST_WAITING):
            if self._failed is not None:
                raise self._failed
            if self._arrived is not None:
                break
            text, keystep = self._ask(request=False)
            if keystep:
                self._arrived = text
            elif not self._begun:
                raise self._refusal(text, "expected a key-step first, got a comment")
            else:
                self._wait(oracle.motion)
        else:
            problem = f"expected a key-step within {MOST_WAITING} steps after a call, got comments"
            raise CodeError(1, 1, problem)
        code, self._arrived = self._arrived, None
        self._running = self._answered = self._begun = True
        return code

    def _wait(self, motion: Motion) -> None:
        motion.allow(1)
        try:
            motion.wait(1)
        except OutOfTime:
            limit = self._env.max_episode_steps
            problem = f"expected a key-step within the episode's {limit} steps, got comments"
            raise CodeError(1, 1, problem) from None


def seen_now(env: TabletopEnv) -> dict[str, np.ndarray]:
    """What an environment shows, with a picture where it has cameras."""
    seen = env.observation()
    return {**seen, PICTURE: env.render()} if env.visible and PICTURE not in seen else seen


def play_replies(
    env: Any,
    seed: int,
    planner: WritesCode,
    grid: int = GRID,
    watchers: Sequence[Watcher] = (),
    every_step: bool = False,
) -> tuple[OracleEpisode, str]:
    """An episode of a planner's replies from a reset with `seed`; and why it stopped, "" at its end.

    Args:
        every_step: it is asked at every control step, not only when a call has ended.
    """
    env = env.unwrapped
    replies = (RepliesAtEveryStep if every_step else Replies)(planner, watchers)
    observation = env.reset(seed=seed)[0]
    episode = run(env, observation, replies, replies.stepped, replies.ended, grid)
    return episode, episode.reason or replies.problem


def open_for(task: str, planner: WritesCode | None = None) -> gymnasium.Env:
    """An environment that shows what a planner sees, if there is one; a picture only when it is looked at.

    Raises:
        RuntimeError: pictures are needed on a machine without a Vulkan driver.
    """
    size = planner.image_size if planner else None
    pictures: dict[str, Any] = {} if size is None else {"render_mode": "rgb_array", "image_size": size}
    return gymnasium.make(env_id(task), terminate_on_success=False, **pictures)
