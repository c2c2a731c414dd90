"""CALVIN as a suite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keystep
from keystep.data.errors import DatasetError
from keystep.suites.base import Demonstrator, FixedStarts, Pictures, Source
from keystep.suites.calvin import ENV_ID
from keystep.suites.calvin import tasks as names


class CalvinSuite:
    """See `keystep.suites.base.Suite`."""

    name = "calvin"
    tasks: Mapping[str, int] = names.TASKS
    seed_stride = 34
    env_id = ENV_ID
    collect_options: frozenset[str] = frozenset()
    held_out_kinds: tuple[str, ...] = ()
    families: Mapping[str, str] = names.FAMILIES

    def register(self) -> None:
        import keystep.suites.calvin  # noqa: F401

    def instruction(self, task: str) -> str | None:
        return names.instruction(task)

    def source(
        self, tasks: Sequence[str] | None, seed: int, obs_mode: str, image_size: int, **options: Any
    ) -> Source:
        raise DatasetError(
            "suite: expected one with a demonstrator, got calvin, whose demonstrations are recorded: "
            "keystep calvin convert makes a dataset of them"
        )

    def phrasings(self, task: str) -> tuple[str, ...]:
        """The canonical instruction and the user's training sentences. ArgumentError without their file."""
        from keystep.suites.calvin.sources import read_sentences, training_file

        canonical = names.instruction(task)
        return (canonical, *read_sentences(training_file())[task])

    def held_out(self, task: str) -> tuple[str, ...]:
        """The user's one unseen sentence. Raises ArgumentError without a file."""
        from keystep.suites.calvin.sources import read_sentences, unseen_file

        return read_sentences(unseen_file())[task]

    def meaning(self, task: str) -> dict[str, int]:
        return names.meaning(task)

    def fixed_starts(self, protocol: str, env_kwargs: Mapping[str, Any]) -> FixedStarts:
        """The benchmark's own episodes, sentences and limit.

        Args:
            protocol: MTLC or LH-MTLC.
            env_kwargs: of `CalvinEnv`.

        Raises:
            ArgumentError: a piece of CALVIN is missing, or the file of starts.
        """
        from keystep.suites.calvin.evaluation import fixed_starts

        return fixed_starts(protocol, env_kwargs)

    def demonstrator(self, env: Any, planner: dict[str, Any]) -> Demonstrator:
        from keystep.suites.calvin.evaluation import RecordedSubgoals

        return RecordedSubgoals(env, planner)

    def pictures(
        self, make_env: Callable[[dict[str, Any]], Any], subgoal: str
    ) -> AbstractContextManager[Pictures]:
        raise keystep.ArgumentError("suite: expected one with pictures of subgoals, got calvin")


SUITE = CalvinSuite()
