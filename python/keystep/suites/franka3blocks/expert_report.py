"""How often the scripted expert succeeds: `keystep expert --episodes 100`."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from keystep.suites.franka3blocks.expert import ScriptedExpert
from keystep.suites.franka3blocks.registered import blocks_env
from keystep.suites.franka3blocks.tasks import FAMILIES, TASKS, task_named
from keystep.suites.trials import play_all
from keystep.table_writer import print_table
from keystep.uncertainty import wilson_interval

ENV_ID = "keystep/Franka3Blocks-v1"


@dataclass(frozen=True)
class ExpertEpisode:
    """One episode: `steps` until the first success or the limit, wall-clock `seconds` with the reset."""

    task: str
    success: bool
    steps: int
    seconds: float


@functools.cache
def _environment(env_id: str) -> gymnasium.Env:
    """One environment per process: making one costs seconds."""
    return gymnasium.make(env_id)


def run_episode(task: str, seed: int, env_id: str = ENV_ID) -> ExpertEpisode:
    """The expert on one reset, up to the environment's limit of 360 steps."""
    started = time.perf_counter()
    env = _environment(env_id)
    _, info = env.reset(seed=seed, options={"task": task})
    expert = ScriptedExpert(env, seed=seed)
    done = False
    while not done:
        _, _, terminated, truncated, info = env.step(expert.act())
        done = terminated or truncated
    return ExpertEpisode(task, info["success"], info["elapsed_steps"], time.perf_counter() - started)


def evaluate_expert(
    tasks: Sequence[str] = tuple(TASKS),
    episodes: int = 100,
    seed: int = 0,
    processes: int = 1,
    env_id: str = ENV_ID,
) -> list[dict[str, Any]]:
    """Success of the expert on the seeds seed .. seed + episodes - 1 of every task.

    Returns:
        A row per task, then a row per family (`name` "all lift", ...), with name, family, episodes,
        successes, success_rate, low and high (95 % Wilson interval), median_steps (of the successes) and
        median_seconds.

    Raises:
        ArgumentError: `env_id` is not of Franka-3Blocks.
    """
    blocks_env(env_id)
    names = [task_named(task).name for task in tasks]
    outcomes = list(
        play_all(functools.partial(run_episode, env_id=env_id), names, episodes, seed, processes, "expert")
    )
    rows = [_row(task, [outcome for outcome in outcomes if outcome.task == task]) for task in tasks]
    for family in FAMILIES:
        members = [outcome for outcome in outcomes if TASKS[outcome.task].family == family]
        if members:
            rows.append(_row(f"all {family}", members))
    return rows


def _row(name: str, outcomes: list[ExpertEpisode]) -> dict[str, Any]:
    successes = [outcome for outcome in outcomes if outcome.success]
    low, high = wilson_interval(len(successes), len(outcomes))
    return {
        "name": name,
        "family": TASKS[outcomes[0].task].family,
        "episodes": len(outcomes),
        "successes": len(successes),
        "success_rate": len(successes) / len(outcomes),
        "low": low,
        "high": high,
        "median_steps": float(np.median([outcome.steps for outcome in successes])) if successes else None,
        "median_seconds": float(np.median([outcome.seconds for outcome in outcomes])),
    }


def print_report(rows: list[dict[str, Any]]) -> None:
    print_table(
        ("task", "success", "rate", "interval", "steps", "time"),
        map(_cells, rows),
        title="Scripted expert on Franka-3Blocks (medians; 95 % Wilson interval)",
    )


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        f"{row['successes']} / {row['episodes']}",
        f"{row['success_rate']:.1%}",
        f"{row['low']:.1%}-{row['high']:.1%}",
        "-" if row["median_steps"] is None else f"{row['median_steps']:.0f}",
        f"{1e3 * row['median_seconds']:.0f} ms",
    ]
