"""Episodes of the oracle: its program runs as code, and every control step knows the code it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from keystep.envs.tabletop.environment import TabletopEnv
from keystep.envs.tabletop.scenario import Scenario
from keystep.oracle.api import Oracle
from keystep.oracle.executor import Executor, Result
from keystep.oracle.outcome import Outcome
from keystep.oracle.programs import program, render
from keystep.oracle.trace import CodeTrace

OnStep = Callable[[dict[str, np.ndarray], np.ndarray], None]


@dataclass
class Episode:
    """How an episode went.

    Attributes:
        success: the task's predicate held at the end.
        outcome: of the last call; SUCCESS when the program came to its end.
        reason: why it did not.
        trace: the code of every control step.
        calls: names of the actions called, in order.
        steps: control steps.
    """

    prompt: str
    names: list[str]
    trace: CodeTrace = field(default_factory=CodeTrace)
    success: bool = False
    outcome: Outcome = Outcome.SUCCESS
    reason: str = ""
    calls: list[str] = field(default_factory=list)
    steps: int = 0

    @property
    def api_calls(self) -> int:
        """As the paper counts them: without `done()`."""
        return sum(name != "done" for name in self.calls)

    def note(self, result: Result) -> None:
        self.calls += result.calls
        self.outcome, self.reason = result.outcome, result.reason


def play(env: Any, seed: int, on_step: OnStep | None = None) -> Episode:
    """The oracle's program for an environment's task, from a reset with `seed` to its end.

    Args:
        env: a tabletop environment, wrapped or not.
        on_step: called before every control step with what was seen and the action.
    """
    env = env.unwrapped
    return run_program(env, env.reset(seed=seed)[0], program(env.task.name, env.scenario), on_step)


def run_program(
    env: TabletopEnv,
    observation: dict[str, np.ndarray],
    templates: tuple[str, ...],
    on_step: OnStep | None = None,
) -> Episode:
    """Runs key-steps, code in which roles stand for actors, on an environment that was just reset."""
    scenario = env.scenario
    episode = Episode(scenario.prompt, [body.thing.name for body in scenario.bodies])

    def step(seen: dict[str, np.ndarray], action: np.ndarray) -> None:
        episode.trace.step()
        if on_step is not None:
            on_step(seen, action)

    oracle = Oracle(env, observation, step)
    executor = Executor(oracle)
    for template in templates:
        code = render(template, references(oracle, scenario))
        episode.trace.begin(code)
        episode.note(executor.run(code))
        if episode.outcome is not Outcome.SUCCESS:
            break
    episode.success, episode.steps = env.success, oracle.motion.steps
    return episode


def references(oracle: Oracle, scenario: Scenario) -> dict[str, str | list[str]]:
    """For each role the code that gets its actors as they are now."""
    names = [body.thing.name for body in scenario.bodies]

    def code(body: int) -> str:
        if names.count(names[body]) == 1:
            return f"get_actor({names[body]!r})"
        return f"get_actor({names[body]!r}, actor_pos={oracle.cell(body)})"

    return {
        role: code(bodies) if isinstance(bodies, int) else [code(body) for body in bodies]
        for role, bodies in scenario.roles.items()
    }
