"""The loops that `benchmarks.periods` compares, each in a process of its own: a policy on a grid of periods.

    python -m benchmarks.periods_loops SPEC

SPEC is a `Spec` as JSON. One JSON line says that the loop is ready; then each line of the input,
{"periods": n}, is answered by a slice of so many periods. The policy stays loaded between slices, and its
episode goes on.
"""

import json
import os
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from benchmarks.periods_slices import (
    ASYNC,
    LEAD_IN_S,
    PERCENTILES,
    TORCH,
    Deliveries,
    Loop,
    Spec,
)
from keystep.evaluate.golden_cases import golden_cases
from keystep.run_report import RunReport

CHUNK_STAGES = ("observe", "encode", "denoise")


class KeystepLoop:
    """Our own clock, `Runtime.run`, in lockstep or async. An underrun is a tick without a policy's action.

    Lead-in and measured part are one run of the clock. A run begins with a new chunk (what another run has
    left is not executed), which is not one that the policy was too slow for.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec, self._asynchronous = spec, spec.loop == ASYNC
        mode = {"mode": "async", "underrun": "fault"} if self._asynchronous else {}
        self._policy = keystep.load(spec.bundle, **{**spec.options, **mode})
        cases = golden_cases(Path(spec.bundle), self._policy.manifest)
        self._seen = cycle(case.observation for case in cases)
        first = cases[0]
        self._policy.reset(first.task, first.goal, seed=0, instruction=first.instruction)

    def slice(self, periods: int) -> dict[str, Any]:
        policy, deliveries = self._policy, Deliveries(self._spec.rate_hz, periods, LEAD_IN_S)
        before: list[RunReport | None] = []

        def source() -> dict[str, Any]:
            if deliveries.over:
                policy.stop()  # here, too: what is not finite never reaches the sink
            elif deliveries.begin():
                policy.reset_latency()
                before.append(policy.run_report())
            return next(self._seen)

        def sink(action: np.ndarray, status: str) -> None:
            if status != "interrupted" and deliveries.end(status == "ok"):
                policy.stop()

        report = policy.run(self._spec.rate_hz, source, sink, **self._spec.clock)
        if not before or before[0] is None:
            raise RuntimeError(f"run: expected to outlast its lead-in, got {report.periods} periods")
        counted = report.since(before[0])
        # All that were due and had no tick: the clock itself knows nothing of where the slice ends.
        skipped = {"skipped": periods - counted.periods}
        return {
            "at_us": deliveries.at_us,
            "report": counted.to_dict() | skipped,
            "stages": self._stages(),
            "telemetry": policy.telemetry().to_dict() if self._asynchronous else None,
        }

    def _stages(self) -> dict[str, dict[str, float]]:
        """A chunk is the sum of its parts, percentile by percentile: a little too much."""
        stages = self._policy.latency().stages
        parts = [stages[name] for name in CHUNK_STAGES if stages[name].count]
        found = {}
        if parts:
            found["chunk"] = {name: sum(getattr(part, name) for part in parts) for name in PERCENTILES}
        if stages["plan"].count:
            found["plan"] = {name: getattr(stages["plan"], name) for name in PERCENTILES}
        return found


def make_loop(spec: Spec) -> Loop:
    """Loaded. Torch is imported by its own loop alone."""
    if spec.loop == TORCH:
        from benchmarks.periods_torch import TorchLoop

        return TorchLoop(spec)
    return KeystepLoop(spec)


def serve(spec: Spec) -> None:
    """Answers until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    loop = make_loop(spec)
    print(json.dumps({"ready": spec.loop}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(loop.slice(json.loads(line)["periods"])), file=answers, flush=True)


if __name__ == "__main__":
    serve(Spec(**json.loads(sys.argv[1])))
