"""One tabletop episode of the oracle's program or of code from a file, printed while it runs; as a video.

What is printed is such a file itself: remarks are comments, blank lines part the key-steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np

import keystep
from keystep.code.grammar import CodeError, parse
from keystep.code.grid import GRID, check_grid
from keystep.code.outcome import Outcome
from keystep.code.questions import questions
from keystep.commands.video import RATE_HZ, write_video
from keystep.evaluate import code_video
from keystep.suites.base import check_seed
from keystep.suites.tabletop import env_id
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.layout import CONTROL_RATE_HZ
from keystep.suites.tabletop.objects import COLOURS, SHAPES
from keystep.suites.tabletop.oracle.api import Oracle
from keystep.suites.tabletop.oracle.episodes import OracleEpisode, programmed, run

MAX_FILE_BYTES = 1 << 20
"""Of a file of code: many more than the longest episode needs."""


class KeyStep(NamedTuple):
    """Code, and the line of its file where it starts."""

    code: str
    line: int = 1


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def play_one(
    task: str, seed: int, code: Path | None = None, video: Path | None = None, grid: int = GRID
) -> None:
    """Play and print an episode.

    Args:
        code: a file of key-steps to run instead of the oracle's program.
        video: the file to write a video to.
        grid: in whose cells the code says places.

    Raises:
        CodeError: the grammar refuses the file; nothing of it has run.
        RuntimeError: a video is asked for on a machine without a Vulkan driver.
    """
    check_grid(grid)
    check_seed(seed)
    written = read_code(code) if code is not None else None
    with closing(open_env(task, visible=video is not None)) as env:
        observation, _ = env.reset(seed=seed)
        print(f"# {task}, seed {seed}: {env.scenario.prompt}\n")
        episode, actions = perform(env, observation, written, str(code or ""), grid)
        if video is not None:
            if not actions:
                raise keystep.Error("video: expected at least one control step to show, got none")
            write_video(video, film(env, seed, episode, actions))


def open_env(task: str, visible: bool = False) -> TabletopEnv:
    env = gymnasium.make(
        env_id(task),
        terminate_on_success=False,
        render_mode="rgb_array" if visible else None,
        image_size=code_video.WIDTH,
    ).unwrapped
    assert isinstance(env, TabletopEnv)
    return env


def read_code(path: Path) -> list[KeyStep]:
    """The key-steps of a file: the texts between blank lines, without those of comments only.

    Raises:
        CodeError: the grammar refuses one; the line is that of the file.
        ValueError: there is none, or the file is no text or too large.
    """
    found = []
    for step in texts(_read(path)):
        try:
            statements = parse(step.code)
        except CodeError as error:
            raise CodeError(step.line + error.line - 1, error.column, error.problem) from None
        if statements:
            found.append(step)
    if not found:
        raise ValueError(f"code: expected at least one line that is not a comment, got none in {path}")
    return found


def _read(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"code: expected a file of at most {MAX_FILE_BYTES} bytes, got more in {path}")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"code: expected UTF-8 text in {path}, got {error}") from None
    return text.replace("\r\n", "\n")


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
    env: TabletopEnv,
    observation: dict[str, np.ndarray],
    written: Sequence[KeyStep] | None = None,
    source: str = "",
    grid: int = GRID,
) -> tuple[OracleEpisode, list[np.ndarray]]:
    """Runs key-steps on an environment that was just reset, and prints each while it runs.

    Args:
        written: instead of the oracle's program.
        source: the file they are from, to say where they stop.
        grid: in whose cells they say places.

    Returns:
        The episode, and the actions (7,) of its control steps.
    """
    actions: list[np.ndarray] = []
    run_steps: list[KeyStep] = []

    def keysteps(oracle: Oracle) -> Iterator[str]:
        for step in written if written is not None else map(KeyStep, programmed(oracle)):
            print(step.code, end="", flush=True)
            run_steps.append(step)
            yield step.code

    episode = run(
        env,
        observation,
        keysteps,
        lambda seen, action: actions.append(action),
        lambda result: print(f"  # {counted(result.steps, 'step')}\n"),
        grid,
    )
    print(f"# {summary(episode, run_steps[-1], source)}")
    return episode, actions


def summary(episode: OracleEpisode, last: KeyStep, source: str) -> str:
    verdict = "solved" if episode.success else "not solved"
    seconds = episode.steps / CONTROL_RATE_HZ
    text = f"{verdict} after {counted(episode.steps, 'control step')} ({seconds:.1f} s)"
    text += f", {counted(episode.api_calls, 'call')}"
    if episode.result.outcome is Outcome.SUCCESS:
        return text
    return f"{text}; {stopped(episode, last, source)}"


def stopped(episode: OracleEpisode, last: KeyStep, source: str) -> str:
    """Why code stopped, with the line of its file."""
    result = episode.result
    assert result.line is not None
    reason = result.reason.removeprefix(f"line {result.line}, ")
    place = f"{source}, " if source else ""
    return f"{result.outcome.value} at {place}line {last.line + result.line - 1}, {reason}"


def film(
    env: TabletopEnv, seed: int, episode: OracleEpisode, actions: Sequence[np.ndarray]
) -> Iterator[np.ndarray]:
    """The frames of the video, from the same actions again: pictures of an episode would fill the memory."""
    caption = f"{env.task.name}, seed {seed}"
    pictures = views(env, seed, actions)
    trace = episode.trace
    shown = code_video.frames(pictures, trace.codes, trace.keysteps, episode.prompt, caption)
    return code_video.at_rate(shown, CONTROL_RATE_HZ, RATE_HZ)


def views(env: TabletopEnv, seed: int, actions: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """What the base camera sees before every action."""
    env.reset(seed=seed)
    for action in actions:
        yield env.render()
        env.step(action)


def print_questions(task: str, seed: int, grid: int = GRID) -> None:
    """The auxiliary questions about the first picture of an episode, with answers."""
    check_seed(seed)
    with closing(open_env(task)) as env:
        env.reset(seed=seed)
        names = [body.thing.name for body in env.scenario.bodies]
        possible = [f"{colour} {shape}" for colour in COLOURS for shape in (*SHAPES, "area")]
        asked = questions(names, env.boxes()[: len(names)], np.random.default_rng(seed), possible, grid)
        print(f"{task}, seed {seed}: {env.scenario.prompt}")
        for one in asked:
            print(f"{one.question} {one.answer}")
