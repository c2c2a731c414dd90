"""Franka-3Blocks as a suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from keystep.suites.base import Demonstrator, Pictures, Source
from keystep.suites.franka3blocks.layout import STATE_PARTS
from keystep.suites.franka3blocks.symmetries import SYMMETRIES
from keystep.suites.franka3blocks.tasks import TASKS

VIEW = 256  # pixels a side, of pictures of states


class Franka3Blocks:
    """See `keystep.suites.base.Suite`."""

    name = "franka3blocks"
    tasks: Mapping[str, int] = {
        "lift_red": 0,
        "lift_green": 1,
        "lift_blue": 2,
        "push_red_left": 3,
        "push_red_right": 4,
        "push_green_left": 5,
        "push_green_right": 6,
        "push_blue_left": 7,
        "push_blue_right": 8,
        "stack": 9,
    }
    seed_stride = 10
    env_id = "keystep/Franka3Blocks-v1"
    collect_options = frozenset(
        {
            "env_id",
            "expert_noise",
            "frames_after_success",
            "wander_frames",
            "record",
            "stack_aligned_m",
            "chained",
            "held",
        }
    )
    symmetries = SYMMETRIES
    parts: Mapping[str, tuple[int, ...]] = {"observation.state": STATE_PARTS}
    held_out_kinds: tuple[str, ...] = ("carrier", "frame", "words")

    def register(self) -> None:
        import keystep.suites.franka3blocks  # noqa: F401

    def instruction(self, task: str) -> str | None:
        return TASKS[task].instruction

    def source(
        self, tasks: Sequence[str] | None, seed: int, obs_mode: str, image_size: int, **options: Any
    ) -> Source:
        from keystep.suites.franka3blocks.source import franka3blocks_source

        return franka3blocks_source(self, tasks, seed, obs_mode, image_size, **options)

    def phrasings(self, task: str) -> tuple[str, ...]:
        from keystep.suites.franka3blocks import instructions

        return instructions.phrasings(task)

    def held_out(self, task: str) -> tuple[str, ...]:
        from keystep.suites.franka3blocks import instructions

        return instructions.held_out(task)

    def meaning(self, task: str) -> dict[str, int]:
        from keystep.suites.franka3blocks import instructions

        return instructions.meaning(task)

    def demonstrator(self, env: Any, planner: dict[str, Any]) -> Demonstrator:
        from keystep.suites.franka3blocks.subgoals import ExpertSubgoals

        return ExpertSubgoals(env, planner)

    @property
    def failure_kinds(self) -> tuple[str, ...]:
        from keystep.suites.franka3blocks.failures import FAILURE_KINDS

        return FAILURE_KINDS

    def failure(self, task: str, observations: Sequence[Mapping[str, Any]]) -> str:
        """See `failures.failure_of`."""
        import numpy as np

        from keystep.suites.franka3blocks.failures import failure_of

        return failure_of(TASKS[task], np.stack([seen["observation.state"] for seen in observations]))

    @contextmanager
    def pictures(self, make_env: Callable[[dict[str, Any]], Any], subgoal: str) -> Iterator[Pictures]:
        from keystep.suites.franka3blocks import pictures
        from keystep.suites.headless import MissingDriver

        if subgoal != "observation.state":
            yield pictures.CameraPictures(subgoal)
            return
        try:
            env = make_env({"obs_mode": "state", "render_mode": "rgb_array", "image_size": VIEW})
        except Exception as error:
            if not isinstance(error.__cause__ or error, MissingDriver):
                raise
            yield pictures.DrawnPictures(VIEW)
            return
        try:
            yield pictures.SimulatedPictures(env)
        finally:
            env.close()


SUITE = Franka3Blocks()
