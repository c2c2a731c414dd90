"""States of an episode, for a dataset to keep: whoever continues it is in the very same world.

It is a JSON value with the version of the world, as numbers of one simulator mean little to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

END_STATE = "end_state"
"""The last one's name among the extras of a dataset's episodes (`keystep.data.spec.DatasetSpec`)."""
SUCCESS_STATE = "success_state"
"""Likewise of the one after the first frame of success. Whoever is given one task after the other begins the
next one there: with a cube in the hand perhaps."""
SOURCE = "source"


class Restorable(Protocol):
    """An environment whose episodes can be continued elsewhere.

    It may also have `source`: what else its states depend on, compared where the state tells it, too.

    Attributes:
        simulator: name and version of the physics, such as "sapien 3.0.3".
    """

    simulator: str
    spec: Any

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that moves, and what success is measured against."""
        ...

    def set_state(self, state: dict[str, np.ndarray]) -> tuple[Any, Mapping[str, Any]]:
        """Continue from a `get_state`; returns what `reset` returns."""
        ...

    def set_task(self, task: str) -> tuple[Any, Mapping[str, Any]]:
        """Another task from the scene as it stands; returns what `reset` returns."""
        ...


def is_restorable(env: Any) -> bool:
    """Whether this environment, without wrappers, is one."""
    return all(hasattr(env, name) for name in ("simulator", "get_state", "set_state", "set_task"))


def world_of(env: Restorable) -> dict[str, str]:
    """Which physics this is: `env_id` (empty if it was not made by gymnasium.make), `simulator`, `source`."""
    world = {"env_id": env.spec.id if env.spec is not None else "", "simulator": env.simulator}
    source = getattr(env, SOURCE, None)
    return world if source is None else world | {SOURCE: source}


def end_state(env: Any) -> dict[str, Any] | None:
    """The state of an environment without wrappers as a JSON value, exactly; None if it has none to give."""
    if not is_restorable(env):
        return None
    return {
        "world": world_of(env),
        "state": {name: value.tolist() for name, value in env.get_state().items()},
    }


def start_from(
    env: Any, kept: Mapping[str, Any], task: str, only: tuple[str, ...] = ()
) -> tuple[Any, Mapping[str, Any]]:
    """Start a task from a kept `end_state`; returns what `reset` returns.

    Args:
        env: without wrappers. Two starts from one state are equal bit for bit.
        only: of the state, these entries; the rest is as `env` has it now. All when empty.

    Raises:
        ValueError: this environment has no states, the state is of another world, or is none.
    """
    if not is_restorable(env):
        raise ValueError(f"env: expected get_state, set_state and set_task, got {type(env).__name__}")
    if not isinstance(kept, Mapping) or not isinstance(kept.get("state"), Mapping):
        raise ValueError(f"end_state: expected world and state, got {kept!s:.60}")
    if not _same(kept.get("world"), world := world_of(env)):
        raise ValueError(
            f"end_state: expected a state of {told_world(world)}, got one of {told_world(kept.get('world'))}"
        )
    state = {name: np.array(value) for name, value in kept["state"].items()}
    if only:
        missing = [name for name in only if name not in state]
        if missing:
            raise ValueError(f"end_state: expected {', '.join(only)}, got {', '.join(state)}")
        state = env.get_state() | {name: state[name] for name in only}
    env.set_state(state)
    return env.set_task(task)


def _same(kept: Any, world: Mapping[str, str]) -> bool:
    if not isinstance(kept, Mapping):
        return False
    return all(kept.get(name, value if name == SOURCE else None) == value for name, value in world.items())


def told_world(world: Any) -> str:
    """For a message: "keystep/Franka3Blocks-v1 (sapien 3.0.3)"."""
    if not isinstance(world, Mapping):
        return f"no world ({world!s:.40})"
    source = f", {world[SOURCE]}" if SOURCE in world else ""
    return f"{world.get('env_id')} ({world.get('simulator')}{source})"
