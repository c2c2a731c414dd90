"""A loop of `benchmarks.periods` in its own process: it shares no threads and no memory with others."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from benchmarks.machine import REPOSITORY
from benchmarks.periods_slices import Spec


class LoopProcess:
    """The parent's handle; a context. Raises RuntimeError when the loop does not load, or dies."""

    def __init__(self, spec: Spec) -> None:
        command = [sys.executable, "-m", "benchmarks.periods_loops", json.dumps(asdict(spec))]
        environment = dict(os.environ)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # the loops say how many they want
            environment.pop(name, None)
        self._name = spec.loop
        self._process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us, who end it
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def slice(self, periods: int) -> dict[str, Any]:
        """See `Loop.slice`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # told by the answer that is not there
            self._process.stdin.write(json.dumps({"periods": periods}) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends it, also in the middle of a slice."""
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(f"{self._name}: ended with exit status {status}, see its message above")
        answer: dict[str, Any] = json.loads(line)
        return answer
