"""The 31 tasks of the paper's tables. Each draws a scene, a prompt and a predicate from a generator."""

from __future__ import annotations

from difflib import get_close_matches

from keystep.suites.tabletop.scenario import Task
from keystep.suites.tabletop.tasks import l0, l1, l2

TASKS: dict[str, Task] = {task.name: task for task in (*l0.TASKS, *l1.TASKS, *l2.TASKS)}


def task_named(name: str) -> Task:
    """The task of this name.

    Raises:
        ValueError: there is none; names what comes close.
    """
    if name in TASKS:
        return TASKS[name]
    close = get_close_matches(name, TASKS, n=3)
    wanted = f"{' or '.join(close)}" if close else f"one of {', '.join(TASKS)}"
    raise ValueError(f"task: expected {wanted}, got {name!r}")
