"""Which Gymnasium ids are Franka-3Blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keystep
from keystep.suites.franka3blocks import layout
from keystep.suites.franka3blocks.simulators import BULLET

if TYPE_CHECKING:
    from keystep.suites.franka3blocks.environment import Franka3BlocksEnv


def blocks_env(env_id: str) -> type[Franka3BlocksEnv]:
    """The environment of this id, which the scripted expert can serve. Loads no simulator.

    Raises:
        ArgumentError: there is none, or it is another world.
    """
    import gymnasium

    from keystep.suites.franka3blocks.environment import Franka3BlocksEnv

    spec = gymnasium.registry.get(env_id)
    maker: Any = None if spec is None else spec.entry_point
    if isinstance(maker, str):
        maker = gymnasium.envs.registration.load_env_creator(maker)
    if not isinstance(maker, type) or not issubclass(maker, Franka3BlocksEnv):
        raise keystep.ArgumentError(f"env_id: expected {' or '.join(layout.WORLDS)}, got {env_id!r}")
    return maker


def needs_driver(env_id: str) -> bool:
    """Whether pictures of this environment need a Vulkan driver: not in PyBullet, which draws by itself."""
    return blocks_env(env_id).physics != BULLET
