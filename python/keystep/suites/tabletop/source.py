"""The oracle on the tabletop suite as a source of demonstrations, with the code it runs at every step."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from keystep.code.grid import GRID, check_grid
from keystep.data.errors import DatasetError
from keystep.data.layout import Column, image_column
from keystep.data.spec import DatasetSpec
from keystep.suites.base import TASK, Frames, Rollout, Source, Suite, check_settings, numbered

SUITE = "tabletop"
ENV_ID = f"keystep/Tabletop-{TASK}-v0"
"""With the name of a task for TASK."""
SIMULATOR = ("mani_skill", "sapien")
"""Packages whose versions must stay the same over the life of a dataset."""
OTHERS = ("keystep", "numpy", "scipy")
"""Packages whose versions a dataset tells, too: with others its episodes may not replay exactly."""
IMAGE_SIZES = range(16, 1025)
"""Of the environment."""
STATE, OBJECTS = "observation.state", "observation.objects"
POSES, BOXES = "objects.poses", "objects.boxes"
CODE, KEYSTEP = "code", "keystep"
NAMES = "names"
"""Of the bodies, in the order of the slots: an episode's extra."""


def tabletop_source(
    suite: Suite,
    tasks: Sequence[str] | None,
    seed: int,
    obs_mode: str,
    image_size: int,
    grid: int = GRID,
) -> Source:
    """Demonstrations of the oracle.

    Args:
        tasks: names; all when None.
        seed: first seed; see `Suite.tasks` for the others.
        obs_mode: "state", "rgb" for the pictures of both cameras instead of the objects, or "state+rgb".
        image_size: their height and width.
        grid: in whose cells the code says places.

    Raises:
        DatasetError: a setting that cannot be.
    """
    from keystep.suites.tabletop import layout

    check_settings(seed, obs_mode, image_size, IMAGE_SIZES)
    try:
        check_grid(grid)
    except ValueError as error:
        raise DatasetError(str(error)) from None
    first_seeds = numbered(suite, tasks, seed)
    how = {
        "suite": SUITE,
        "env_id": ENV_ID,
        "obs_mode": obs_mode,
        **({"image_size": image_size} if "rgb" in obs_mode else {}),
        "grid": grid,
        "seed": seed,
        "world_version": layout.VERSION,
        "versions": package_versions(SIMULATOR),
        "action": action_description(),
    }
    spec = DatasetSpec(
        layout.CONTROL_RATE_HZ,
        features(obs_mode, image_size),
        dict.fromkeys(first_seeds),  # every episode has a prompt of its own
        "franka_panda",
        how,
        extras=(NAMES,),
        notes={"other_versions": package_versions(OTHERS)},
    )
    return Source(
        spec, functools.partial(open_oracle, obs_mode, image_size, grid), first_seeds, suite.seed_stride
    )


def features(obs_mode: str, image_size: int) -> dict[str, Column]:
    """The columns. Slots without an object hold zeros, of boxes -1."""
    from keystep.suites.tabletop import layout

    def slots(names: Sequence[str]) -> Column:
        known = tuple(f"object_{slot}_{name}" for slot in range(layout.MAX_BODIES) for name in names)
        return Column("float32", (len(known),), known)

    found = {STATE: Column("float32", (len(layout.STATE_NAMES),), layout.STATE_NAMES)}
    if "rgb" in obs_mode:
        picture = image_column(image_size, image_size)
        found |= {f"observation.images.{camera}": picture for camera in layout.CAMERAS}
    if "state" in obs_mode:
        found[OBJECTS] = slots(layout.OBJECT_NAMES)
    return found | {
        "action": Column("float32", (len(layout.ACTION_NAMES),), layout.ACTION_NAMES),
        POSES: slots(layout.POSE_NAMES),
        BOXES: slots(layout.BOX_NAMES),
        CODE: Column("string", (1,)),
        KEYSTEP: Column("bool", (1,)),
    }


def action_description() -> dict[str, Any]:
    """What a bundle's manifest says of actions."""
    from keystep.suites.tabletop import layout

    return {
        "names": list(layout.ACTION_NAMES),
        "units": list(layout.ACTION_UNITS),
        "min": layout.ACTION_LOW.tolist(),
        "max": layout.ACTION_HIGH.tolist(),
        "rate_limit": None,
        "hold": [0.0] * len(layout.ACTION_NAMES),
        "law": list(layout.ACTION_LAW),
    }


def package_versions(names: Sequence[str] = (*SIMULATOR, *OTHERS)) -> dict[str, str]:
    """What is installed here, by package."""
    return {name: version(name) for name in names}


def open_oracle(obs_mode: str, image_size: int, grid: int = GRID) -> Rollout:
    """The rollout function; it makes an environment when the task changes, and keeps only that one."""
    import gymnasium

    import keystep.suites.tabletop  # noqa: F401  registers the environments
    from keystep.suites.tabletop.oracle.demonstrations import demonstrate

    current: dict[str, gymnasium.Env] = {}

    def rollout(task: str, seed: int) -> Frames | None:
        if task not in current:
            while current:
                current.popitem()[1].close()
            env_id = ENV_ID.replace(TASK, task)
            current[task] = gymnasium.make(
                env_id, obs_mode=obs_mode, image_size=image_size, terminate_on_success=False
            )
        found = demonstrate(current[task], task, seed, grid)
        if found is None:
            return None
        return {**found.frames, "instruction": found.prompt, "extras": {NAMES: list(found.names)}}

    return rollout
