"""keystep run"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import tyro

import keystep
from keystep.commands.eval import FIRST_SEED
from keystep.files import check_outputs, write_each


def main(
    planner: Annotated[Path, tyro.conf.Positional],
    task: str,
    episodes: int = 1,
    seed: int = FIRST_SEED,
    every_step: bool = False,
    show: bool = True,
    video: Path | None = None,
    json: Path | None = None,
) -> Any:
    """Watch a planner write code for a task of the suite tabletop, and the oracle run it (VLM + Oracle).

    In a terminal the code is shown live: key-steps as they come, what the executor says, what the planner
    remembers, how long its replies take. Elsewhere the lines of an episode are a file that `keystep oracle
    --code` runs; with several episodes they follow each other, each below a line with that command.
    Success of many episodes: keystep eval PLANNER --suite tabletop --act oracle.

    Args:
        planner: a bundle of family code, or a checkpoint folder of `keystep train code-planner`.
        task: its name; `keystep oracle --list` shows them.
        episodes: one after the other.
        seed: of the first one's scene; the next have seed + 1, ...
        every_step: ask the planner at every control step, as beside a controller, and let a key-step that
            comes interrupt the call that runs; else it is asked for one when a call has ended.
        show: while it runs; else only how it ends.
        video: also write what the base camera sees, and below it the code (needs a Vulkan driver).
        json: also write what happened to this file.
    """
    from keystep.suites.base import check_seed
    from keystep.suites.tabletop import task_named

    name = task_named(task).name
    if episodes < 1:
        raise keystep.ArgumentError(f"episodes: expected at least 1, got {episodes}")
    check_seed(seed)
    check_outputs(json=json, video=video)
    from keystep.commands.run_episodes import PlannerEpisodes

    run = PlannerEpisodes(planner, name, every_step, video is not None)
    try:
        run.play(range(seed, seed + episodes), show)
    finally:
        writes: list[Callable[[], None]] = []
        if json is not None and any(record.instruction for record in run.records):  # one has begun
            writes.append(functools.partial(run.write, json))
        if video is not None and not run.interrupted:
            writes.append(functools.partial(run.film, video))
        write_each(*writes)
    return run
