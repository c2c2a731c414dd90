"""The part of `keystep.Runtime` that gives whole chunks and plans."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from keystep._core import Runtime
from keystep.candidates import Candidates
from keystep.continuation import continuation_arguments
from keystep.features import feature_of
from keystep.observations import Observation, Subgoals


class RuntimePredictions:
    """See `keystep.Runtime`."""

    _core: Runtime
    _manifest: dict[str, Any]

    @abstractmethod
    def _check_task(self, observation: Observation) -> None: ...

    def predict_chunk(
        self,
        observation: Observation,
        noise: np.ndarray | None = None,
        *,
        previous: np.ndarray | None = None,
        delay: int = 0,
        overlap: int | None = None,
        rule: str | None = None,
        decay: str = "exponential",
    ) -> np.ndarray:
        """One whole chunk, float32 (H, A), physical units before the gate; nothing of the episode changes.

        With `previous` it continues the chunk before (docs/merging.md): its rows below `delay`, counted from
        the manifest's `chunk.start`, are those of `previous`, exactly. In async mode this, `predict_plan` and
        `predict_candidates` raise PolicyError "busy".

        Args:
            noise: float32 (H, A), or (K, H, A): the initial noise, then that of each denoise step that needs
                some; None: the generator's, for the next chunk of this episode.
            previous: float32 (rows, A), up to H rows: the old chunk's actions that are not executed yet, in
                physical units, from the one that executes now. None: a chunk of its own.
            delay: actions that will be consumed before the new chunk begins to act.
            overlap: of x0blend: the first row that is wholly new, `delay` or more; None: H - delay, or where
                `previous` ends.
            rule: x0blend, trained (a bundle trained with `--rtc`, `delay` up to its `chunk.max_delay`), or
                none; None: trained where the bundle is, else x0blend.
            decay: of x0blend: exponential or linear, how the old chunk's weight falls from delay to overlap.
        """
        self._check_task(observation)
        continued = continuation_arguments(self._manifest, previous, delay, overlap, rule, decay)
        return self._core.predict_chunk(observation, noise, *continued)

    def predict_plan(
        self, observation: Observation, noise: np.ndarray | None = None, *, as_float: bool = False
    ) -> Subgoals:
        """One whole plan for one observation, in physical units; nothing of the episode changes.

        Args:
            noise: float32 (M, S) or (M, 3, height, width), or K of them: the initial noise, then that of each
                denoise step that needs some; None: the generator's, for the next plan of this episode. With
                N > 1 candidates (N, M, ..), or K of them.
            as_float: images as the planner made them, float32 (M, 3, height, width), 0..1 from black to white
                and a little beyond; else uint8 (M, height, width, 3). States are float32 (M, S) either way.

        Raises:
            ArgumentError: the bundle has no planner.
            PolicyError: as `act`; "rejected_plan": NaN or Inf in it.
        """
        self._check_task(observation)
        return self._subgoals(self._core.predict_plan(observation, noise), as_float)

    def predict_candidates(
        self, observation: Observation, noise: np.ndarray | None = None, *, as_float: bool = False
    ) -> Candidates:
        """All candidates of a plan for one observation; arguments and errors as of `predict_plan`."""
        self._check_task(observation)
        return self._candidates(self._core.predict_candidates(observation, noise), as_float)

    def candidates(self) -> Candidates | None:
        """What the plan being followed was chosen from; None where there is none, or it was handed in."""
        found = self._core.candidates()
        return None if found is None else self._candidates(found)

    def plan(self) -> Subgoals | None:
        """The plan being followed (or the subgoals handed in), images as uint8.

        None where there is none: before the first `act`, and after a plan that failed.
        """
        plan = self._core.plan()
        return None if plan is None else self._subgoals(plan)

    def _subgoals(self, plan: np.ndarray, as_float: bool = False) -> Subgoals:
        """Images to what a camera gives, unless floats are wanted."""
        key = self._manifest["planner"]["subgoal"]
        image = feature_of(self._manifest, key)[0].is_image
        if image and not as_float:
            plan = (np.moveaxis(plan, -3, -1).clip(0, 1) * 255).round().astype(np.uint8)
        return {key: plan}

    def _candidates(self, found: tuple[np.ndarray, np.ndarray, int], as_float: bool = False) -> Candidates:
        plans, scores, chosen = found
        return Candidates(self._subgoals(plans, as_float), scores, chosen)
