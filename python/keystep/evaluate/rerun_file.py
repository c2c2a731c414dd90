"""A recording of an episode for the viewer Rerun (https://rerun.io): what was seen, planned and done.

It is written to a file, never sent to a viewer that listens, which may hold up whoever sends. Who must not
wait for a disk either writes a trace: `keystep.load(trace=...)`. Needs the package rerun-sdk.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.runtime import Observation
from keystep.telemetry import Telemetry

JPEG_QUALITY = 90
TIMELINE = "tick"


class RerunPolicy:
    """A policy that writes down what it sees and does; else it is the policy. Close it to finish the file.

    Entities: `camera/NAME`, `state/KEY`, `action`, `plan/...` (what each plan imagines, and `plan/subgoal`,
    the index of the current one), `ms/STAGE` (that ended since the tick before, on whatever thread),
    `told`; in async mode also `loop/left` and `loop/delay`, in actions, and in `told` the cause where the
    policy had none. The timeline `tick` counts actions from 0.
    """

    def __init__(self, policy: keystep.Runtime, file: Path) -> None:
        import rerun

        self._rerun, self._policy = rerun, policy
        self._stream = rerun.RecordingStream("keystep")
        self._stream.save(file)
        self._ticks, self._plans = 0, 0
        self._stages = policy.latency().stages
        self._loop = _telemetry(policy)  # None: lockstep, which has none
        names = policy.manifest["action"]["names"]
        self._stream.log("action", rerun.SeriesLines(names=names), static=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def reset(self, *told: Any, **options: Any) -> None:
        """As `Runtime.reset`."""
        self._policy.reset(*told, **options)
        self._plans = 0
        about = options.get("instruction") or options.get("task") or (told[0] if told else None)
        self._stream.set_time(TIMELINE, sequence=self._ticks)
        self._stream.log("told", self._rerun.TextLog(str(about or "no task")))

    def act(self, observation: Observation) -> np.ndarray:
        """As `Runtime.act`."""
        self._stream.set_time(TIMELINE, sequence=self._ticks)
        self._see(observation)
        try:
            action = self._policy.act(observation)
        except keystep.PolicyError as error:
            self._stream.log("told", self._rerun.TextLog(str(error), level="ERROR"))
            raise
        self._stream.log("action", self._rerun.Scalars(action))
        self._show_times()
        self._show_loop()
        if self._policy.manifest["planner"]:
            self._show_plan()
        self._ticks += 1
        return action

    def finish(self, success: bool) -> None:
        """How the episode ended."""
        self._stream.log("told", self._rerun.TextLog("success" if success else "failure"))

    def close(self) -> None:
        """Finish the file, and close the policy."""
        self._stream.flush()
        self._stream.disconnect()
        self._policy.close()

    def _see(self, observation: Observation) -> None:
        for key, value in observation.items():
            if isinstance(value, np.ndarray) and value.ndim == 1:
                self._stream.log(f"state/{_short(key)}", self._rerun.Scalars(value))
            elif isinstance(value, np.ndarray) and value.ndim == 3:
                self._stream.log(f"camera/{_short(key)}", self._picture(value))
            elif isinstance(value, np.ndarray) and value.ndim == 2:
                self._stream.log(f"camera/{_short(key)}", self._rerun.DepthImage(value, meter=1.0))

    def _show_times(self) -> None:
        before, self._stages = self._stages, self._policy.latency().stages
        for name, stage in self._stages.items():
            old = before[name]
            if stage.count > old.count:
                spent_us = stage.mean_us * stage.count - old.mean_us * old.count
                self._stream.log(f"ms/{name}", self._rerun.Scalars(spent_us / 1e3))

    def _show_loop(self) -> None:
        before, self._loop = self._loop, _telemetry(self._policy)
        if before is None or self._loop is None:
            return
        self._stream.log("loop/left", self._rerun.Scalars(self._loop.left))
        self._stream.log("loop/delay", self._rerun.Scalars(self._loop.delay))
        for cause, count in self._loop.underruns.items():
            if count > before.underruns[cause]:
                self._stream.log("told", self._rerun.TextLog(f"no action: {cause}", level="WARN"))

    def _show_plan(self) -> None:
        progress = self._policy.plan_progress
        self._stream.log("plan/subgoal", self._rerun.Scalars(progress["subgoal"]))
        if progress["plans"] == self._plans:
            return
        self._plans = progress["plans"]
        for key, subgoals in (self._policy.plan() or {}).items():
            for number, subgoal in enumerate(subgoals):
                picture = self._picture(subgoal) if subgoal.ndim == 3 else self._rerun.BarChart(subgoal)
                self._stream.log(f"plan/{_short(key)}/{number}", picture)

    def _picture(self, image: np.ndarray) -> Any:
        return self._rerun.Image(image).compress(jpeg_quality=JPEG_QUALITY)


def _telemetry(policy: keystep.Runtime) -> Telemetry | None:
    try:
        return policy.telemetry()
    except keystep.ArgumentError:
        return None


def _short(key: str) -> str:
    """ "observation.images.static" -> "static"."""
    return key.removeprefix("observation.").removeprefix("images.")
