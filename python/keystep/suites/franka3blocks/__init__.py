"""Franka-3Blocks. Importing this registers the environments; a simulator loads when one is made."""

from importlib.util import find_spec

from keystep.suites.franka3blocks.layout import (
    ACTION_HOLD,
    ACTION_NAMES,
    ACTION_UNITS,
    CONTROL_RATE_HZ,
    STATE_NAMES,
)
from keystep.suites.franka3blocks.tasks import TASKS, BlockTask

__all__ = [
    "ACTION_HOLD",
    "ACTION_NAMES",
    "ACTION_UNITS",
    "CONTROL_RATE_HZ",
    "STATE_NAMES",
    "TASKS",
    "BlockTask",
]

if find_spec("gymnasium") is not None:  # names and tasks are of use without the extra "sim"
    import gymnasium

    _MODULE = "keystep.suites.franka3blocks.environment"
    gymnasium.register("keystep/Franka3Blocks-v1", entry_point=f"{_MODULE}:Franka3BlocksEnv")
    gymnasium.register("keystep/Franka3Blocks-bullet", entry_point=f"{_MODULE}:BulletBlocksEnv")
