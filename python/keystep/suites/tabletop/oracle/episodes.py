"""Episodes of the oracle: its program runs as code, and every control step knows the code it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from keystep.code.executor import Executor, Result
from keystep.code.grid import GRID, Cell
from keystep.code.outcome import Outcome
from keystep.code.trace import CodeTrace
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.api import Oracle
from keystep.suites.tabletop.oracle.motion import OnStep
from keystep.suites.tabletop.oracle.programs import program, render
from keystep.suites.tabletop.scenario import Scenario

KeySteps = Callable[[Oracle], Iterable[str]]
"""Gives the code of key-steps, the next one when the one before has ended."""
OnResult = Callable[[Result], None]


class Whereabouts(Protocol):
    """Tells cells of the grid."""

    def cell(self, body: int) -> Cell: ...

    def free_cell(self, body: int) -> Cell:
        """Of the place that `free_space` of the body would give."""


@dataclass
class OracleEpisode:
    """How an episode went.

    Attributes:
        prompt: the task in words.
        names: of the bodies.
        success: the task's predicate held at the end.
        result: of the last key-step; the code came to its end if it is a SUCCESS.
        trace: the code of every control step.
        calls: names of the actions called, in order.
        steps: control steps.
    """

    prompt: str
    names: list[str]
    trace: CodeTrace = field(default_factory=CodeTrace)
    success: bool = False
    result: Result = field(default_factory=lambda: Result(Outcome.SUCCESS))
    calls: list[str] = field(default_factory=list)
    steps: int = 0

    @property
    def reason(self) -> str:
        """Why the code did not come to its end; "" when it did."""
        return self.result.reason

    @property
    def api_calls(self) -> int:
        """As the paper counts them: without `done()`."""
        return sum(name != "done" for name in self.calls)


def play(env: Any, seed: int, on_step: OnStep | None = None, grid: int = GRID) -> OracleEpisode:
    """The oracle's program for an environment's task, from a reset with `seed` to its end.

    Args:
        env: a tabletop environment, wrapped or not.
        on_step: called before every control step with what was seen and the action.
        grid: in whose cells the code says places.
    """
    env = env.unwrapped
    return run(env, env.reset(seed=seed)[0], programmed, on_step, grid=grid)


def programmed(oracle: Oracle) -> Iterator[str]:
    """The key-steps of the oracle's own program, each written when the one before has ended."""
    scenario = oracle.env.scenario
    for template in program(oracle.env.task.name, scenario):
        yield render(template, References(oracle, scenario))


def run(
    env: TabletopEnv,
    observation: dict[str, np.ndarray],
    keysteps: KeySteps,
    on_step: OnStep | None = None,
    on_result: OnResult | None = None,
    grid: int = GRID,
) -> OracleEpisode:
    """Runs key-steps on an environment that was just reset, up to the first that does not succeed.

    Args:
        keysteps: gives them; a text without a control step belongs to the next one in the trace. The executor
            ends an episode whose texts go on without one.
        on_step: called before every control step with what was seen and the action; may raise Interrupted.
        on_result: called after every key-step.
        grid: in whose cells the code says places.

    Raises:
        CodeError: the grammar refuses a key-step; those before it have run.
    """
    scenario = env.scenario
    episode = OracleEpisode(scenario.prompt, [body.thing.name for body in scenario.bodies])
    started: list[str] = []

    def step(seen: dict[str, np.ndarray], action: np.ndarray) -> None:
        if on_step is not None:
            on_step(seen, action)
        if started:
            episode.trace.begin("\n".join(started))
            started.clear()
        episode.trace.step()

    oracle = Oracle(env, observation, step, grid)
    executor = Executor(oracle)
    for code in keysteps(oracle):
        started.append(code)
        result = episode.result = executor.run(code)
        episode.calls += result.calls
        if on_result is not None:
            on_result(result)
        if result.outcome is not Outcome.SUCCESS:
            break
    episode.success, episode.steps = env.success, oracle.motion.steps
    return episode


class References(Mapping[str, str | list[str]]):
    """For each role the code that gets its actors as they are now; see `programs.render` for `A@` and `A+`.

    Places are looked up when they are asked for: a free one takes milliseconds.
    """

    def __init__(self, scene: Whereabouts, scenario: Scenario) -> None:
        self._scene, self._scenario = scene, scenario
        self._names = [body.thing.name for body in scenario.bodies]

    def __getitem__(self, role: str) -> str | list[str]:
        bodies = self._scenario.roles[role.rstrip("@+")]
        if role[-1] == "+":
            if not isinstance(bodies, int):
                raise KeyError(role)
            return str(self._scene.free_cell(bodies))
        sure = role[-1] == "@"
        return (
            self._code(bodies, sure)
            if isinstance(bodies, int)
            else [self._code(body, sure) for body in bodies]
        )

    def _code(self, body: int, with_cell: bool) -> str:
        name = self._names[body]
        if not with_cell and self._names.count(name) == 1:
            return f"get_actor({name!r})"
        return f"get_actor({name!r}, actor_pos={self._scene.cell(body)})"

    def __iter__(self) -> Iterator[str]:
        return iter(self._scenario.roles)

    def __len__(self) -> int:
        return len(self._scenario.roles)
