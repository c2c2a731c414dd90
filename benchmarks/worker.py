"""A contender in its own process, so that thread pools, allocators and libraries of others cannot disturb it.

    python -m benchmarks.worker CONTENDER CASE_FOLDER THREADS

answers one JSON line to each request line: {"seed": s, "calls": n} makes the inputs of seed s, calls the
policy n times (the first n - 1 to warm its caches) and returns the time of the last call and its actions.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import REPOSITORY


class Worker:
    """The parent's handle of such a process. `python`: another environment's interpreter."""

    def __init__(self, contender: str, case: Path, threads: int, python: Path | None = None) -> None:
        command = [
            str(python or sys.executable),
            "-m",
            "benchmarks.worker",
            contender,
            str(case),
            str(threads),
        ]
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
        """{"ms": of the last of `calls` calls, "actions": [H][A], "peak_rss_mb": of the process so far}."""
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


def inputs(seed: int, state_size: int, horizon: int, actions: int) -> tuple[Any, Any]:
    """The same observation and noise for every contender."""
    random = np.random.default_rng(seed)
    state = random.standard_normal(state_size).astype(np.float32)
    return state, random.standard_normal((horizon, actions)).astype(np.float32)


def peak_rss_mb() -> float:
    """Largest resident set of this process; getrusage would also count its parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def serve(contender: str, case: Path, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    from benchmarks.contenders import CONTENDERS, read_manifest

    manifest = read_manifest(case)
    horizon, actions = manifest["chunk"]["horizon"], len(manifest["action"]["names"])
    policy = CONTENDERS[contender](case, threads)
    description = (CONTENDERS[contender].__doc__ or "").strip().splitlines()[0]
    print(json.dumps({"description": description}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        state, noise = inputs(
            request["seed"], len(manifest["observation"]["state"]["names"]), horizon, actions
        )
        for _ in range(request["calls"] - 1):
            policy(state, noise)
        start = time.perf_counter_ns()
        result = policy(state, noise)
        elapsed_ms = (time.perf_counter_ns() - start) / 1e6
        answer = {"ms": elapsed_ms, "actions": result.tolist(), "peak_rss_mb": peak_rss_mb()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
