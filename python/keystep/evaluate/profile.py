"""Where the time of an action goes, measured on the bundle's golden observations: no simulator needed."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keystep
from keystep.evaluate.golden_cases import GoldenCase, golden_cases
from keystep.latency import LatencyReport
from keystep.machine import describe_machine, peak_memory_mb, resident_memory_mb
from keystep.notebook import html_lines
from keystep.telemetry import Telemetry

WARM_UP_CHUNKS = 3
ROUNDS = 10
"""Parts of a run that are looked at one by one: how much they differ tells how sure a mean is."""
FORMAT, VERSION = "keystep-profile", 1
"""Of the JSON; profile.schema.json describes it."""


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
        bundle_sha256: of the manifest, which has those of all files.
        options: of `keystep.load`, those that were given.
        rate_hz: ticks a second; None: as fast as they go.
        late_ticks: ticks that were due before the one before had ended.
        telemetry: of the asynchronous loop (`keystep.Telemetry`); None in lockstep.
        rounds: of each part of the run, in its order, the mean of every stage in us.
        versions: of the packages that take part.
        taken_at: when, UTC.
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
    bundle_sha256: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    rate_hz: float | None = None
    late_ticks: int = 0
    telemetry: dict[str, Any] | None = None
    rounds: list[dict[str, float]] = field(default_factory=list)
    versions: dict[str, str | None] = field(default_factory=dict)
    taken_at: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file; profile.schema.json beside this module says what they are."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

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
        rate = "" if self.rate_hz is None else f" at {self.rate_hz:g} Hz, of which {self.late_ticks} late"
        return [
            f"{self.bundle}: {self.provider}, {self.inference_steps} denoise steps, {self.ticks} ticks{rate}",
            ", ".join(f"{name} {machine[name]}" for name in ("cpu", "cores", "kernel", "commit")),
        ]

    def _below(self) -> list[str]:
        from_chunk = f"{self.act_from_chunk_us:.1f} us" if self.act_from_chunk_us is not None else "-"
        asynchronous = [] if self.telemetry is None else str(Telemetry(**self.telemetry)).splitlines()
        return [
            *asynchronous,
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
    *,
    rate_hz: float | None = None,
    **options: Any,
) -> ProfileReport:
    """Load `bundle`, tick it `ticks` times on its golden observations, and report.

    Args:
        rate_hz: ticks a second; None: as fast as they go, in async mode the bundle's control rate.
        options: more for `keystep.load`, such as `trace`.

    Raises:
        ArgumentError: ticks below 1, a rate that is not above 0, and whatever `keystep.load` raises.
    """
    check_run(ticks, rate_hz)
    given: dict[str, Any] = {"threads": threads, "provider": provider, "inference_steps": inference_steps}
    options = given | options
    rate_hz = rate_of(bundle, rate_hz, options)
    if rate_hz is not None:
        options.setdefault("deadline_us", 1e6 / rate_hz)
    started = time.perf_counter()
    policy = keystep.load(bundle, **options)
    load_ms = (time.perf_counter() - started) * 1e3
    with policy:
        loaded_memory_mb = resident_memory_mb()
        run = Run(policy, bundle, ticks, rate_hz)
        for share in shares(ticks, min(ROUNDS, ticks)):
            run.advance(share)
        latency, from_chunk, telemetry = policy.latency(), run.from_chunk, telemetry_of(policy)
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
            bundle_sha256=hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest(),
            options={name: str(v) if isinstance(v, Path) else v for name, v in options.items()},
            rate_hz=rate_hz,
            late_ticks=run.late,
            telemetry=None if telemetry is None else telemetry.to_dict(),
            rounds=run.rounds,
            versions={name: _installed(name) for name in ("numpy", "onnxruntime", "openvino")},
            taken_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def check_run(ticks: int, rate_hz: float | None = None) -> None:
    """Raises ArgumentError for what is no run."""
    if ticks < 1:
        raise keystep.ArgumentError(f"ticks: expected at least 1, got {ticks}")
    if rate_hz is not None and not 0 < rate_hz < float("inf"):
        raise keystep.ArgumentError(f"rate: expected more than 0 Hz, got {rate_hz:g}")


def rate_of(bundle: Path, rate_hz: float | None, options: dict[str, Any]) -> float | None:
    """The rate that was asked for; where threads compute meanwhile and none was, that of the bundle."""
    if rate_hz is None and options.get("mode") == "async":
        return float(keystep.read_manifest(bundle)["control_rate_hz"])
    return rate_hz


class Run:
    """A policy on its golden observations, a round at a time; warmed up.

    Attributes:
        from_chunk: seconds of each `act` that took its action from the chunk.
        rounds: of each round the mean of every stage, us.
        late: ticks that were due before the one before had ended.
    """

    def __init__(
        self, policy: keystep.Runtime, bundle: Path, ticks: int, rate_hz: float | None = None
    ) -> None:
        cases = golden_cases(bundle, policy.manifest)
        warm_up = WARM_UP_CHUNKS * policy.manifest["chunk"]["execute"]
        self._policy = policy
        self._period = 0.0 if rate_hz is None else 1 / rate_hz
        self._due: float | None = None
        self._clear()
        self._acts = _acts(policy, cases[:1], warm_up)
        self._tick(warm_up)
        policy.reset_latency()
        self._clear()
        self._acts = _acts(policy, cases, ticks)
        self._before = policy.latency()

    def advance(self, count: int) -> None:
        """The next round, of so many ticks."""
        self._tick(count)
        now = self._policy.latency()
        means = {}
        for name, stage in now.stages.items():
            before = self._before.stages[name]
            if stage.count > before.count:
                total = stage.mean_us * stage.count - before.mean_us * before.count
                means[name] = max(total / (stage.count - before.count), 0.0)
        self.rounds.append(means)
        self._before = now

    def _clear(self) -> None:
        self.from_chunk: list[float] = []
        self.rounds: list[dict[str, float]] = []
        self.late = 0

    def _tick(self, count: int) -> None:
        for _ in range(count):
            self._wait()
            if (seconds := next(self._acts)) is not None:
                self.from_chunk.append(seconds)

    def restart_clock(self) -> None:
        """The next period begins with the next tick: somebody else ran meanwhile."""
        self._due = None

    def _wait(self) -> None:
        """Until the next period begins, in absolute time; periods that were missed are not made up for."""
        now = time.perf_counter()
        due = now if self._due is None else self._due
        if self._period and due > now:
            time.sleep(due - now)
        elif self._period and due < now:
            self.late += 1
            due += (now - due) // self._period * self._period
        self._due = due + self._period


def _acts(policy: keystep.Runtime, cases: list[GoldenCase], ticks: int) -> Iterator[float | None]:
    """Ticks every case for its share of `ticks`; the seconds of each `act` that took from the chunk.

    In async mode every tick does, or has no action, which `Telemetry.underruns` counts.
    """
    waits = telemetry_of(policy) is None
    for case, count in zip(cases, shares(ticks, len(cases)), strict=True):
        policy.reset(case.task, case.goal, seed=0, instruction=case.instruction)
        for tick in range(count):
            started = time.perf_counter()
            try:
                policy.act(case.observation)
            except keystep.PolicyError as error:
                if error.status != "underrun":
                    raise
            seconds = time.perf_counter() - started
            yield None if waits and renews_chunk(policy.manifest, tick) else seconds


def renews_chunk(manifest: dict[str, Any], tick: int) -> bool:
    """Whether tick number `tick` of an episode, from 0, computes a chunk: it begins one, or a subgoal."""
    planner = manifest["planner"]
    if planner:  # replanning included, as all plans last for whole subgoals
        tick %= planner["steps_per_subgoal"]
    return tick % manifest["chunk"]["execute"] == 0


def telemetry_of(policy: keystep.Runtime) -> Telemetry | None:
    """None in lockstep."""
    try:
        return policy.telemetry()
    except keystep.ArgumentError:
        return None


def _denoise_steps(manifest: dict[str, Any]) -> int:
    return manifest["sampler"]["inference_steps"] if manifest["sampler"] else 0


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def shares(total: int, parts: int) -> Iterator[int]:
    """`total` in `parts` shares that differ by one at most."""
    return (total * (part + 1) // parts - total * part // parts for part in range(parts))
