"""A contender in its own process, so that thread pools, allocators and libraries of others cannot disturb it.

    python -m benchmarks.worker MODULE CONTENDER CASE_FOLDER THREADS

answers one JSON line to each request line: {"seed": s, "calls": n} makes the inputs of seed s, calls the
policy n times (the first n - 1 to warm its caches) and returns the time of the last call and its actions.

MODULE has `CONTENDERS`, which maps a name to a function of (case folder, threads) that returns the policy,
and `make_inputs`, a function of (case folder, seed) that returns the policy's arguments.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import REPOSITORY


class Worker:
    """The parent's handle of such a process. `python`: another environment's interpreter."""

    def __init__(
        self, module: str, contender: str, case: Path, threads: int, python: Path | None = None
    ) -> None:
        interpreter = str(python or sys.executable)
        command = [interpreter, "-m", "benchmarks.worker", module, contender, str(case), str(threads)]
        # some libraries size their pools at import, before any call could tell them
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.contender = contender
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self.description: str = self._answer()["description"]
        except BaseException:
            self.close()
            raise

    def predict(self, seed: int, calls: int) -> dict[str, Any]:
        """{"ms": of the last of `calls` calls, "actions": lists, "peak_rss_mb": of the process so far}."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"seed": seed, "calls": calls}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # the child's loop ends with its input
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"contender {self.contender}: ended without an answer, see its message above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def peak_rss_mb() -> float:
    """Largest resident set of this process; getrusage would also count its parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def serve(module_name: str, contender: str, case: Path, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    module = importlib.import_module(module_name)
    policy = module.CONTENDERS[contender](case, threads)
    description = (module.CONTENDERS[contender].__doc__ or "").strip().splitlines()[0]
    print(json.dumps({"description": description}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        inputs = module.make_inputs(case, request["seed"])
        for _ in range(request["calls"] - 1):
            policy(*inputs)
        start = time.perf_counter_ns()
        result = policy(*inputs)
        elapsed_ms = (time.perf_counter_ns() - start) / 1e6
        answer = {"ms": elapsed_ms, "actions": result.tolist(), "peak_rss_mb": peak_rss_mb()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
