"""A simulated robot in a process of its own: robot.py and robot.cpp drive it through shared memory.

    python examples/robot/world.py BUNDLE [--env ID] [--task NAME] [--clock real|commands]

It opens a Gymnasium environment that shows what the bundle wants to see, writes state and camera images once
a control period, and executes each command once, by its number. One episode: it begins with the first
command, and ends with success, with the environment's limit, or when the robot's program ends.
"""

from __future__ import annotations

import math
import signal
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from segments import Fields, camera_fields, check_writer, command_fields, state_fields

import keystep
from keystep.evaluate.environments import ObservationReader, check_action_space, make_env, solved
from keystep.evaluate.simulation import close_env, reset_env, step_env

WAITING = 2
"""Commands that may wait: where 60 Hz meets 100 Hz, two come in one period and none in the next."""


@dataclass(frozen=True)
class Arguments:
    """Simulate a robot for robot.py or robot.cpp.

    Attributes:
        bundle: of the policy that will drive it: what it shall see, its rate, its hold.
        env: Gymnasium id, or MODULE:ID.
        task: of the environment; the bundle's first task when not given.
        seed: of the reset.
        name: of the shared memory: NAME-state, NAME-camera, NAME-command.
        clock: real: it steps at the bundle's rate, and holds where no command came; commands: each command is
            a step, so nothing is held and nothing left out.
        patience_s: a robot's program that sends nothing for so long hangs.
        replace: shared memory of this name that a killed world left behind.
    """

    bundle: Annotated[Path, tyro.conf.Positional]
    env: str = "keystep/Franka3Blocks-v1"
    task: str | None = None
    seed: int = 0
    name: str = "keystep-robot"
    clock: Literal["real", "commands"] = "real"
    patience_s: float = 5.0
    replace: bool = False


class Drive:
    """What the arm does with commands: each number is executed once, however often it is sent."""

    def __init__(self, commands: keystep.SharedArrays, patience_s: float) -> None:
        self._commands, self._patience_s = commands, patience_s
        self._waiting: deque[tuple[int, np.ndarray]] = deque()
        self._number = 0  # that was heard last
        self.executed = 0  # number
        self.count = self.lost = 0

    def listen(self) -> None:
        """Take in a new command. Raises keystep.Error: there was one, and now there are none any more."""
        heard = self._commands.newest()
        if heard is None:
            return
        number = int(heard.arrays["number"][0])
        if number > self._number:
            self.lost += number - self._number - 1
            self._number = number
            self._waiting.append((number, heard.arrays["action"]))
        if len(self._waiting) > WAITING:
            self._waiting.popleft()
            self.lost += 1
        check_writer(self._commands, heard, self._patience_s, "a robot's program")

    @property
    def ready(self) -> bool:
        """A command waits."""
        return bool(self._waiting)

    @property
    def ended(self) -> bool:
        """None waits, and none will come."""
        return self._commands.ended and not self._waiting

    def next(self) -> np.ndarray | None:
        """The command of this period, if there is one."""
        if not self._waiting:
            return None
        self.executed, action = self._waiting.popleft()
        self.count += 1
        return action


class World:
    """One episode, and its three pieces of shared memory."""

    def __init__(self, arguments: Arguments, manifest: dict[str, Any], env: Any, stack: ExitStack) -> None:
        check_action_space(env, manifest)
        self._env, self._real = env, arguments.clock == "real"
        self._read = ObservationReader(manifest)
        self._period_s = 1 / manifest["control_rate_hz"]
        self._hold = manifest["action"]["hold"].get("values")  # None: the last action, which is absolute
        self._last: np.ndarray | None = None

        def create(what: str, fields: Fields) -> keystep.SharedArrays:
            return stack.enter_context(created(f"{arguments.name}-{what}", fields, arguments.replace))

        self._drive = Drive(create("command", command_fields(manifest)), arguments.patience_s)
        images = camera_fields(manifest)
        self._images = [name for name, _, _ in images]
        self._camera = create("camera", images) if images else None
        self._state = create("state", state_fields(manifest))  # last: who finds it finds the others
        stack.callback(self._end)
        self._steps = self._held = self._late = 0
        self.success = False
        self._seen: dict[str, np.ndarray] = {}
        self._shown_s = 0.0

    def run(self, task: str | None, seed: int) -> None:
        """From the reset to the end of the episode."""
        observation, _ = reset_env(self._env, seed, {"task": task} if task else None)
        self._show(observation)
        print("world: ready", flush=True)
        self._listen(None)
        start, period = time.monotonic(), 0
        while True:
            self._listen(start + period * self._period_s if self._real else None)
            if self._drive.ended or self._step():
                return
            passed = math.floor((time.monotonic() - start) / self._period_s)
            self._late += self._real and passed > period
            period = max(period, passed) + 1  # periods that are past are left out, never made up for

    def _listen(self, due_s: float | None) -> None:
        """Hear commands until then, 1,000 times a second. None: until one waits, or none will come.

        What there is to see is shown again once a period: a sign of life.
        """
        while True:
            self._drive.listen()
            now_s = time.monotonic()
            if now_s >= due_s if due_s is not None else self._drive.ready or self._drive.ended:
                return
            if now_s > self._shown_s + self._period_s:
                self._show()
            time.sleep(0.001)

    def _step(self) -> bool:
        """A control period. Whether the episode is over."""
        action = self._drive.next()
        if action is None:  # as the bundle declares: an action again would move a relative arm twice
            self._held += 1
            action = self._last if self._hold is None else np.array(self._hold, np.float32)
        assert action is not None  # the first period has a command
        self._last = action
        observation, terminated, truncated, info = step_env(self._env, action)
        self._steps += 1
        self.success = bool(solved(info, terminated, None))
        self._show(observation)
        return terminated or truncated

    def _show(self, observation: Mapping[str, Any] | None = None) -> None:
        """A new observation, or the one before, which is true still."""
        if observation is not None:
            self._seen = self._read(observation)
        self._shown_s = time.monotonic()
        if self._camera is not None:
            self._camera.write({name: self._seen[name] for name in self._images})
        numbers = {"step": self._steps, "executed": self._drive.executed, "success": self.success}
        vectors = {name: array for name, array in self._seen.items() if name not in self._images}
        self._state.write({name: np.array([value], np.int64) for name, value in numbers.items()} | vectors)

    def _end(self) -> None:
        for arrays in filter(None, (self._camera, self._state)):
            arrays.end()

    def __str__(self) -> str:
        return (
            f"world: {'success' if self.success else 'no success'} after {self._steps} steps; "
            f"{self._drive.count} commands executed, {self._drive.lost} lost, {self._held} steps held, "
            f"{self._late} late"
        )


def created(name: str, fields: Fields, replace: bool) -> keystep.SharedArrays:
    """New shared memory. Raises keystep.Error: the name is in use."""
    if replace:
        with suppress(keystep.Error):
            keystep.SharedArrays.remove(name)
    try:
        return keystep.SharedArrays.create(name, fields)
    except keystep.ArgumentError:
        raise
    except keystep.Error as error:
        raise keystep.Error(f"{error}. Another world runs, or one was killed: then --replace") from error


def main(arguments: Arguments) -> None:
    """One episode."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the names are removed
    manifest = keystep.read_manifest(arguments.bundle)
    task = arguments.task or next((task["name"] for task in manifest["tasks"]), None)
    with ExitStack() as stack:
        env = make_env(arguments.env, manifest)
        stack.callback(close_env, env)
        world = World(arguments, manifest, env, stack)
        print(f"world: {arguments.env}, {task}, seed {arguments.seed}, {arguments.name}", flush=True)
        try:
            world.run(task, arguments.seed)
        finally:
            print(world, flush=True)


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except (keystep.Error, ImportError, OSError, ValueError) as error:
        sys.exit(f"world: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
