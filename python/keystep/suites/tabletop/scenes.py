"""How episodes begin, as pictures with what is where.

To see takes more scenes than demonstrations have. A reset with its picture takes 50 ms of a core.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from keystep.suites.base import SeenScene
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.oracle.texts import FIRST_SEED
from keystep.suites.tabletop.tasks import TASKS, task_named


def seen_scenes(image_size: int) -> Iterator[SeenScene]:
    """Without end, the tasks in turn, on the seeds of `text_episodes`: no dataset and no evaluation has them.

    Raises:
        ValueError: no such size.
        RuntimeError: on a machine without a Vulkan driver.
    """
    tasks = tuple(TASKS)
    with closing(TabletopEnv(tasks[0], render_mode="rgb_array", image_size=image_size)) as env:
        seed = FIRST_SEED
        while True:
            env.task = task_named(tasks[(seed - FIRST_SEED) % len(tasks)])
            env.reset(seed=seed)
            names = tuple(env.scenario.name(body) for body in range(len(env.scenario.bodies)))
            yield SeenScene(env.render(), names, env.boxes()[: len(names)])
            seed += 1
