"""One compiled policy, ticked once per control period. A thin shell around the C++ loop, without torch."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from keystep import _core
from keystep.latency import LatencyReport

Observation = dict[str, Any]
"""`observation.state` float32 (S,), `observation.images.<camera>` uint8 (height, width, 3) RGB, optionally
`task` (name or instruction) and `timestamp_us` (`keystep.now_us()` when it was taken)."""


def load(
    path: str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int = 0,
    engine: str = "onnxruntime",
    optimization: str = "all",
    inference_steps: int = 0,
    deadline_us: float = 0.0,
    max_observation_age_us: int = 0,
    provider_options: dict[str, str] | None = None,
    onnxruntime_library: str | os.PathLike[str] | None = None,
) -> Runtime:
    """Open a bundle.

    Args:
        path: the bundle's folder, `name.keystep`.
        provider: cpu, openvino, cuda or tensorrt.
        threads: threads inside an operator; 0: one per physical core.
        engine: onnxruntime, or stub (no inference; measures the loop itself).
        optimization: none, basic, extended or all graph optimisations.
        inference_steps: denoise steps; 0: as the bundle says.
        deadline_us: of a tick, for counting misses; 0: the control period.
        max_observation_age_us: older stamped observations are refused; 0: no limit.
        provider_options: handed to the provider as they are.
        onnxruntime_library: path of libonnxruntime.so; by default that of the installed onnxruntime wheel.

    Raises:
        BundleError: the bundle is damaged, unsafe, newer, or disagrees with itself.
        ProviderError: the engine or provider is not available; the message names the package that brings it.
        ArgumentError: an option is out of range.
    """
    options = _core.RuntimeOptions()
    options.engine = _engine_options(
        engine, provider, threads, optimization, provider_options, onnxruntime_library
    )
    options.inference_steps = inference_steps
    options.deadline_us = deadline_us
    options.max_observation_age_us = max_observation_age_us
    return Runtime(_core.Runtime(Path(path), options))


def _engine_options(
    engine: str,
    provider: str,
    threads: int,
    optimization: str,
    provider_options: dict[str, str] | None,
    library: str | os.PathLike[str] | None,
) -> _core.EngineOptions:
    options = _core.EngineOptions()
    options.engine = engine
    options.provider = provider
    options.threads = threads
    options.optimization = optimization
    options.provider_options = provider_options or {}
    options.onnxruntime_library = os.fspath(library) if library else find_onnxruntime()
    return options


def find_onnxruntime() -> str:
    """Path of the library in the installed onnxruntime wheel, found without importing it; else "".

    The environment variable KEYSTEP_ONNXRUNTIME, which the C++ loader reads, comes first.
    """
    if "KEYSTEP_ONNXRUNTIME" in os.environ:
        return ""
    spec = importlib.util.find_spec("onnxruntime")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for library in sorted(Path(folder, "capi").glob("libonnxruntime.so.*")):
            return str(library)
    return ""


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest, after checking the bundle and its files as the runtime does. Raises BundleError."""
    return json.loads(_core.read_manifest(Path(path)))


class Runtime:
    """A loaded policy. Made by `keystep.load`; close it, or use it as a context manager.

    One thread ticks; `interrupt` may be called from any. The GIL is released while the policy computes.
    """

    def __init__(self, core: _core.Runtime) -> None:
        self._core = core
        self._manifest: dict[str, Any] = json.loads(core.manifest_json)
        self._tasks: list[dict[str, str]] = self._manifest["tasks"]
        inputs = self._manifest["graphs"]["encode"]["inputs"]
        self._needs_task = any(tensor["role"] == "task" for tensor in inputs)
        self._task: str | None = None  # of this episode, by name
        self._seen_task: object = None  # the last value of observation["task"] that was accepted
        self._context: tuple[Observation | None, int, int] | None = None  # of a reset that left the task open

    def reset(
        self, task: str | None = None, goal: Observation | None = None, seed: int = 0, episode: int = 0
    ) -> None:
        """Start an episode. (seed, episode) determine its noise.

        Args:
            task: a task's name or its instruction; None: taken from `observation["task"]` of the first `act`.
            goal: with the keys of an observation; exactly when the bundle's goal is "observation".

        Raises:
            ArgumentError: unknown task; goal missing, unwanted, or of the wrong shape.
        """
        open_task = task is None and self._needs_task
        self._core.reset(self._tasks[0]["name"] if open_task else task or "", goal, seed, episode)
        self._context = (goal, seed, episode) if open_task else None
        self._task = None if task is None else self._task_name(task)
        self._seen_task = None

    def act(self, observation: Observation) -> np.ndarray:
        """One control period: the next action, float32 (A,), in the units of the action spec.

        Arrays must have exactly the dtype, shape and C order of the observation spec: nothing is converted.

        Raises:
            ArgumentError: a key is missing or unknown; an array has the wrong dtype, shape or layout.
            PolicyError: the tick was not ok; `status` says why (NaN in it, act before reset, ...).
        """
        self._check_task(observation)
        return self._core.act(observation)

    def predict_chunk(self, observation: Observation, noise: np.ndarray | None = None) -> np.ndarray:
        """One whole chunk, float32 (H, A), physical units before the gate; nothing of the episode changes.

        Args:
            noise: float32 (H, A), or (K, H, A): the initial noise, then that of each denoise step that needs
                some; None: the generator's, for the next chunk of this episode.
        """
        self._check_task(observation)
        return self._core.predict_chunk(observation, noise)

    def interrupt(self) -> None:
        """Drop the rest of the chunk and abort a sample in flight; the next `act` renews it. Any thread."""
        self._core.interrupt()

    def latency(self) -> LatencyReport:
        """Latency per stage since loading or `reset_latency`; PolicyError "busy" while another acts."""
        return LatencyReport.from_dict(self._core.latency())

    def reset_latency(self) -> None:
        self._core.reset_latency()

    def close(self) -> None:
        """Free the engine. Using the runtime afterwards raises PolicyError with status "closed"."""
        self._core.close()

    @property
    def manifest(self) -> dict[str, Any]:
        return self._manifest

    @property
    def task_names(self) -> list[str]:
        return [task["name"] for task in self._tasks]

    @property
    def description(self) -> str:
        """Engine, provider and threads, e.g. "onnxruntime 1.31.1, cpu, 2 threads"."""
        return self._core.engine_description

    def __enter__(self) -> Runtime:
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
        if self._context is not None:
            name = self._task_name(task)
            goal, seed, episode = self._context
            self._core.reset(name, goal, seed, episode)
            self._task, self._context = name, None
        elif task is not None and self._task is not None and self._task_name(task) != self._task:
            raise _core.ArgumentError(f"task: expected {self._task!r} as given to reset, got {task!r}")
        self._seen_task = task

    def _task_name(self, task: object) -> str:
        for candidate in self._tasks:
            if task in (candidate["name"], candidate["instruction"]):
                return candidate["name"]
        raise _core.ArgumentError(f"task: expected one of {', '.join(self.task_names)}, got {task!r}")
