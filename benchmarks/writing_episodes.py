"""Episodes that planners which write code are timed on: what they are shown, and how long each step takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns, process_time_ns
from typing import Any, Protocol

import numpy as np

import keystep
from keystep.suites.tabletop.oracle.bundle_planner import BundlePlanner
from keystep.suites.tabletop.oracle.replies import Written, open_for, play_replies

Observation = dict[str, np.ndarray]
NO_REPLY = keystep.CodeReply("", key_step=False, asked=True, tokens=0, passes=0, ended=False)


@dataclass(frozen=True)
class Episode:
    """What a planner is shown, step by step: the task in words, and what is seen."""

    task: str
    observations: tuple[Observation, ...]


class Asked(Protocol):
    """A `keystep.CodeRuntime`, or what is asked like one."""

    def reset(self, task: str) -> None: ...

    def ask(self, observation: Observation) -> keystep.CodeReply: ...


@dataclass
class Timed:
    """Of one contender.

    Attributes:
        ms, cpu_ms: of each step, by episode; the second is of all threads of the process.
        prepare_ms, prepare_cpu_ms: of the calls of `prepare` that decoded a key-step.
        replies: of the last episode; not ended: there is none, as it had no end.
    """

    ms: list[list[float]] = field(default_factory=list)
    cpu_ms: list[list[float]] = field(default_factory=list)
    prepare_ms: list[float] = field(default_factory=list)
    prepare_cpu_ms: list[float] = field(default_factory=list)
    replies: list[keystep.CodeReply] = field(default_factory=list)

    def play(self, planner: Asked, episode: Episode, prepare: bool) -> float:
        """Milliseconds of the episode's steps."""
        planner.reset(episode.task)
        self.replies = []
        steps: list[tuple[float, float]] = []
        for observation in episode.observations:
            start = _now()
            try:
                self.replies.append(planner.ask(observation))
            except keystep.PolicyError:
                self.replies.append(NO_REPLY)
            steps.append(_since(start))
            if prepare:
                assert isinstance(planner, keystep.CodeRuntime)
                start = _now()
                planner.prepare()
                if self.replies[-1].key_step:  # once for each of them
                    ms, cpu_ms = _since(start)
                    self.prepare_ms.append(ms)
                    self.prepare_cpu_ms.append(cpu_ms)
        self.ms.append([ms for ms, _ in steps])
        self.cpu_ms.append([cpu for _, cpu in steps])
        return sum(self.ms[-1])

    def of(self, steps: Sequence[int], cpu: bool = False) -> np.ndarray:
        """Milliseconds [episodes, steps]."""
        return np.array(self.cpu_ms if cpu else self.ms)[:, list(steps)]

    def medians(self, steps: Sequence[int], cpu: bool = False) -> list[float]:
        """Of these steps, by episode."""
        found: list[float] = np.median(self.of(steps, cpu), axis=1).tolist()
        return found

    def to_dict(self) -> dict[str, Any]:
        """For a result's file."""
        told = {name: _rounded(getattr(self, name)) for name in ("ms", "cpu_ms")}
        told |= {name: _rounded(getattr(self, name)) for name in ("prepare_ms", "prepare_cpu_ms")}
        return {**told, "passes": [reply.passes for reply in self.replies]}


def _now() -> tuple[int, int]:
    return perf_counter_ns(), process_time_ns()


def _since(start: tuple[int, int]) -> tuple[float, float]:
    return tuple((now - then) / 1e6 for now, then in zip(_now(), start, strict=True))  # type: ignore[return-value]


def _rounded(values: Any) -> Any:
    return [_rounded(each) if isinstance(each, list) else round(each, 4) for each in values]


def recorded_episode(bundle: Path, task: str, seed: int) -> Episode:
    """An episode of the suite tabletop in which the planner is asked at every step, and the oracle acts."""
    planner = _Recorder(bundle)
    with closing(open_for(task, planner)) as env:
        play_replies(env, seed, planner, planner.grid, every_step=True)
    if not planner.seen:
        raise SystemExit(f"{bundle.name}: expected an episode of {task}, got none: seed {seed}")
    return Episode(planner.task, tuple(planner.seen))


class _Recorder(BundlePlanner):
    """Keeps what it is shown."""

    def begin(self, task: str) -> None:
        super().begin(task)
        self.task, self.seen = task, list[Observation]()

    def write(self, seen: Mapping[str, np.ndarray], request: bool = True) -> Written:
        self.seen.append({key: np.array(seen[key]) for key in self._wanted})
        return super().write(seen, request)
