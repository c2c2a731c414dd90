"""A planner that writes code, asked about held-out demonstrations step by step. Figures: `code_metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from keystep.bars import progress_bar
from keystep.code.trace import comment, is_keystep
from keystep.train.code_metrics import FirstKeystep, StepReply, code_metrics

WINDOW_STEPS = 6
"""How many steps before and after a border the next key-step is looked for."""


class ShownEpisode(Protocol):
    """A demonstration as the planner is asked about it.

    Attributes:
        task: name, for reports.
        codes, keysteps: its trace, one entry per control step.
    """

    task: str
    codes: Sequence[str]
    keysteps: Sequence[bool]

    def prompt(self, step: int, memory: Sequence[str]) -> list[int]:
        """Tokens of the question at a control step."""
        ...

    def shown(self, step: int) -> tuple[Any, Any]:
        """What is seen there, and proprioception, as `ReplyWriter.write` takes them."""
        ...


class Writes(Protocol):
    """`keystep.models.code_planner.writing.ReplyWriter`, or another writer of the same replies."""

    def reset(self) -> None: ...

    def write(
        self,
        prompt: Sequence[int],
        seen: Any = None,
        proprioception: Any = None,
        way: str = "greedy",
        last: str = "",
    ) -> Any: ...


def evaluate_replies(
    writer: Writes, episodes: Iterable[ShownEpisode], every: int = 4, window: int = WINDOW_STEPS
) -> dict[str, Any]:
    """Figures of `code_metrics`, over all episodes.

    Args:
        every: of the steps at which a call goes on, one of so many is asked about; all key-steps are.
        window: see `WINDOW_STEPS`.

    Raises:
        ValueError: `every` or `window` is below 1.
    """
    for name, value in {"every": every, "window": window}.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    replies: list[StepReply] = []
    firsts: list[FirstKeystep] = []
    with progress_bar() as progress:
        for episode in progress.track(episodes, description="replies"):
            writer.reset()
            replies += step_replies(writer, episode, every, window)
            firsts += first_keysteps(writer, episode, window)
    return code_metrics(replies, firsts)


def step_replies(
    writer: Writes, episode: ShownEpisode, every: int, window: int = WINDOW_STEPS
) -> list[StepReply]:
    """Replies with the demonstration's own memory."""
    found, memory = [], list[str]()
    going_on = [step for step, keystep in enumerate(episode.keysteps) if not keystep]
    asked = {step for step in going_on if step % every == 0}
    soon = {step for border in _borders(episode)[1:] for step in range(border - window, border)}
    for step, (code, keystep) in enumerate(zip(episode.codes, episode.keysteps, strict=True)):
        if keystep or step in asked:
            written = _written(writer, episode, step, memory)
            steps = 1.0 if keystep else len(going_on) / len(asked)
            found.append(StepReply(episode.task, written, code, bool(keystep), steps, step in soon))
        if keystep:
            memory.append(code)
    return found


def first_keysteps(writer: Writes, episode: ShownEpisode, window: int) -> list[FirstKeystep]:
    """When each key-step but the first, which nothing precedes, comes with a memory of those before it.

    It is looked for between the borders beside its own, and at most `window` steps away.
    """
    borders = _borders(episode)
    ends = [*borders[1:], len(episode.codes)]
    found = []
    for number in range(1, len(borders)):
        border, memory = borders[number], [episode.codes[step] for step in borders[:number]]
        steps = range(max(border - window, borders[number - 1] + 1), min(border + window + 1, ends[number]))
        at, written = None, ""
        for step in steps:
            written = _written(writer, episode, step, memory)
            if is_keystep(written):
                at = step
                break
        found.append(FirstKeystep(episode.task, border, at, written, episode.codes[border]))
    return found


def _borders(episode: ShownEpisode) -> list[int]:
    return [step for step, keystep in enumerate(episode.keysteps) if keystep]


def _written(writer: Writes, episode: ShownEpisode, step: int, memory: Sequence[str]) -> str:
    last = comment(memory[-1]) if memory else ""
    return str(writer.write(episode.prompt(step, memory), *episode.shown(step), "draft", last).text)
