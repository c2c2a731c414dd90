"""Kills a run at every step of every iteration, as soon as each has begun; a program of its own.

    python expit_killer.py CONFIG RUN ARGUMENTS..

With the fake rollouts, unless KEYSTEP_TEST_FAKES is empty. The packages are loaded once, and every attempt is
a fork of this process. Prints what it killed, as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import fake_rollouts

Place = tuple[str, str]


def under_way(run: Path) -> Place | None:
    """The iteration and step that are at work."""
    places = sorted(run.glob("iteration-*/progress.json"))
    if not places:
        return None
    stage = json.loads(places[-1].read_text())["stage"]
    record = places[-1].parent / "iteration.json"
    done = json.loads(record.read_text())["done"] if record.exists() else {}
    return None if stage in done else (places[-1].parent.name, stage)


def start(arguments: list[str]) -> int:
    process = os.fork()
    if process:
        return process
    status = 3
    try:
        from keystep.cli import run

        status = run(["expit", *arguments])
    finally:
        os._exit(status)


def ended(process: int, run: Path, killed: list[Place], delay: float) -> bool:
    """Whether it ended by itself; it is killed at the first step that no earlier one was killed at."""
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            assert os.waitstatus_to_exitcode(status) == 0, f"exit status {status}"
            return True
        place = under_way(run)
        if place is not None and place not in killed:
            time.sleep(delay)
            killed.append(place)
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return False
        time.sleep(0.005)


def main(config: str, run: str, *more: str) -> None:
    if os.environ.get("KEYSTEP_TEST_FAKES", "yes"):
        fake_rollouts.install()
    import torch  # noqa: F401

    import keystep.export.bundle
    import keystep.train.trainer  # noqa: F401

    killed: list[Place] = []
    attempts = 0
    while not ended(start([config, *more]), Path(run), killed, delay=0.05 * (attempts % 3)):
        attempts += 1
        assert attempts < 20
    print(json.dumps(killed))


if __name__ == "__main__":
    main(*sys.argv[1:])
