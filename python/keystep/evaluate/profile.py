"""Where the time of an action goes, measured on the bundle's golden observations: no simulator needed."""

from __future__ import annotations

import hashlib
import statistics
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import keystep
from keystep.evaluate.profile_run import ROUNDS, Run, run_clocked, shares, telemetry_of
from keystep.latency import LatencyReport
from keystep.machine import describe_machine, peak_memory_mb, resident_memory_mb
from keystep.notebook import html_lines
from keystep.run_report import RunReport
from keystep.telemetry import Telemetry

FORMAT, VERSION = "keystep-profile", 2
"""Of the JSON; profile.schema.json describes it."""


@dataclass(frozen=True)
class ProfileReport:
    """Figures of one process with one bundle; printable.

    Attributes:
        inference_steps: denoise steps of a chunk; 0 for a controller without any.
        provider: engine, provider and threads in use.
        act_from_chunk_us: median of a whole `act` from Python when the action is taken from the chunk; None
            when every action renews the chunk, and in async mode, whose ticks are those of `Runtime.run`.
        allocations_per_tick: heap allocations of keystep's own code inside `tick`, counted by replacing
            operator new in the extension; ONNX Runtime's are not included. None in async mode.
        loaded_memory_mb, peak_memory_mb: resident memory of the process after loading and at its highest
            (10^6 bytes).
        bundle_sha256: of the manifest, which has those of all files.
        options: of `keystep.load`, those that were given.
        rate_hz: ticks a second; None: as fast as they go.
        late_ticks: ticks that were due before the one before had ended; of a run, its overruns.
        telemetry: of the asynchronous loop (`keystep.Telemetry`); None in lockstep.
        run: how the clock kept its time and what the system gave (`keystep.RunReport`); None in lockstep.
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
    allocations_per_tick: float | None
    loaded_memory_mb: float
    peak_memory_mb: float
    latency: LatencyReport
    machine: dict[str, Any]
    bundle_sha256: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    rate_hz: float | None = None
    late_ticks: int = 0
    telemetry: dict[str, Any] | None = None
    run: dict[str, Any] | None = None
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
        memory = (
            f"loading {self.load_ms:,.0f} ms; memory {self.loaded_memory_mb:,.0f} MB loaded, "
            f"{self.peak_memory_mb:,.0f} MB peak"
        )
        if self.telemetry is not None and self.run is not None:
            told = (str(Telemetry(**self.telemetry)), str(RunReport.from_dict(self.run)))
            return [*(line for text in told for line in text.splitlines()), memory]
        return [
            f"act from Python, action from the chunk: {from_chunk} (median)",
            f"allocations per tick (keystep's own code): {self.allocations_per_tick:g}",
            memory,
        ]


def profile(
    bundle: Path,
    ticks: int = 2000,
    threads: int = 0,
    provider: str = "cpu",
    inference_steps: int = 0,
    *,
    rate_hz: float | None = None,
    thread: dict[str, Any] | None = None,
    **options: Any,
) -> ProfileReport:
    """Load `bundle`, tick it `ticks` times on its golden observations, and report.

    In async mode that is one run of the policy's own clock (`Runtime.run`); else `act` is called.

    Args:
        rate_hz: ticks a second; None: as fast as they go, in async mode the bundle's control rate.
        thread: in async mode, what the clock's thread is to be given: fifo_priority, cores, lock_memory.
        options: more for `keystep.load`, such as `trace`.

    Raises:
        ArgumentError: ticks below 1, a rate that is not above 0, `thread` in lockstep, and whatever
            `keystep.load` raises.
        Error: in async mode a tick was neither ok nor an underrun.
    """
    check_run(ticks, rate_hz)
    asynchronous = options.get("mode") == "async"
    if thread and not asynchronous:
        raise keystep.ArgumentError(f"{next(iter(thread))}: expected none (mode is lockstep), got one")
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
        from_chunk: list[float] = []
        clocked = None
        if asynchronous:
            assert rate_hz is not None
            clocked = run_clocked(policy, bundle, ticks, rate_hz, **(thread or {}))
            rounds, late = clocked.rounds, clocked.report.overruns
        else:
            run = Run(policy, bundle, ticks, rate_hz)
            for share in shares(ticks, min(ROUNDS, ticks)):
                run.advance(share)
            from_chunk, rounds, late = run.from_chunk, run.rounds, run.late
        latency, telemetry = policy.latency(), telemetry_of(policy)
        return ProfileReport(
            bundle=policy.manifest["name"],
            provider=policy.description,
            inference_steps=inference_steps or _denoise_steps(policy.manifest),
            ticks=ticks,
            load_ms=load_ms,
            act_from_chunk_us=statistics.median(from_chunk) * 1e6 if from_chunk else None,
            allocations_per_tick=None if asynchronous else latency.allocations / ticks,
            loaded_memory_mb=loaded_memory_mb,
            peak_memory_mb=peak_memory_mb(),
            latency=latency,
            machine=describe_machine(),
            bundle_sha256=hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest(),
            options={name: str(v) if isinstance(v, Path) else v for name, v in options.items()},
            rate_hz=rate_hz,
            late_ticks=late,
            telemetry=None if telemetry is None else telemetry.to_dict(),
            run=None if clocked is None else clocked.report.to_dict(),
            rounds=rounds,
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


def _denoise_steps(manifest: dict[str, Any]) -> int:
    return manifest["sampler"]["inference_steps"] if manifest["sampler"] else 0


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
