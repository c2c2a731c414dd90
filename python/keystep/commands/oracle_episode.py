"""One tabletop episode of the oracle's program or of code from a file, printed while it runs; as a video.

What is printed is such a file itself: remarks are comments, blank lines part the key-steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

import keystep
from keystep.commands.video import RATE_HZ, write_video
from keystep.envs.tabletop import env_id
from keystep.envs.tabletop.environment import TabletopEnv
from keystep.envs.tabletop.layout import CONTROL_RATE_HZ
from keystep.envs.tabletop.objects import COLOURS, SHAPES
from keystep.evaluate import code_video
from keystep.oracle.api import Oracle
from keystep.oracle.episodes import references
from keystep.oracle.executor import Executor, Result
from keystep.oracle.grammar import CodeError, parse
from keystep.oracle.outcome import Outcome
from keystep.oracle.programs import program, render
from keystep.oracle.questions import questions
from keystep.oracle.trace import Segment, codes_from_segments


class KeyStep(NamedTuple):
    """Code, and the line of its file where it starts."""

    code: str
    line: int = 1


KeySteps = Callable[[Oracle], Iterable[KeyStep]]
"""The key-steps, each asked for when the one before has ended."""


@dataclass
class Performance:
    """What was done in an episode.

    Attributes:
        actions: of every control step, (7,).
        segments: its key-steps; one without control steps is in front of the next.
        calls: of the API, without `done()`.
        problem: where and why the code stopped; "" when it came to its end.
    """

    prompt: str
    actions: list[np.ndarray] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    calls: int = 0
    problem: str = ""
    success: bool = False

    def __str__(self) -> str:
        steps = len(self.actions)
        verdict = "solved" if self.success else "not solved"
        length = f"{counted(steps, 'control step')} ({steps / CONTROL_RATE_HZ:.1f} s)"
        length += f", {counted(self.calls, 'call')}"
        return f"{verdict} after {length}" + (f"; {self.problem}" if self.problem else "")


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def play_one(task: str, seed: int, code: Path | None = None, video: Path | None = None) -> None:
    """Play and print an episode.

    Args:
        code: a file of key-steps to run instead of the oracle's program.
        video: the file to write a video to.

    Raises:
        CodeError: the grammar refuses the file; nothing of it has run.
        RuntimeError: a video is asked for on a machine without a Vulkan driver.
    """
    keysteps = written(read_code(code)) if code is not None else programmed
    with closing(open_env(task, visible=video is not None)) as env:
        observation, _ = env.reset(seed=seed)
        print(f"# {task}, seed {seed}: {env.scenario.prompt}\n")
        performance = perform(env, observation, keysteps, str(code) if code is not None else "")
        print(f"# {performance}")
        if video is not None:
            if not performance.segments:
                raise keystep.Error("video: expected at least one control step to show, got none")
            write_video(video, film(env, seed, performance))


def open_env(task: str, visible: bool = False) -> TabletopEnv:
    env = gymnasium.make(
        env_id(task),
        terminate_on_success=False,
        render_mode="rgb_array" if visible else None,
        image_size=code_video.WIDTH,
    ).unwrapped
    assert isinstance(env, TabletopEnv)
    return env


def programmed(oracle: Oracle) -> Iterator[KeyStep]:
    """The oracle's own program."""
    for template in program(oracle.env.task.name, oracle.env.scenario):
        yield KeyStep(render(template, references(oracle, oracle.env.scenario)))


def written(keysteps: Sequence[KeyStep]) -> KeySteps:
    return lambda oracle: keysteps


def read_code(path: Path) -> list[KeyStep]:
    """The key-steps of a file: the texts between blank lines, without those of comments only.

    Raises:
        CodeError: the grammar refuses one; the line is that of the file.
        ValueError: there is none.
    """
    found = []
    for step in texts(path.read_text(encoding="utf-8")):
        try:
            statements = parse(step.code)
        except CodeError as error:
            raise CodeError(step.line + error.line - 1, error.column, error.problem) from None
        if statements:
            found.append(step)
    if not found:
        raise ValueError(f"code: expected at least one line that is not a comment, got none in {path}")
    return found


def texts(text: str) -> Iterator[KeyStep]:
    """What stands between blank lines."""
    lines: list[str] = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip():
            lines.append(line)
        elif lines:
            yield KeyStep("\n".join(lines), number - len(lines))
            lines = []


def perform(
    env: TabletopEnv, observation: dict[str, np.ndarray], keysteps: KeySteps, source: str = ""
) -> Performance:
    """Runs key-steps on an environment that was just reset, and prints each while it runs.

    Args:
        source: the file they are from, to say where they stop.
    """
    found = Performance(env.scenario.prompt)
    oracle = Oracle(env, observation, lambda seen, action: found.actions.append(action))
    executor = Executor(oracle)
    code, start = "", 0  # of the segment to come
    for step in keysteps(oracle):
        print(step.code, end="", flush=True)
        result = executor.run(step.code)
        print(f"  # {counted(result.steps, 'step')}\n")
        found.calls += sum(name != "done" for name in result.calls)
        code = f"{code}\n{step.code}" if code else step.code
        if len(found.actions) > start:
            found.segments.append(Segment(start, len(found.actions), code))
            code, start = "", len(found.actions)
        if result.outcome is not Outcome.SUCCESS:
            found.problem = stopped(result, step, source)
            break
    found.success = env.success
    return found


def stopped(result: Result, step: KeyStep, source: str) -> str:
    """Why code stopped, with the line of its file."""
    assert result.line is not None
    reason = result.reason.removeprefix(f"line {result.line}, ")
    place = f"{source}, " if source else ""
    return f"{result.outcome.value} at {place}line {step.line + result.line - 1}, {reason}"


def film(env: TabletopEnv, seed: int, performance: Performance) -> Iterator[np.ndarray]:
    """The frames of the video, from the same actions again: pictures of an episode would fill the memory."""
    codes, starts = codes_from_segments(performance.segments)
    caption = f"{env.task.name}, seed {seed}"
    pictures = views(env, seed, performance.actions)
    shown = code_video.frames(pictures, codes, starts, performance.prompt, caption)
    return code_video.at_rate(shown, CONTROL_RATE_HZ, RATE_HZ)


def views(env: TabletopEnv, seed: int, actions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """What the base camera sees before every action."""
    env.reset(seed=seed)
    for action in actions:
        yield env.render()
        env.step(action)


def print_questions(task: str, seed: int) -> None:
    """The auxiliary questions about the first picture of an episode, with answers."""
    with closing(open_env(task)) as env:
        env.reset(seed=seed)
        names = [body.thing.name for body in env.scenario.bodies]
        possible = [f"{colour} {shape}" for colour in COLOURS for shape in (*SHAPES, "area")]
        asked = questions(names, env.boxes()[: len(names)], np.random.default_rng(seed), possible)
        print(f"{task}, seed {seed}: {env.scenario.prompt}")
        for one in asked:
            print(f"{one.question} {one.answer}")
