"""The synchronous torch loop of `benchmarks.periods`: what people run today."""

import math
import os
import resource
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from benchmarks.periods_slices import LEAD_IN_S, PERCENTILES, Deliveries, Spec
from keystep.evaluate.golden_cases import GoldenCase, golden_cases
from keystep.machine import usable_cores
from keystep.run_report import RunReport, Spread, ThreadReport

POLICIES = {os.SCHED_OTHER: "SCHED_OTHER", os.SCHED_FIFO: "SCHED_FIFO", os.SCHED_RR: "SCHED_RR"}


class TorchLoop:
    """Observe, infer where a chunk is used up, act, sleep until the next period; inference is in the loop."""

    def __init__(self, spec: Spec) -> None:
        import torch

        threads = spec.options.get("threads") or usable_cores()
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(1)
        self._inference = torch.inference_mode
        manifest = keystep.read_manifest(Path(spec.bundle))
        self._rate_hz = spec.rate_hz
        self._policy = _torch_policy(spec.torch, manifest)
        cases = golden_cases(Path(spec.bundle), manifest)
        self._seen = cycle(case.observation for case in cases)
        self._reset(cases[0])

    def slice(self, periods: int) -> dict[str, Any]:
        deliveries = Deliveries(self._rate_hz, periods, LEAD_IN_S)
        took: dict[str, list[float]] = {"chunk": [], "plan": []}
        before, load = resource.getrusage(resource.RUSAGE_THREAD), os.getloadavg()
        times: list[tuple[int, int, int]] = []
        overruns = skipped = 0
        for due_ns, begin_ns in _grid(self._rate_hz):
            if deliveries.begin():  # what came before was the lead-in
                took = {"chunk": [], "plan": []}
                before, load = resource.getrusage(resource.RUSAGE_THREAD), os.getloadavg()
                times, overruns, skipped = [], 0, 0
            made, started = self._made(), time.perf_counter_ns()
            with self._inference():
                self._policy.act(next(self._seen))
            self._note(took, made, (time.perf_counter_ns() - started) / 1e3)
            last = deliveries.end(True)
            end_ns = time.monotonic_ns()
            times.append((due_ns, begin_ns, end_ns))
            over = (end_ns - due_ns) * self._rate_hz / 1e9
            overruns += over > 1
            skipped += max(0, math.ceil(over) - 1)
            if last:
                break
        report = _report(self._rate_hz, np.array(times), overruns, skipped, before, load)
        stages = {name: _percentiles(values) for name, values in took.items() if values}
        told = report.to_dict() | {"skipped": periods - report.periods}  # also those at the end
        return {"at_us": deliveries.at_us, "report": told, "stages": stages, "telemetry": None}

    def _reset(self, case: GoldenCase) -> None:
        told: dict[str, Any] = {"instruction": case.instruction} if case.instruction else {}
        if case.goal is not None:
            told["goal"] = case.goal
        self._policy.reset(case.task, seed=0, **told)

    def _made(self) -> tuple[int, int]:
        """Chunks and plans so far."""
        controller = getattr(self._policy, "controller", self._policy)
        return controller._chunk, getattr(self._policy, "_plans", 0)

    def _note(self, took: dict[str, list[float]], before: tuple[int, int], us: float) -> None:
        """An action that needed a plan needed a chunk, too: what it took counts as the plan's."""
        chunks, plans = self._made()
        if plans > before[1]:
            took["plan"].append(us)
        elif chunks > before[0]:
            took["chunk"].append(us)


def _torch_policy(folders: dict[str, str], manifest: dict[str, Any]) -> Any:
    """The PyTorch twin, with the bundle's samplers."""
    from keystep.models.reference import ReferencePolicy
    from keystep.models.reference_hierarchy import ReferenceHierarchy

    def sampler(spec: dict[str, Any] | None) -> dict[str, Any]:
        return {} if spec is None else {**spec, "betas": tuple(spec["betas"])}

    if "planner" in folders:
        planner, controller = Path(folders["planner"]), Path(folders["controller"])
        samplers = sampler(manifest["planner"]["sampler"]), sampler(manifest["sampler"])
        return ReferenceHierarchy(
            planner, controller, planner_sampler=samplers[0], controller_sampler=samplers[1]
        )
    execute = manifest["chunk"]["execute"]
    return ReferencePolicy(folders["checkpoint"], execute=execute, **sampler(manifest["sampler"]))


def _grid(rate_hz: float) -> Iterator[tuple[int, int]]:
    """Grid points and when they begin, ns: by absolute times; those that are past are left out."""
    period_ns, point = 1e9 / rate_hz, 1
    start_ns = time.monotonic_ns()
    while True:
        due_ns = start_ns + round(point * period_ns)
        if (early := due_ns - time.monotonic_ns()) > 0:
            time.sleep(early / 1e9)
        yield due_ns, time.monotonic_ns()
        point = max(point + 1, math.ceil((time.monotonic_ns() - start_ns) / period_ns))


def _report(
    rate_hz: float, times: np.ndarray, overruns: int, skipped: int, before: Any, load: tuple[float, ...]
) -> RunReport:
    """As the C++ clock reports. times: (periods, 3), ns: grid point, begin, end."""
    now = resource.getrusage(resource.RUSAGE_THREAD)
    due, begin, end = times.T / 1e3
    thread = ThreadReport(
        policy=POLICIES.get(os.sched_getscheduler(0), "another"),
        priority=os.sched_getparam(0).sched_priority,
        cores=tuple(sorted(os.sched_getaffinity(0))),
        memory_locked=False,
        prefaulted=0,
        fifo_refusal="",
        cores_refusal="",
        memory_refusal="",
        stack_refusal="",
    )
    return RunReport(
        rate_hz=rate_hz,
        periods=len(times),
        overruns=overruns,
        skipped=skipped,
        withheld=0,
        statuses={"ok": len(times)},
        latency=_spread(begin - due),
        interval=_spread(np.diff(begin)),
        work=_spread(end - begin),
        minor_faults=now.ru_minflt - before.ru_minflt,
        major_faults=now.ru_majflt - before.ru_majflt,
        voluntary_switches=now.ru_nvcsw - before.ru_nvcsw,
        involuntary_switches=now.ru_nivcsw - before.ru_nivcsw,
        load_before=load,  # type: ignore[arg-type]
        load_after=os.getloadavg(),
        thread=thread,
    )


def _spread(us: np.ndarray) -> Spread:
    if not len(us):
        return Spread(0, 0.0, 0.0, 0.0, 0.0)
    return Spread(len(us), float(us.min()), float(us.mean()), float(np.percentile(us, 99)), float(us.max()))


def _percentiles(us: list[float]) -> dict[str, float]:
    return dict(zip(PERCENTILES, np.percentile(us, [50, 99, 100]).tolist(), strict=True))
