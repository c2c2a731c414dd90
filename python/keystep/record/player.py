"""Rollouts of one policy from one context: up to K trials, the first success is kept.

Source: HD-ExpIt, Algorithm 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.data.errors import DatasetError
from keystep.data.layout import Column
from keystep.evaluate.environments import ObservationReader, check_action_space, make_env, solved
from keystep.features import Feature
from keystep.record.best_of_n import candidate_options, has_scorer
from keystep.record.bundles import has_bundle
from keystep.record.contexts import StartContext
from keystep.record.rollout_settings import RolloutSettings
from keystep.suites import suite_named
from keystep.suites.states import end_state, start_from


@dataclass(frozen=True)
class Attempt:
    """One trial of a context.

    Attributes:
        trial: its number, from 0; with the context's seed it determines the noise.
        success: whether it was kept.
        steps: actions taken.
        plan: the first one, by the key of the subgoals, see `keystep.Runtime.plan`; None where there is none.
    """

    trial: int
    success: bool
    steps: int
    plan: Mapping[str, np.ndarray] | None


@dataclass(frozen=True)
class ContextResult:
    """What came of a context.

    Attributes:
        observation: the first one, as the policy saw it.
        attempts: the trials, failures included.
        frames: of the success, (T, ...) by feature; None without one.
        end: its last state, see `keystep.suites.states`.
        solved: that at its first success.
        solved_at_start: the task was solved before anything was done; then there are no attempts.
    """

    observation: Mapping[str, np.ndarray]
    attempts: tuple[Attempt, ...] = ()
    frames: Mapping[str, np.ndarray] | None = None
    end: Mapping[str, Any] | None = None
    solved: Mapping[str, Any] | None = None
    solved_at_start: bool = False


class _SolvedAtStart(Exception):
    """Contacts are known only after a step: a stack that stands is seen then."""


class RolloutPlayer:
    """A policy and its environment, for many contexts.

    Args:
        features: of the frames that are kept; the environment shows their images, too. None: what it shows.

    Raises:
        DatasetError: settings that bundle or environment do not take.
    """

    def __init__(
        self, bundle: Path, settings: RolloutSettings, features: Mapping[str, Column] | None = None
    ) -> None:
        self._settings = settings
        self._features = features
        self._policy = keystep.load(bundle, **load_options(keystep.read_manifest(bundle), settings))
        manifest = self._policy.manifest
        suite = suite_named(settings.suite)
        suite.register()
        env_id = settings.env_id or suite.env_id
        made = make_env(env_id, shown(manifest, features or {}), settings.env_kwargs)
        check_action_space(made, manifest)
        self._env = made.unwrapped  # limits are ours; wrappers that only check cost time
        if hasattr(self._env, "terminate_on_success"):
            self._env.terminate_on_success = False
        self._read = ObservationReader(manifest)
        self._solved: Mapping[str, Any] | None = None  # the state at the first success of this trial
        self._told: dict[str, Any] = (
            {} if settings.guidance is None or not manifest["planner"] else {"guidance": settings.guidance}
        )

    def run(self, context: StartContext) -> ContextResult:
        """Try the context."""
        attempts: list[Attempt] = []
        first: dict[str, np.ndarray] = {}
        try:
            for trial in range(self._settings.trials):
                seen, _ = self._start(context)
                self._require_features(seen)
                first = first or self._read(seen)
                self._policy.reset(task=context.task, seed=context.seed, episode=trial, **self._told)
                frames, plan, success = self._play(context.task, seen)
                attempts.append(Attempt(trial, success, len(frames["action"]), plan))
                if success:
                    return ContextResult(first, tuple(attempts), frames, end_state(self._env), self._solved)
        except _SolvedAtStart:
            return ContextResult(first, solved_at_start=True)
        return ContextResult(first, tuple(attempts))

    def _start(self, context: StartContext) -> tuple[Any, Mapping[str, Any]]:
        if context.state is None:
            return self._env.reset(seed=context.seed, options={"task": context.task})
        only: tuple[str, ...] = ()
        if self._settings.restore == "cubes_only":
            self._env.reset(seed=context.seed, options={"task": context.task})
            only = ("cubes",)
        try:
            return start_from(self._env, context.state, context.task, only)
        except ValueError as error:
            where = f"{context.task}: episode {(context.source or {}).get('episode')}"
            raise DatasetError(f"{where}: {error}") from error

    def _require_features(self, seen: Mapping[str, Any]) -> None:
        for key in self._features or ():
            if key != "action" and key not in seen:
                wanted = f"an environment that shows {key}, as demonstrations have it"
                raise DatasetError(f"features: expected {wanted}, got one that shows {', '.join(seen)}")

    def _play(
        self, task: str, observation: Any
    ) -> tuple[dict[str, np.ndarray], Mapping[str, np.ndarray] | None, bool]:
        """Columns of the rollout, its first plan, and whether it is to be kept."""
        settings, policy = self._settings, self._policy
        standing = task in settings.standing
        seen: list[Mapping[str, Any]] = []
        actions: list[np.ndarray] = []
        plan, solved_frames, kept = None, 0, False
        self._solved = None
        for step in range(1, settings.max_steps + 1):
            try:
                action = policy.act(self._read(observation))
            except keystep.PolicyError:
                break
            if step == 1:
                plan = policy.plan() if policy.manifest["planner"] else None
            seen.append(observation)
            actions.append(action)
            observation, _, terminated, truncated, info = self._env.step(action)
            now = bool(solved(info, terminated, None))
            if step == 1 and now:
                raise _SolvedAtStart
            if now and not solved_frames:
                self._solved = end_state(self._env)
            solved_frames += now
            kept = solved_frames > settings.success_frames and step >= settings.min_steps
            kept = kept and (now or not standing)
            if not getattr(self._env, "intact", True):  # as of demonstrations
                return _columns(seen, actions), plan, False
            if kept or terminated or truncated:
                break
        return _columns(seen, actions), plan, kept


def _columns(seen: list[Mapping[str, Any]], actions: list[np.ndarray]) -> dict[str, np.ndarray]:
    columns = {key: np.stack([frame[key] for frame in seen]) for key in (seen[0] if seen else ())}
    return columns | {"action": np.stack(actions) if actions else np.zeros((0, 0), np.float32)}


def shown(manifest: dict[str, Any], features: Mapping[str, Column]) -> dict[str, Any]:
    """The manifest as if the policy observed the images of these features, too."""
    known = {entry["key"] for entry in manifest["observation"]}
    more = [
        Feature(key, "rgb", column.shape).to_dict()
        for key, column in features.items()
        if column.is_image and key not in known
    ]
    return {**manifest, "observation": [*manifest["observation"], *more]} if more else manifest


def load_options(manifest: Mapping[str, Any], settings: RolloutSettings) -> dict[str, Any]:
    """For `keystep.load`: no replanning, one thread.

    Raises:
        DatasetError: the bundle has no planner for a setting, or no scorer.
    """
    options: dict[str, Any] = {"threads": 1}
    planning = candidate_options(settings.planner_candidates, settings.planner_score)
    planning |= {"planner_steps": settings.planner_steps} if settings.planner_steps else {}
    if settings.planner_score == "learned" and not has_scorer(manifest):
        raise DatasetError("planner_score: expected density (the bundle has no scorer), got 'learned'")
    if manifest["planner"] is not None:
        return options | planning | {"replan": False}
    for name, value in planning.items():
        raise DatasetError(f"{name}: expected none for a bundle without a planner, got {value}")
    return options


def open_player(
    settings: RolloutSettings, digest: str, features: Mapping[str, Column], bundle: Path
) -> Callable[[StartContext], ContextResult]:
    """The work of a process: results of contexts. Refuses another bundle than that of `digest`."""
    if not has_bundle(bundle, digest):
        raise DatasetError(f"{bundle}: expected a bundle, found none")
    return RolloutPlayer(bundle, settings, features).run
