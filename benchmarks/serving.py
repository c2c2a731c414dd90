"""What serving a policy adds to its inference: round trip minus what the server says that a chunk took.

    python -m benchmarks.serving --rounds 20

openpi's unmodified client (build/openpi-env, made when it is missing) against `keystep serve` and, where its
source lies in build/openpi-server, against openpi's own server class around the same bundle; and keystep's
client. Each robot is a process. Servers and clients stay; contenders take turns in shuffled order.

For openpi's server: put src/openpi/serving/websocket_policy_server.py of its repository, as it is,
into build/openpi-server, and `pip install --no-deps --target build/openpi-server openpi-client`.

openpi's server has one episode for all its clients, which plans at every eighth request of anybody; keystep's
has one for each. So robots are out of step: in step, all of them plan in the same round, and the overhead of
that round is the others' plans.

Eight robots ask as fast as they can, and once more each at the rate at which it would execute its chunks,
beginning at a random moment. As fast as they can they fill the cores, whatever the server does: the mean of
their round trips is their number over the requests a second, and no order of service changes that.

Bars: 150 us median with one client; with eight no slower at the median than openpi's, half at p99.
"""

import json
import socket
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import keystep
from benchmarks.harness import summarise, write_result
from benchmarks.machine import REPOSITORY, describe_run
from benchmarks.openpi_env import python_with_openpi
from keystep.table_writer import table_of

OPENPI = REPOSITORY / "build" / "openpi-server"
MEDIAN_BAR_US = 150.0
Samples = dict[str, list[float]]
Case = tuple[str, str, int, float]  # server, client, how many of them, requests a second of each or 0


@dataclass(frozen=True)
class Options:
    bundle: Path = REPOSITORY / "bundles" / "franka3blocks-state.keystep"
    rounds: int = 20
    requests: int = 200
    """Of each client in each round; an eighth of them with eight clients."""
    rate_hz: float = 0.0
    """Requests a second of a robot that does not ask as fast as it can; 0: the bundle's control rate over the
    actions that are executed of a chunk."""
    clients: tuple[int, ...] = (1, 8)
    workers: int = 0
    """Of keystep's server; 0: one per core."""
    seed: int = 0
    output: Path = REPOSITORY / "benchmarks" / "results" / "serving.json"


class Process:
    """Started now; lines in, lines out."""

    def __init__(self, *command: object) -> None:
        words = [str(word) for word in command]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY)

    @property
    def pid(self) -> int:
        return self._process.pid

    def say(self, line: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate()


def start_keystep(options: Options) -> tuple[Process, int]:
    words = (sys.executable, "-m", "keystep", "serve", options.bundle, "--port", 0)
    server = Process(*words, "--workers", options.workers)
    return server, int(server.hear().split(",")[0].rpartition(":")[2])


def start_openpi(options: Options) -> tuple[Process, int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = Process(sys.executable, "-m", "benchmarks.serving_openpi", OPENPI, options.bundle, port)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server, port
        except ConnectionRefusedError:
            time.sleep(0.1)


def observation_of(bundle: Path) -> str:
    features = keystep.read_manifest(bundle)["observation"]
    return json.dumps({feature["key"]: (feature["shape"], feature["dtype"]) for feature in features})


def rate_of(bundle: Path) -> float:
    manifest = keystep.read_manifest(bundle)
    return float(manifest["control_rate_hz"] / manifest["chunk"]["execute"])


def measure(robots: list[Process], requests: int, waits_s: list[float], rate_hz: float = 0) -> Samples:
    """All at once, each after its wait; rate 0: as fast as they can."""
    began = time.perf_counter()
    for robot, wait_s in zip(robots, waits_s, strict=True):
        robot.say(f"{requests} {rate_hz} {wait_s}")
    samples: Samples = defaultdict(list)
    for robot in robots:
        for name, values in json.loads(robot.hear()).items():
            samples[name] += values
    samples["seconds"].append(time.perf_counter() - began)
    return samples


def main(options: Options) -> None:
    """Measures all in turn and writes the result."""
    describe_run()
    python, told = python_with_openpi(), observation_of(options.bundle)
    servers = {"keystep": start_keystep(options)}
    if (OPENPI / "websocket_policy_server.py").exists():
        servers["openpi"] = start_openpi(options)
    contenders = [(server, "openpi") for server in servers] + [("keystep", "keystep")]
    program = REPOSITORY / "benchmarks" / "serving_client.py"
    robots = {
        (server, client): [
            Process(python, program, client, servers[server][1], told) for _ in range(max(options.clients))
        ]
        for server, client in contenders
    }
    try:
        samples = interleaved(options, robots)
    finally:
        for robot in chain.from_iterable(robots.values()):
            robot.stop()
        for server, _ in servers.values():
            server.stop()
    rows = [row(*name, values) for name, values in samples.items()]
    report = f"{table_of(rows)}\n" + ("" if "openpi" in servers else "openpi's server was not there.\n")
    print(report)
    settings: dict[str, Any] = {
        "rounds": options.rounds,
        "requests": options.requests,
        "workers": options.workers,
        "clients": options.clients,
        "rate_hz": options.rate_hz or rate_of(options.bundle),
    }
    body = {"rows": rows}
    write_result(options.output, "serving", settings, body, report)


def interleaved(options: Options, robots: dict[tuple[str, str], list[Process]]) -> dict[Case, Samples]:
    random = np.random.default_rng(options.seed)
    rate_hz = options.rate_hz or rate_of(options.bundle)
    paces = [(count, rate) for count in options.clients for rate in (0.0, rate_hz) if count > 1 or not rate]
    cases = [(*pair, *pace) for pair in robots for pace in paces]
    samples: dict[Case, Samples] = {case: defaultdict(list) for case in cases}
    for pair in robots.values():
        for number, robot in enumerate(pair):
            # warm, and out of step: robots elsewhere do not plan at one moment
            measure([robot], 10 + number, [0.0])
    for _ in range(options.rounds):
        for index in random.permutation(len(cases)):
            server, client, count, rate = cases[index]
            waits_s = (random.random(count) / rate if rate else np.zeros(count)).tolist()
            requests = max(options.requests // count, 1)
            found = measure(robots[server, client][:count], requests, waits_s, rate)
            for name, values in found.items():
                samples[cases[index]][name] += values
    return samples


def row(server: str, client: str, count: int, rate_hz: float, samples: Samples) -> dict[str, Any]:
    overhead, whole = summarise(samples["overhead_us"]), summarise(samples["round_us"])
    return {
        "server": server,
        "client": client,
        "clients": str(count),
        "each asks": f"{rate_hz:g} Hz" if rate_hz else "at once",
        "requests/s": f"{overhead['count'] / sum(samples['seconds']):.0f}",
        "overhead mean us": f"{np.mean(samples['overhead_us']):.0f}",
        "overhead p50 us": f"{overhead['median']:.0f}",
        "overhead p99 us": f"{overhead['p99']:.0f}",
        "round trip p50 us": f"{whole['median']:.0f}",
        "round trip p99 us": f"{whole['p99']:.0f}",
        "requests": str(overhead["count"]),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
