"""What a bundle's golden data feeds: observations to run a policy on without a simulator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

import keystep
from keystep.features import features_of
from keystep.runtime import Observation


@dataclass(frozen=True)
class GoldenCase:
    task: str | None
    instruction: str | None
    observation: Observation
    goal: Observation | None


def golden_cases(bundle: Path, manifest: dict[str, Any]) -> list[GoldenCase]:
    """The inputs of golden.npz, one case a row."""
    try:
        with np.load(bundle / manifest["golden"]["file"], allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (BadZipFile, ValueError) as error:
        raise keystep.BundleError(f"golden.file: expected an npz archive, got {error}") from None
    if not len(arrays.get("actions", ())):
        raise keystep.BundleError("golden.actions: expected at least one case, got none")
    observations = [name for name in arrays if name.startswith("observation.")]
    planned = manifest["goal"] == "text"  # then the goals are the planner's business
    goals = [name for name in arrays if name.startswith("goal.") and not planned]
    several = {feature.key for feature in features_of(manifest["observation"]) if feature.history > 1}

    def newest(name: str, frames: np.ndarray) -> np.ndarray:
        return frames[-1] if name in several else frames

    cases = []
    for row in range(len(arrays["actions"])):
        task = instruction = None
        if planned:
            instruction = str(arrays["text"][row])
        elif "task" in arrays and manifest["tasks"]:
            task = manifest["tasks"][int(arrays["task"][row])]["name"]
        goal = {name.replace("goal.", "observation.", 1): arrays[name][row] for name in goals}
        observation = {name: np.ascontiguousarray(newest(name, arrays[name][row])) for name in observations}
        cases.append(GoldenCase(task, instruction, observation, goal or None))
    return cases
