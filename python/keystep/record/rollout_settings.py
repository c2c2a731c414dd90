"""What is collected, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import keystep
from keystep.data.errors import DatasetError
from keystep.record.best_of_n import PlannerScore, check_candidates

ContextKind = Literal["reset", "replayed"]
KINDS: tuple[ContextKind, ...] = ("reset", "replayed")

ROLLOUT_SEEDS = 10**12
"""Collection s has the seeds from (s + 1) times this: far above those of demonstrations and evaluations."""
REPLAYED_SEEDS = ROLLOUT_SEEDS // 2
"""Within them, from where those of replayed contexts begin."""
MAX_COLLECTION = 2**63 // ROLLOUT_SEEDS - 2


@dataclass(frozen=True)
class RolloutSettings:
    """The paper's defaults for Franka-3Blocks (HD-ExpIt, section 5 and appendix C).

    Raises:
        DatasetError: which setting is out of range.
    """

    suite: str = "franka3blocks"
    """The simulated world and its tasks."""
    env_id: str = ""
    """Gymnasium environment; the suite's when empty."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Options of its constructor."""
    tasks: tuple[str, ...] | None = None
    """Names; all of the suite when None."""
    reset_per_task: int = 50
    """Rollouts kept per task from environment resets, at most."""
    replayed_per_task: int = 50
    """And from states of other episodes."""
    trials: int = 5
    """Rollouts per context, at most (K): the first success is kept."""
    guidance: float | None = 3.0
    """Of the planner (lambda); None: as the bundle says."""
    max_steps: int = 65
    """Of a rollout."""
    success_frames: int = 5
    """A rollout is kept with more frames of success than this ..."""
    min_steps: int = 50
    """... and at least so many steps. It ends when both hold."""
    standing: tuple[str, ...] = ("stack",)
    """Tasks that must be solved at the last step, too."""
    restore: Literal["exact", "cubes_only"] = "exact"
    """Of a replayed state: all of it; or only the cubes, with the arm at home and without the tasks of
    `standing`, as the original does."""
    replay_from: Literal["end", "success"] = "end"
    """Of the other episodes: their last state, as in the paper; or that of their first success, where a chain
    of tasks goes on."""
    seed: int = 0
    """Of the collection: each has contexts and noise of its own."""
    max_contexts: int = 500
    """Per task and kind; a task that has not enough successes then is given up."""
    planner_steps: int = 0
    """Denoise steps of a plan; 0: as the bundle says."""
    planner_candidates: int = 1
    """Plans of which the best is followed."""
    planner_score: PlannerScore = "bundle"
    """What is best: learned or density; bundle: by its scorer, if it has one, else by density."""

    def __post_init__(self) -> None:
        least = {"trials": 1, "max_steps": 1, "max_contexts": 1}
        whole = ("reset_per_task", "replayed_per_task", "success_frames", "min_steps", "seed")
        try:
            check_candidates(self.planner_candidates, self.planner_score)
        except keystep.ArgumentError as error:
            raise DatasetError(str(error)) from None
        for name in (*least, *whole, "planner_steps"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least.get(name, 0):
                raise DatasetError(
                    f"{name}: expected a whole number from {least.get(name, 0)}, got {value!r}"
                )
        for name, most in (("min_steps", self.max_steps), ("seed", MAX_COLLECTION)):
            if getattr(self, name) > most:
                raise DatasetError(f"{name}: expected at most {most}, got {getattr(self, name)}")
        if self.success_frames >= self.max_steps:
            wanted = f"fewer than max_steps ({self.max_steps})"
            raise DatasetError(f"success_frames: expected {wanted}, got {self.success_frames}")
        if self.guidance is not None and not 0 <= self.guidance < float("inf"):
            raise DatasetError(f"guidance: expected at least 0, or none, got {self.guidance}")
        if self.restore not in ("exact", "cubes_only"):
            raise DatasetError(f"restore: expected exact or cubes_only, got {self.restore!r}")
        if self.replay_from not in ("end", "success"):
            raise DatasetError(f"replay_from: expected end or success, got {self.replay_from!r}")
        if self.tasks is not None and len(set(self.tasks)) != len(self.tasks):
            raise DatasetError(f"tasks: expected each once, got {', '.join(self.tasks)}")

    def wanted(self, kind: ContextKind) -> int:
        """Rollouts to keep per task."""
        return self.reset_per_task if kind == "reset" else self.replayed_per_task

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a dataset to keep."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if self.replay_from == "end":  # datasets made before there was another one are what they were
            del values["replay_from"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass
class StreamCount:
    """What came of the contexts of one task and kind, earlier runs of the collection included.

    Attributes:
        wanted: successes to keep.
        available: contexts that there are.
        contexts: tried, which are the first ones of the stream.
        left_out: of them, those whose task was solved at the start.
        trials, successes: rollouts, and those kept.
    """

    task: str
    kind: ContextKind
    wanted: int
    available: int
    contexts: int = 0
    left_out: int = 0
    trials: int = 0
    successes: int = 0

    @property
    def given_up(self) -> bool:
        """There are fewer successes than wanted, and no contexts any more."""
        return self.successes < self.wanted and self.contexts >= self.available

    @property
    def done(self) -> bool:
        """No further context is needed, or there is none."""
        return self.successes >= self.wanted or self.given_up


@dataclass
class RolloutReport:
    """What a collection of rollouts did.

    Attributes:
        counts: of every task and kind, in the order in which their contexts take turns.
        episodes: in the dataset now.
        seconds, rollouts: of this run.
        restarts: of workers that died, whose contexts were tried again, in this run.
        interrupted: stopped by Ctrl-C; call again to continue.
    """

    counts: list[StreamCount]
    episodes: int = 0
    seconds: float = 0.0
    rollouts: int = 0
    restarts: int = 0
    interrupted: bool = False

    @property
    def given_up(self) -> list[StreamCount]:
        """Those that have fewer successes than wanted at the end."""
        return [count for count in self.counts if count.given_up]

    @property
    def without_success(self) -> list[str]:
        """Tasks of which not one rollout was kept although some was wanted."""
        kept: dict[str, int] = {}
        for count in self.counts:
            if count.wanted:
                kept[count.task] = kept.get(count.task, 0) + count.successes
        return [task for task, successes in kept.items() if not successes]
