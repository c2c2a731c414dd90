"""One compiled policy, ticked once per control period. A thin shell around the C++ loop, without torch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from keystep import _core
from keystep.arguments import text
from keystep.loaded import Loaded
from keystep.manifests import inputs
from keystep.observations import Observation, Subgoals
from keystep.runtime_clock import RuntimeClock
from keystep.runtime_predictions import RuntimePredictions
from keystep.runtime_serving import RuntimeServing
from keystep.telemetry import Telemetry


class TextWarning(UserWarning):
    """The text encoder does not know most of the words of an instruction: the plan may be about anything.

    `load(strict_text=True)` makes it an ArgumentError.
    """


class Runtime(Loaded, RuntimeClock, RuntimePredictions, RuntimeServing):
    """A loaded policy. Made by `keystep.load`; close it, or use it as a context manager.

    One thread ticks; `interrupt` and `replan` may be called from any. The GIL is released while the policy
    computes; in the main thread Ctrl-C ends a computation, and the next `act` begins it anew. Not under
    `asyncio.run`: asyncio's own handler does not raise, so that `act` comes to its end first.

    After `close` every method but `close` raises PolicyError "closed". In a child that was forked after
    loading they raise PolicyError "forked": threads do not come along, so a child loads the bundle itself.
    Properties that describe the bundle stay.
    """

    def __init__(self, core: _core.Runtime) -> None:
        super().__init__(core)
        self._seen_task: object = None  # the last value of observation["task"] that was accepted
        self._context: tuple[Any, ...] | None = None  # of a reset that left the task open

    def session(self) -> Runtime:
        """Another session on the same weights: an episode, noise, plan and latencies of its own.

        It takes memory for its buffers only, and may run on another thread: one thread per session. Each is
        closed by itself; the weights are freed with the last.

        Raises:
            PolicyError: closed.
        """
        return Runtime(self._core.session())

    def reset(
        self,
        task: str | None = None,
        goal: Observation | None = None,
        seed: int = 0,
        episode: int = 0,
        *,
        instruction: str | None = None,
        guidance: float | None = None,
        subgoals: Subgoals | None = None,
    ) -> None:
        """Start an episode. (seed, episode) determine its noise.

        With neither task, instruction nor subgoals, a policy that needs a task takes it from
        `observation["task"]` of the first `act`.

        Args:
            task: one of `task_names`, or word for word its instruction.
            goal: with the keys of an observation; exactly when the bundle's goal is "observation".
            instruction: in place of `task`, with a planner: any sentence. Else word for word that of a task.
            guidance: lambda of plans, 0 or more: eps = (1 + lambda) conditional - lambda unconditional; None:
                as the bundle says.
            subgoals: in place of plans. The planner is never asked, and the last one stays.

        Warns:
            TextWarning: the text encoder does not know most of the words of `instruction`.

        Raises:
            ArgumentError: unknown task, or a text no encoder takes; goal missing, unwanted, or of the wrong
                shape; guidance of a planner trained without dropout; subgoals of wrong count, shape or NaN.
                The episode before goes on.
        """
        self._core.check_usable()
        if task is not None:
            text("task", task)
        if instruction is not None:
            self._check_instruction(instruction)
        open_task = task is None and instruction is None and subgoals is None and self._core.needs_task
        if open_task:  # of any, until the first observation says which
            task = next(iter(self.task_names), None)
        context = (goal, seed, episode, guidance, subgoals)
        self._core.reset(task or "", instruction or "", *context)
        self._context = context if open_task else None
        self._seen_task = None

    def act(self, observation: Observation) -> np.ndarray:
        """One control period: the next action, float32 (A,), in the units of the action spec.

        Arrays must have exactly the dtype, shape and C order of the observation spec: nothing is converted.

        In async mode it never waits: while there is no action of the policy it gives what `underrun` says,
        which `telemetry` counts.

        Raises:
            ArgumentError: a key is missing or unknown; an array has the wrong dtype, shape or layout.
            PolicyError: the tick was not ok; `status` says why (NaN in it, act before reset, ...). The robot
                is to hold: `manifest["action"]["hold"]` has the values, or says that the last action stands.
        """
        self._check_task(observation)
        return self._core.act(observation)

    @property
    def plan_progress(self) -> dict[str, int]:
        """`plans` made since reset, index of the current `subgoal`, `actions` taken on it (0, 0: no plan)."""
        return self._core.plan_progress()

    def replan(self) -> None:
        """Make the next `act` plan anew and drop the rest of the chunk. Any thread.

        Raises:
            ArgumentError: the bundle has no planner.
        """
        self._core.replan()

    def interrupt(self) -> None:
        """Drop the rest of the chunk and abort a plan or sample in flight; `act` renews it. Any thread."""
        self._core.interrupt()

    def telemetry(self) -> Telemetry:
        """What the asynchronous loop does: underruns by cause, delays, what is left. Any thread, at any time.

        Raises:
            ArgumentError: the mode is lockstep, in which there is none but in virtual time.
        """
        self._core.check_usable()
        if self._core.mode != "async" and not self._core.virtual_time:
            raise _core.ArgumentError(
                _core.expected("mode", "async (telemetry is of its loop)", self._core.mode)
            )
        return Telemetry(**self._core.telemetry())

    @property
    def task_names(self) -> list[str]:
        """The tasks that the bundle names; empty for a policy without any."""
        return [task["name"] for task in self._manifest["tasks"]]

    def __repr__(self) -> str:
        """Bundle, family, engine, inputs and outputs, a line each."""
        manifest = self._manifest
        lines = [
            f"keystep.Runtime {manifest['name']!r}",
            f"family {manifest['family']}, {manifest['control_rate_hz']:g} Hz",
            f"engine {self._engine_or_state()}",
            f"inputs {', '.join(inputs(manifest))}",
            f"outputs action float32 ({len(manifest['action']['names'])},)",
        ]
        return f"<{'; '.join(lines)}>"

    def _check_task(self, observation: Observation) -> None:
        task = observation.get("task") if isinstance(observation, dict) else None
        if task is not self._seen_task or self._context is not None:
            self._accept_task(task)

    def _accept_task(self, task: object) -> None:
        """Compare `observation["task"]` with the episode's, or start the episode left open with it."""
        self._core.check_usable()
        if self._context is not None:
            self._core.reset(self._task_name(task), "", *self._context)
            self._context = None
        elif task is not None and (about := self._core.about()) and not self._core.is_about(task):
            raise _core.ArgumentError(_core.expected("task", f"{about!r} as given to reset", task))
        self._seen_task = task

    def _task_name(self, task: object) -> str:
        if not isinstance(task, str):
            wanted = "one of " + ", ".join(self.task_names)
            raise _core.ArgumentError(_core.expected("task", wanted, task))
        return self._core.find_task(text("task", task))

    def _check_instruction(self, instruction: str) -> None:
        if not text("instruction", instruction):
            raise _core.ArgumentError("instruction: expected a sentence, got ''")
        if warning := self._core.text_warning(instruction):
            warnings.warn(warning, TextWarning, stacklevel=3)
