"""The tabletop suite as a suite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keystep
from keystep.code.samples import TextEpisode
from keystep.code.tokenizer import Tokenizer
from keystep.suites.base import Demonstrator, Pictures, SeenScene, Source
from keystep.suites.tabletop.source import ENV_ID
from keystep.suites.tabletop.source import SUITE as NAME

TASKS = (
    "Pick",
    "PlaceOnTop",
    "PlaceNextTo",
    "Rotate",
    "ThrowAt",
    "ThrowToTopple",
    "Touch",
    "Push",
    "Topple",
    "PickPlaceOnTop",
    "PickPlaceNextTo",
    "FollowOrder",
    "FollowOrderRestore",
    "Neighbour",
    "NovelAdjective",
    "NovelNoun",
    "NovelNounAdjective",
    "RotateRestore",
    "RotateSymmetry",
    "SingleStack",
    "ReverseStack",
    "SortByTexture",
    "Swap",
    "ThrowOnto",
    "PushToTarget",
    "BalanceScale",
    "StackSorted",
    "StackTopple",
    "SwapByPushing",
    "SwapRotate",
    "ThrowSort",
)
"""By number."""


class Tabletop:
    """See `keystep.suites.base.Suite`."""

    name = NAME
    tasks: Mapping[str, int] = {task: number for number, task in enumerate(TASKS)}
    seed_stride = 31
    env_id = ENV_ID
    collect_options: frozenset[str] = frozenset({"grid"})
    held_out_kinds: tuple[str, ...] = ()

    def register(self) -> None:
        import keystep.suites.tabletop  # noqa: F401

    def instruction(self, task: str) -> str | None:
        """Every episode has a prompt of its own."""
        return None

    def source(
        self, tasks: Sequence[str] | None, seed: int, obs_mode: str, image_size: int, **options: Any
    ) -> Source:
        from keystep.suites.tabletop.source import tabletop_source

        return tabletop_source(self, tasks, seed, obs_mode, image_size, **options)

    def texts(self, tasks: Sequence[str] | None, grid: int) -> Iterator[TextEpisode]:
        from keystep.suites.tabletop.oracle.texts import text_episodes

        return text_episodes(tasks, grid)

    def seen_scenes(self, image_size: int) -> Iterator[SeenScene]:
        from keystep.suites.tabletop.scenes import seen_scenes

        return seen_scenes(image_size)

    def tokenizer(self, grid: int) -> Tokenizer:
        from keystep.suites.tabletop.words import tabletop_tokenizer

        return tabletop_tokenizer(grid)

    def phrasings(self, task: str) -> tuple[str, ...]:
        raise KeyError(task)

    def held_out(self, task: str) -> tuple[str, ...]:
        raise KeyError(task)

    def meaning(self, task: str) -> dict[str, int]:
        raise KeyError(task)

    def demonstrator(self, env: Any, planner: dict[str, Any]) -> Demonstrator:
        expected = "a suite whose demonstrations have subgoals (franka3blocks)"
        raise keystep.ArgumentError(f"ground_truth: expected {expected}, got {self.name}")

    def pictures(
        self, make_env: Callable[[dict[str, Any]], Any], subgoal: str
    ) -> AbstractContextManager[Pictures]:
        raise keystep.ArgumentError("suite: expected one with pictures of subgoals, got tabletop")


SUITE = Tabletop()
