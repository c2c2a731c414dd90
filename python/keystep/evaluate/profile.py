"""Where the time of an action goes, measured on the bundle's golden observations: no simulator needed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

import keystep
from keystep.features import features_of
from keystep.latency import LatencyReport
from keystep.machine import describe_machine, peak_memory_mb, resident_memory_mb
from keystep.notebook import html_lines
from keystep.runtime import Observation

WARM_UP_CHUNKS = 3


@dataclass(frozen=True)
class ProfileReport:
    """Figures of one process with one bundle; printable.

    Attributes:
        inference_steps: denoise steps of a chunk; 0 for a controller without any.
        provider: engine, provider and threads in use.
        act_from_chunk_us: median of a whole `act` from Python when the action is taken from the chunk; None
            when every action renews the chunk.
        allocations_per_tick: heap allocations of keystep's own code inside `tick`, counted by replacing
            operator new in the extension; ONNX Runtime's are not included.
        loaded_memory_mb, peak_memory_mb: resident memory of the process after loading and at its highest
            (10^6 bytes).
    """

    bundle: str
    provider: str
    inference_steps: int
    ticks: int
    load_ms: float
    act_from_chunk_us: float | None
    allocations_per_tick: float
    loaded_memory_mb: float
    peak_memory_mb: float
    latency: LatencyReport
    machine: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        return asdict(self)

    def plot(self) -> Any:
        """A matplotlib figure of the latency per stage. Needs matplotlib."""
        figure = self.latency.plot()
        figure.suptitle(f"{self.bundle}: {self.provider}", fontsize="small")
        return figure

    def _repr_html_(self) -> str:
        above, below = (html_lines("\n".join(lines)) for lines in (self._above(), self._below()))
        return above + self.latency._repr_html_() + below

    def __str__(self) -> str:
        return "\n".join([*self._above(), "", str(self.latency), *self._below()])

    def _above(self) -> list[str]:
        machine = self.machine
        return [
            f"{self.bundle}: {self.provider}, {self.inference_steps} denoise steps, {self.ticks} ticks",
            ", ".join(f"{name} {machine[name]}" for name in ("cpu", "cores", "kernel", "commit")),
        ]

    def _below(self) -> list[str]:
        from_chunk = f"{self.act_from_chunk_us:.1f} us" if self.act_from_chunk_us is not None else "-"
        return [
            f"act from Python, action from the chunk: {from_chunk} (median)",
            f"allocations per tick (keystep's own code): {self.allocations_per_tick:g}",
            f"loading {self.load_ms:,.0f} ms; memory {self.loaded_memory_mb:,.0f} MB loaded, "
            f"{self.peak_memory_mb:,.0f} MB peak",
        ]


def profile(
    bundle: Path,
    ticks: int = 2000,
    threads: int = 0,
    provider: str = "cpu",
    inference_steps: int = 0,
    **options: Any,
) -> ProfileReport:
    """Load `bundle`, tick it `ticks` times as fast as it can on its golden observations, and report.

    Other `options` go to `keystep.load`. Raises what it raises, and ArgumentError when `ticks` is below 1.
    """
    if ticks < 1:
        raise keystep.ArgumentError(f"ticks: expected at least 1, got {ticks}")
    started = time.perf_counter()
    policy = keystep.load(
        bundle, threads=threads, provider=provider, inference_steps=inference_steps, **options
    )
    load_ms = (time.perf_counter() - started) * 1e3
    with policy:
        loaded_memory_mb = resident_memory_mb()
        cases = golden_cases(bundle, policy.manifest)
        _tick(policy, cases[:1], WARM_UP_CHUNKS * policy.manifest["chunk"]["execute"])
        policy.reset_latency()
        from_chunk = _tick(policy, cases, ticks)
        latency = policy.latency()
        return ProfileReport(
            bundle=policy.manifest["name"],
            provider=policy.description,
            inference_steps=inference_steps or _denoise_steps(policy.manifest),
            ticks=ticks,
            load_ms=load_ms,
            act_from_chunk_us=statistics.median(from_chunk) * 1e6 if from_chunk else None,
            allocations_per_tick=latency.allocations / ticks,
            loaded_memory_mb=loaded_memory_mb,
            peak_memory_mb=peak_memory_mb(),
            latency=latency,
            machine=describe_machine(),
        )


@dataclass(frozen=True)
class GoldenCase:
    task: str | None
    instruction: str | None
    observation: Observation
    goal: Observation | None


def golden_cases(bundle: Path, manifest: dict[str, Any]) -> list[GoldenCase]:
    """The inputs of golden.npz, one case a row."""
    try:
        with np.load(bundle / manifest["golden"]["file"], allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (BadZipFile, ValueError) as error:
        raise keystep.BundleError(f"golden.file: expected an npz archive, got {error}") from None
    if not len(arrays.get("actions", ())):
        raise keystep.BundleError("golden.actions: expected at least one case, got none")
    observations = [name for name in arrays if name.startswith("observation.")]
    planned = manifest["goal"] == "text"  # then the goals are the planner's business
    goals = [name for name in arrays if name.startswith("goal.") and not planned]
    several = {feature.key for feature in features_of(manifest["observation"]) if feature.history > 1}

    def newest(name: str, frames: np.ndarray) -> np.ndarray:
        return frames[-1] if name in several else frames

    cases = []
    for row in range(len(arrays["actions"])):
        task = instruction = None
        if planned:
            instruction = str(arrays["text"][row])
        elif "task" in arrays and manifest["tasks"]:
            task = manifest["tasks"][int(arrays["task"][row])]["name"]
        goal = {name.replace("goal.", "observation.", 1): arrays[name][row] for name in goals}
        observation = {name: np.ascontiguousarray(newest(name, arrays[name][row])) for name in observations}
        cases.append(GoldenCase(task, instruction, observation, goal or None))
    return cases


def _tick(policy: keystep.Runtime, cases: list[GoldenCase], ticks: int) -> list[float]:
    """Tick every case for its share of `ticks`; the seconds of each `act` that took from the chunk."""
    seconds = []
    for case, count in zip(cases, _shares(ticks, len(cases)), strict=True):
        policy.reset(case.task, case.goal, seed=0, instruction=case.instruction)
        for tick in range(count):
            started = time.perf_counter()
            policy.act(case.observation)
            if not renews_chunk(policy.manifest, tick):
                seconds.append(time.perf_counter() - started)
    return seconds


def renews_chunk(manifest: dict[str, Any], tick: int) -> bool:
    """Whether tick number `tick` of an episode, from 0, computes a chunk: it begins one, or a subgoal."""
    planner = manifest["planner"]
    if planner:  # replanning included, as all plans last for whole subgoals
        tick %= planner["steps_per_subgoal"]
    return tick % manifest["chunk"]["execute"] == 0


def _denoise_steps(manifest: dict[str, Any]) -> int:
    return manifest["sampler"]["inference_steps"] if manifest["sampler"] else 0


def _shares(total: int, parts: int) -> Iterator[int]:
    """`total` in `parts` shares that differ by one at most."""
    return (total * (part + 1) // parts - total * part // parts for part in range(parts))
