"""A contender in its own process, so that thread pools, allocators and libraries of others cannot disturb it.

    python -m benchmarks.worker MODULE CONTENDER CASE_FOLDER THREADS OPTIONS

answers one JSON line to each request line: {"seed": s, "calls": n} makes the inputs of seed s, calls the
policy n times (the first n - 1 to warm its caches) and returns the time of the last call and its actions.

MODULE has `CONTENDERS`, a `Contender` by name, and `make_inputs`, a function of (case folder, seed) that
returns the policy's arguments. OPTIONS is a JSON object, handed to the contender's `make` as keywords.
"""

import contextlib
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import REPOSITORY


@dataclass(frozen=True)
class Contender:
    """One way to run a policy.

    Attributes:
        make: loads it: (case folder, threads) -> the policy. The first line of its docstring describes it.
        packages: imported before the clock of loading starts.
        precision: of its weights: fp32, bf16 or int8.
        tolerance: how far an action may be from the reference's; None: as it comes, only reported.
        python: another environment's interpreter.
    """

    make: Callable[..., Any]
    packages: tuple[str, ...] = ()
    precision: str = "fp32"
    tolerance: float | None = 1e-4
    python: Path | None = None

    @property
    def description(self) -> str:
        function = getattr(self.make, "func", self.make)  # of a functools.partial
        return (function.__doc__ or "").strip().split("\n")[0]


class Worker:
    """The parent's handle of such a process.

    Attributes:
        load_ms: what loading took, without imports.

    Raises RuntimeError when the contender does not load, or dies.
    """

    def __init__(
        self, module: str, name: str, case: Path, threads: int, options: Mapping[str, Any] | None = None
    ) -> None:
        contender: Contender = importlib.import_module(module).CONTENDERS[name]
        command = [str(contender.python or sys.executable), "-m", "benchmarks.worker"]
        command += [module, name, str(case), str(threads), json.dumps(dict(options or {}))]
        # some libraries size their pools at import, before any call could tell them
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.contender, self.name = contender, name
        self._process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            self.load_ms: float = self._answer()["load_ms"]
        except BaseException:
            self.close()
            raise

    def predict(self, seed: int, calls: int) -> dict[str, Any]:
        """{"ms": of the last of `calls` calls, "actions": lists, "peak_rss_mb": of the process so far}."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"seed": seed, "calls": calls}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # the child's loop ends with its input
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _death(self) -> RuntimeError:
        status = self._process.wait()
        return RuntimeError(f"contender {self.name}: ended with exit status {status}, see its message above")


def peak_rss_mb() -> float:
    """Largest resident set of this process; getrusage would also count its parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def limit_memory() -> None:
    """A contender that may be left out fails by itself before the system ends others for its sake.

    OpenVINO keeps the bf16 weights of an unrolled graph once per step.
    """
    sizes = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (1024 * int(sizes[key].split()[0]) for key in ("MemTotal", "MemAvailable"))
    limit = max(available - total // 4, 0)  # the rest is for those that start later
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def serve(module_name: str, name: str, case: Path, threads: int, options: Mapping[str, Any]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    module = importlib.import_module(module_name)
    contender: Contender = module.CONTENDERS[name]
    for package in contender.packages:
        importlib.import_module(package)
    if contender.python is not None:
        limit_memory()
    start = time.perf_counter_ns()
    policy = contender.make(case, threads, **options)
    load_ms = (time.perf_counter_ns() - start) / 1e6
    print(json.dumps({"load_ms": load_ms}), file=answers, flush=True)
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
    serve(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), json.loads(sys.argv[5]))
