"""One compiled policy, ticked once per control period. A thin shell around the C++ loop, without torch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from keystep import _core
from keystep.arguments import text
from keystep.candidates import Candidates
from keystep.continuation import continuation_arguments
from keystep.features import feature_of
from keystep.latency import LatencyReport
from keystep.manifests import inputs, parsed
from keystep.run_report import RunReport
from keystep.shared_arrays import SharedArrays
from keystep.telemetry import Telemetry
from keystep.tracing import TraceReport, TraceWarning

Observation = dict[str, Any]
"""By the keys of the manifest's features: vectors float32 (S,), such as `observation.state`, RGB images uint8
(height, width, 3), depth float32 (height, width) in metres; one frame, whatever the history. Optionally
`task` (a name or a known instruction) and `timestamp_us` (when it was taken, by the clock of `load`; of an
external clock with `now_us`, the time it shows now). RGB may have another size where the manifest says
`resize`."""

Subgoals = dict[str, np.ndarray]
"""M subgoals under the observation key they are: `observation.state` float32 (M, S), or
`observation.images.<camera>` uint8 (M, height, width, 3) RGB."""


class TextWarning(UserWarning):
    """The text encoder does not know most of the words of an instruction: the plan may be about anything.

    `load(strict_text=True)` makes it an ArgumentError.
    """


class Runtime:
    """A loaded policy. Made by `keystep.load`; close it, or use it as a context manager.

    One thread ticks; `interrupt` and `replan` may be called from any. The GIL is released while the policy
    computes; in the main thread Ctrl-C ends a computation, and the next `act` begins it anew. Not under
    `asyncio.run`: asyncio's own handler does not raise, so that `act` comes to its end first.

    After `close` every method but `close` raises PolicyError "closed". In a child that was forked after
    loading they raise PolicyError "forked": threads do not come along, so a child loads the bundle itself.
    Properties that describe the bundle stay.
    """

    def __init__(self, core: _core.Runtime) -> None:
        self._core = core
        self._manifest: dict[str, Any] = parsed(core.manifest_json)
        self._planner: dict[str, Any] | None = self._manifest["planner"]
        self._seen_task: object = None  # the last value of observation["task"] that was accepted
        self._context: tuple[Any, ...] | None = None  # of a reset that left the task open
        self._clock: _core.FixedRate | None = None  # of the last run
        self._stopping = False

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

    def run(
        self,
        rate_hz: float | None,
        source: Callable[[], Observation] | SharedArrays,
        sink: Callable[[np.ndarray, str], object] | SharedArrays,
        *,
        periods: int = 0,
        fifo_priority: int = 0,
        cores: Sequence[int] = (),
        lock_memory: bool = False,
        prefault_stack: int = 0,
        wait_s: float = 10.0,
    ) -> RunReport:
        """Tick by our own clock, on a thread of its own, until `stop`; `reset` comes first.

        Periods begin at start + k / rate_hz, by absolute times: nothing drifts. A period that takes longer
        is counted, and the next one begins at the next grid point. A tick that is not ok gives the sink a
        hold, and the run goes on, also while another thread resets; what is not finite is not given to it.
        At the end, whatever ends it, the sink is given the hold once more (status "interrupted") where the
        bundle's has values; what is left of the chunk is not executed by the next run.

        With arrays at both ends no Python runs in a period. What the system refuses is in the report.

        Args:
            rate_hz: 0.001..100000; None: the bundle's control rate.
            source: gives the observation of now, as `act` takes it; or arrays with `observation_fields`.
                While it waits, so do `stop` and Ctrl-C: give what it waits for a limit of time.
            sink: is given the action, float32 (A,), and the tick's status, "ok" or a `PolicyError.status`; or
                arrays with `action_fields`.
            periods: after so many it ends; 0: never.
            fifo_priority: SCHED_FIFO with this priority, 1..99; 0: not asked for.
            cores: that the thread is to run on; (): not asked for.
            lock_memory: mlockall: of the process, also after the run.
            prefault_stack: bytes of the thread's stack to touch first.
            wait_s: so long for the first record of arrays, of a writer that lives.

        Returns:
            How time was kept, and what the system gave. `run_report` has it also where an error ends the run.

        Raises:
            ArgumentError: an argument, or an observation.
            PolicyError: not_reset, closed, forked; busy: another run, or another thread inside for a second.
            Error: no first record; the writer of the source is gone; the sink has another writer.
            Whatever source, sink or a signal's handler (Ctrl-C) raise.
        """
        self._core.check_usable()
        options = (periods, fifo_priority, cores, lock_memory, prefault_stack)
        clock = _core.FixedRate(self._core, 0.0 if rate_hz is None else rate_hz, *options)
        before, self._clock = self._clock, clock
        self._stopping = False
        if isinstance(source, SharedArrays):
            self._await_first(source, wait_s)
        try:
            clock.run(self._seen_by(source), sink._core if isinstance(sink, SharedArrays) else sink)
        except _core.PolicyError as error:
            if error.status == "busy" and clock.report()["periods"] == 0:
                self._clock = before  # the run that is in progress
            raise
        return RunReport.from_dict(clock.report())

    def stop(self) -> None:
        """End the `run` in progress before its next period; without one do nothing. Any thread."""
        self._stopping = True
        if self._clock is not None:
            self._clock.stop()

    def run_report(self) -> RunReport | None:
        """Of the run in progress, or of the last one, however it ended; None before the first. Any thread."""
        return None if self._clock is None else RunReport.from_dict(self._clock.report())

    def _seen_by(self, source: Callable[[], Observation] | SharedArrays) -> Any:
        if isinstance(source, SharedArrays):
            return source._core

        def seen() -> Observation:
            observation = source()
            self._check_task(observation)
            return observation

        return seen

    def _await_first(self, source: SharedArrays, wait_s: float) -> None:
        end = time.monotonic() + wait_s
        while not (source.count and source.has_writer) and not source.ended and not self._stopping:
            if time.monotonic() >= end:
                got = "one of a process that is gone" if source.count else "none"
                raise _core.Error(f"source: expected a record within {wait_s:g} s, got {got}")
            time.sleep(0.001)

    def predict_chunk(
        self,
        observation: Observation,
        noise: np.ndarray | None = None,
        *,
        previous: np.ndarray | None = None,
        delay: int = 0,
        overlap: int | None = None,
        rule: str | None = None,
        decay: str = "exponential",
    ) -> np.ndarray:
        """One whole chunk, float32 (H, A), physical units before the gate; nothing of the episode changes.

        With `previous` it continues the chunk before (docs/merging.md): its rows below `delay`, counted from
        the manifest's `chunk.start`, are those of `previous`, exactly. In async mode this, `predict_plan` and
        `predict_candidates` raise PolicyError "busy".

        Args:
            noise: float32 (H, A), or (K, H, A): the initial noise, then that of each denoise step that needs
                some; None: the generator's, for the next chunk of this episode.
            previous: float32 (rows, A), up to H rows: the old chunk's actions that are not executed yet, in
                physical units, from the one that executes now. None: a chunk of its own.
            delay: actions that will be consumed before the new chunk begins to act.
            overlap: of x0blend: the first row that is wholly new, `delay` or more; None: H - delay, or where
                `previous` ends.
            rule: x0blend, trained (a bundle trained with `--rtc`, `delay` up to its `chunk.max_delay`), or
                none; None: trained where the bundle is, else x0blend.
            decay: of x0blend: exponential or linear, how the old chunk's weight falls from delay to overlap.
        """
        self._check_task(observation)
        continued = continuation_arguments(self._manifest, previous, delay, overlap, rule, decay)
        return self._core.predict_chunk(observation, noise, *continued)

    def predict_plan(
        self, observation: Observation, noise: np.ndarray | None = None, *, as_float: bool = False
    ) -> Subgoals:
        """One whole plan for one observation, in physical units; nothing of the episode changes.

        Args:
            noise: float32 (M, S) or (M, 3, height, width), or K of them: the initial noise, then that of each
                denoise step that needs some; None: the generator's, for the next plan of this episode. With
                N > 1 candidates (N, M, ..), or K of them.
            as_float: images as the planner made them, float32 (M, 3, height, width), 0..1 from black to white
                and a little beyond; else uint8 (M, height, width, 3). States are float32 (M, S) either way.

        Raises:
            ArgumentError: the bundle has no planner.
            PolicyError: as `act`; "rejected_plan": NaN or Inf in it.
        """
        self._check_task(observation)
        return self._subgoals(self._core.predict_plan(observation, noise), as_float)

    def predict_candidates(
        self, observation: Observation, noise: np.ndarray | None = None, *, as_float: bool = False
    ) -> Candidates:
        """All candidates of a plan for one observation; arguments and errors as of `predict_plan`."""
        self._check_task(observation)
        return self._candidates(self._core.predict_candidates(observation, noise), as_float)

    def candidates(self) -> Candidates | None:
        """What the plan being followed was chosen from; None where there is none, or it was handed in."""
        found = self._core.candidates()
        return None if found is None else self._candidates(found)

    def plan(self) -> Subgoals | None:
        """The plan being followed (or the subgoals handed in), images as uint8.

        None where there is none: before the first `act`, and after a plan that failed.
        """
        plan = self._core.plan()
        return None if plan is None else self._subgoals(plan)

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

    def latency(self) -> LatencyReport:
        """Latency per stage since loading or `reset_latency`; PolicyError "busy" while another acts."""
        return LatencyReport.from_dict(self._core.latency())

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

    def reset_latency(self) -> None:
        """Measure from now on."""
        self._core.reset_latency()

    def trace_report(self) -> TraceReport | None:
        """What is in the trace so far, of all sessions; None without one."""
        tracer = self._core.tracer
        return None if tracer is None else TraceReport(**tracer.report())

    def close(self) -> None:
        """Free the engine; once more does nothing. Frees nothing in a forked child.

        Warns:
            TraceWarning: the trace is not complete.
        """
        was_closed = self._core.closed
        self._core.close()
        if not was_closed and (report := self.trace_report()) is not None and report.incomplete:
            warnings.warn(report.incomplete, TraceWarning, stacklevel=2)

    @property
    def manifest(self) -> dict[str, Any]:
        """The bundle's manifest.json, see docs/bundle.md."""
        return self._manifest

    @property
    def task_names(self) -> list[str]:
        """The tasks that the bundle names; empty for a policy without any."""
        return [task["name"] for task in self._manifest["tasks"]]

    @property
    def description(self) -> str:
        """Engines, provider and threads, e.g. "onnxruntime 1.31.1, cpu, 2 threads"."""
        return self._core.engine_description

    @property
    def engine_choices(self) -> list[dict[str, str]]:
        """Of each graph in use: its `file`, the `engine` that runs it, and the `reason`."""
        return self._core.engine_choices

    def __repr__(self) -> str:
        """Bundle, family, engine, inputs and outputs, a line each."""
        try:
            self._core.check_usable()
            engine = self._core.engine_description
        except _core.PolicyError as error:
            engine = error.status
        manifest = self._manifest
        lines = [
            f"keystep.Runtime {manifest['name']!r}",
            f"family {manifest['family']}, {manifest['control_rate_hz']:g} Hz",
            f"engine {engine}",
            f"inputs {', '.join(inputs(manifest))}",
            f"outputs action float32 ({len(manifest['action']['names'])},)",
        ]
        return f"<{'; '.join(lines)}>"

    def __enter__(self) -> Runtime:
        self._core.check_usable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

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

    def _subgoals(self, plan: np.ndarray, as_float: bool = False) -> Subgoals:
        """Images to what a camera gives, unless floats are wanted."""
        assert self._planner is not None
        key = self._planner["subgoal"]
        image = feature_of(self._manifest, key)[0].is_image
        if image and not as_float:
            plan = (np.moveaxis(plan, -3, -1).clip(0, 1) * 255).round().astype(np.uint8)
        return {key: plan}

    def _candidates(self, found: tuple[np.ndarray, np.ndarray, int], as_float: bool = False) -> Candidates:
        plans, scores, chosen = found
        return Candidates(self._subgoals(plans, as_float), scores, chosen)
