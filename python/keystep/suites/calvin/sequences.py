"""Chains of LH-MTLC: which tasks come after each other, from which scene. Files, and the public sampler.

Scores depend on the chains (mees/calvin#65), so a file is known by the hash of what it says, and that hash
stands in every result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import keystep
from keystep.bars import tracked
from keystep.files import parse_json, write_json
from keystep.suites.calvin.layout import CHAIN_LENGTH, CHAINS
from keystep.suites.calvin.rules import START_VALUES, Scene, is_possible, is_start, start_scenes
from keystep.suites.calvin.tasks import TASKS

FORMAT, VERSION = "keystep-calvin-sequences", 1
PUBLIC_SHA256 = "604957a8a2d3102941b278df07df4950bc41f340ed959077b20467d5f692318a"
"""`digest` of the 1,000 chains that mees/calvin's get_sequences() draws (run here with numpy 2.4.6)."""


@dataclass(frozen=True)
class SceneChain:
    """Tasks in a row, and the scene that they start from."""

    scene: Scene
    tasks: tuple[str, ...]


def draw_chains(count: int = CHAINS) -> list[SceneChain]:
    """The chains that CALVIN's own evaluation draws, so many of them; under a progress bar.

    Every start scene gets about as many: five different tasks at random, drawn again until they make sense
    after each other; scene i with the random numbers of seed i. Then all are shuffled with seed 0.
    """
    scenes = start_scenes()
    shares = [len(part) for part in np.array_split(np.arange(count), len(scenes))]
    chains = [
        SceneChain(scene, tasks)
        for seed, (scene, share) in tracked(
            enumerate(zip(scenes, shares, strict=True)), "scenes", len(scenes)
        )
        for tasks in chains_from(scene, share, seed)
    ]
    np.random.RandomState(0).shuffle(chains)  # type: ignore[arg-type]
    return chains


def chains_from(scene: Scene, count: int, seed: int) -> list[tuple[str, ...]]:
    """So many chains that make sense from this scene."""
    rng = np.random.RandomState(seed)  # the law of the public sampler
    names, found = tuple(TASKS), list[tuple[str, ...]]()
    # Some two thousand draws for each chain that makes sense: most fail at their first task.
    possible = {number for number, name in enumerate(names) if is_possible(scene, (name,))}
    while len(found) < count:
        drawn = rng.permutation(len(names))[:CHAIN_LENGTH]
        if drawn[0] not in possible:
            continue
        chain = tuple(names[number] for number in drawn)
        if is_possible(scene, chain):
            found.append(chain)
    return found


def digest(chains: Iterable[SceneChain]) -> str:
    """SHA-256 of what the chains are, however a file writes them."""
    told = [[{name: chain.scene[name] for name in START_VALUES}, list(chain.tasks)] for chain in chains]
    return hashlib.sha256(json.dumps(told, separators=(",", ":")).encode()).hexdigest()


def write_chains(path: Path, chains: Sequence[SceneChain]) -> str:
    """A file of chains, whole or not at all; returns its `digest`."""
    found = digest(chains)
    listed = [{"scene": dict(chain.scene), "tasks": list(chain.tasks)} for chain in chains]
    write_json(path, {"format": FORMAT, "version": VERSION, "sha256": found, "chains": listed})
    return found


def read_chains(path: Path) -> list[SceneChain]:
    """The chains of a file: one of ours, or a JSON list of [scene, tasks], as others keep CALVIN's.

    Raises:
        ArgumentError: which field of the file is not what it should be, or its hash is another.
    """
    value = _read(path)
    listed, said = value, None
    if isinstance(value, dict):
        if (value.get("format"), value.get("version")) != (FORMAT, VERSION):
            got = f"{value.get('format')!r} version {value.get('version')!r}"
            raise keystep.ArgumentError(f"{path}: format: expected {FORMAT} version {VERSION}, got {got}")
        listed, said = value.get("chains"), value.get("sha256")
    if not isinstance(listed, list) or not listed:
        raise keystep.ArgumentError(f"{path}: chains: expected a list of chains, got {type(listed).__name__}")
    chains = [_chain(f"{path}: chains[{number}]", entry) for number, entry in enumerate(listed)]
    if isinstance(value, dict) and said != digest(chains):
        raise keystep.ArgumentError(
            f"{path}: sha256: expected {digest(chains)} of these chains, got {said!r}"
        )
    return chains


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise keystep.ArgumentError(f"sequences: expected a file that can be read, got {error}") from None
    except ValueError as error:
        raise keystep.ArgumentError(f"{path}: expected JSON, got {error}") from None


def _chain(name: str, entry: Any) -> SceneChain:
    if isinstance(entry, dict):
        entry = [entry.get("scene"), entry.get("tasks")]
    if not isinstance(entry, list) or len(entry) != 2:
        raise keystep.ArgumentError(f"{name}: expected a scene and its tasks, got {entry!r:.80}")
    scene, tasks = entry
    if not isinstance(scene, dict) or set(scene) != set(START_VALUES):
        got = ", ".join(map(str, scene)) if isinstance(scene, dict) else repr(scene)
        raise keystep.ArgumentError(f"{name}.scene: expected {', '.join(START_VALUES)}, got {got}")
    for field, values in START_VALUES.items():
        if type(scene[field]) not in (str, int) or scene[field] not in values:
            wanted = " or ".join(map(str, values))
            raise keystep.ArgumentError(f"{name}.scene.{field}: expected {wanted}, got {scene[field]!r}")
    scene = {field: scene[field] for field in START_VALUES}  # its order decides the start's random numbers
    if not is_start(scene):
        raise keystep.ArgumentError(
            f"{name}.scene: expected one or two blocks on the table and one on a shelf at most, got {scene}"
        )
    if not isinstance(tasks, list) or not tasks:
        raise keystep.ArgumentError(f"{name}.tasks: expected a list of tasks, got {tasks!r:.80}")
    for task in tasks:
        if not isinstance(task, str) or task not in TASKS:
            raise keystep.ArgumentError(f"{name}.tasks: expected tasks of CALVIN, got {task!r:.80}")
    if not is_possible(scene, tuple(tasks)):
        raise keystep.ArgumentError(f"{name}.tasks: expected tasks that follow each other, got {tasks}")
    return SceneChain(scene, tuple(tasks))
