"""Tabletop tasks for code policies. Importing this registers `keystep/Tabletop-<Task>-v0` with Gymnasium."""

from importlib.util import find_spec

from keystep.suites.tabletop.tasks import TASKS, task_named

__all__ = ["TASKS", "env_id", "task_named"]


def env_id(task: str) -> str:
    """The Gymnasium id of a task."""
    return f"keystep/Tabletop-{task_named(task).name}-v0"


if find_spec("gymnasium") is not None:  # names and tasks are of use without the extra "sim"
    import gymnasium

    for _task in TASKS:
        gymnasium.register(
            env_id(_task), "keystep.suites.tabletop.environment:TabletopEnv", kwargs={"task": _task}
        )
