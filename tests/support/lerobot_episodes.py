"""Episodes of random observations through bundles of LeRobot's policies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot_checkpoints import observations

import keystep

SEED, STEPS = 3, 20
STATE = {"type": "STATE", "shape": [3]}
ENVIRONMENT = {"observation.environment_state": {"type": "ENV", "shape": [2]}}
VECTORS = {"input_features": {"observation.state": STATE, **ENVIRONMENT}}


def noise_of(manifest: dict[str, Any]) -> Iterator[list[Any]]:
    """What the runtime draws for one chunk after the other."""
    spec, chunk = manifest["sampler"], manifest["chunk"]
    if spec is None:
        while True:
            yield []
    shape = (chunk["horizon"], len(manifest["action"]["names"]))
    steps = range(spec["inference_steps"] if spec["kind"] == "ddpm" else 1)
    made = 0
    while True:
        yield [torch.from_numpy(keystep.noise(shape, SEED, 0, made, step))[None] for step in steps]
        made += 1


def play(bundle: Path, config: dict[str, Any], names: dict[str, str] | None = None) -> np.ndarray:
    """[STEPS, A]: what the bundle does."""
    keys = [feature["key"] for feature in keystep.read_manifest(bundle)["observation"]]
    known = {(names or {}).get(key, key): key for key in keys}
    found = []
    with keystep.load(bundle, threads=1) as runtime:
        runtime.reset(seed=SEED)
        for observation in observations(config, STEPS):
            given = {known[key]: value for key, value in observation.items() if key in known}
            found.append(np.array(runtime.act(given)))
    return np.stack(found)
