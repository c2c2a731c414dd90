"""Whether a server grows: many robots for minutes, of which some leave and come back, and its memory beside.

    python -m benchmarks.serving_soak --minutes 10

Each robot acts at `--rate-hz` and connects anew every `--visit-s` seconds. Bar: no growth of memory, threads
or files from the first quarter of the time to the last.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import tyro

import keystep
from benchmarks.harness import write_result
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.serving import Options as Serving
from benchmarks.serving import start_keystep
from keystep.table_writer import table_of

EVERY_S = 5.0


@dataclass(frozen=True)
class Options:
    minutes: float = 10.0
    clients: int = 32
    rate_hz: float = 20.0
    visit_s: float = 30.0
    output: Path = REPOSITORY / "benchmarks" / "results" / "serving_soak.json"


class Robot(threading.Thread):
    """Visits the server again and again.

    Attributes:
        actions: taken of the policy; failures: what went wrong.
    """

    def __init__(self, port: int, number: int, options: Options, until: float) -> None:
        super().__init__(daemon=True)
        self._port, self._number, self._options, self._until = port, number, options, until
        self.actions = self.visits = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while time.monotonic() < self._until:
            try:
                self._visit(min(time.monotonic() + self._options.visit_s, self._until))
            except Exception as error:
                self.failures.append(str(error))

    def _visit(self, until: float) -> None:
        self.visits += 1
        with keystep.Client(port=self._port) as client:
            client.reset(task="lift_red", seed=self._number)
            while time.monotonic() < until:
                state = np.sin(np.arange(26) + self._number + time.monotonic()) / 3
                client.act({"observation.state": np.float32(state)})
                time.sleep(1 / self._options.rate_hz)
            self.actions += client.counts.actions


def main(options: Options) -> None:
    """Plays it and writes what the server took."""
    describe_run()
    server, port = start_keystep(Serving())
    process = psutil.Process(server.pid)
    until = time.monotonic() + 60 * options.minutes
    robots = [Robot(port, number, options, until) for number in range(options.clients)]
    for robot in robots:
        robot.start()
    samples = []
    while time.monotonic() < until:
        time.sleep(EVERY_S)
        memory = process.memory_info().rss / 2**20
        samples.append((memory, process.num_threads(), process.num_fds()))
    for robot in robots:
        robot.join()
    server.stop()
    quarter = max(len(samples) // 4, 1)
    first, last = (np.median(part, axis=0) for part in (samples[:quarter], samples[-quarter:]))
    rows = [
        {"": name, "first quarter": f"{a:.1f}", "last quarter": f"{b:.1f}"}
        for name, a, b in zip(("memory MiB", "threads", "open files"), first, last, strict=True)
    ]
    actions, visits = sum(r.actions for r in robots), sum(r.visits for r in robots)
    failures = [failure for robot in robots for failure in robot.failures]
    report = f"{table_of(rows)}\n{actions} actions in {visits} visits, {len(failures)} failures\n"
    print(report, *failures[:3], sep="\n")
    settings = {"minutes": options.minutes, "clients": options.clients, "rate_hz": options.rate_hz}
    body = {"samples": samples, "actions": actions, "visits": visits, "failures": failures}
    write_result(options.output, "serving_soak", settings, body, report)


if __name__ == "__main__":
    main(tyro.cli(Options))
