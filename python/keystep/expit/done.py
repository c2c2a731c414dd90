"""What is done is still what it was, and was made of what is there now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keystep.data import DatasetReader
from keystep.data.errors import DatasetError
from keystep.expit.config import FINETUNE
from keystep.expit.folder import MANIFEST, WEIGHTS, Iteration
from keystep.files import sha256

NETWORKS = ("planner", "controller", "scorer")


def check_done(iteration: Iteration, stage: str, last: Iteration | None, mode: str, d0: str) -> None:
    """Whether a stage can stay as it is.

    Args:
        last: the iteration before, checked; None of iteration 0.
        mode: of the run.
        d0: digest of D0.

    Raises:
        DatasetError: it is gone, is another one, or was made of something else; with what mends it.
    """
    facts = iteration.done[stage]
    if stage == "rollouts":
        _same(iteration, iteration.rollouts, facts["dataset_sha256"], _dataset(iteration.rollouts))
        if "demonstrations" in facts:
            place, known = iteration.demonstrations, facts["demonstrations"]["dataset_sha256"]
            _same(iteration, place, known, _dataset(place))
    elif stage in ("planner", "controller", "scorer") and "weights_sha256" in facts:
        _same(iteration, *_file(getattr(iteration, stage) / WEIGHTS, facts["weights_sha256"]))
    elif stage == "bundle":
        _same(iteration, *_file(iteration.bundle / MANIFEST, facts["manifest_sha256"]))
    for name, expected in parents(iteration, stage, last, mode, d0).items():
        if facts.get(name, expected) != expected:  # older runs do not say all of them
            raise DatasetError(
                f"{iteration.path}: {stage}: {name}: expected {_short(expected)} of what is there now, got "
                f"{_short(facts[name])}; {_again(iteration)}"
            )


def parents(iteration: Iteration, stage: str, last: Iteration | None, mode: str, d0: str) -> dict[str, Any]:
    """Digests of what a stage is made of; it keeps them among its facts."""
    if stage == "rollouts":
        assert last is not None
        collector = last.done["bundle"]["manifest_sha256"]
        return {"bundle_sha256": collector, "replay_sha256": learned_from(last, mode, d0)}
    if stage in ("planner", "controller"):
        finetuned = mode == FINETUNE and last is not None
        weights = last.done[stage]["weights_sha256"] if finetuned and last is not None else None
        return {"datasets_sha256": learned_from(iteration, mode, d0), "from_weights_sha256": weights}
    if stage == "scorer":
        return {"planner_sha256": iteration.done["planner"]["weights_sha256"]}
    if stage == "bundle":
        networks = [name for name in NETWORKS if "weights_sha256" in iteration.done.get(name, {})]
        return {f"{name}_sha256": iteration.done[name]["weights_sha256"] for name in networks}
    return {"bundle_sha256": iteration.done["bundle"]["manifest_sha256"]}


def learned_from(iteration: Iteration, mode: str, d0: str) -> list[str]:
    """Digests of D_t, in the order of `stages.datasets`."""
    if iteration.number == 0:
        return [d0]
    facts = iteration.done["rollouts"]
    if mode == FINETUNE:
        kept = facts.get("demonstrations")
        return [*([kept["dataset_sha256"]] if kept else []), facts["dataset_sha256"]]
    run = iteration.path.parent
    earlier = [Iteration(run, number).done["rollouts"] for number in range(1, iteration.number)]
    return [d0, *(found["dataset_sha256"] for found in (*earlier, facts))]


def _dataset(folder: Path) -> str:
    try:
        return DatasetReader(folder).sha256()
    except DatasetError:  # gone or damaged
        return "none"


def _file(path: Path, known: str) -> tuple[Path, str, str]:
    return path, known, sha256(path) if path.is_file() else "none"


def _same(iteration: Iteration, path: Path, known: str, found: str) -> None:
    if found != known:
        wanted = f"what this run made ({known[:12]}..)"
        raise DatasetError(f"{path}: expected {wanted}, got {found[:12]}; restore it, or {_again(iteration)}")


def _again(iteration: Iteration) -> str:
    return f"remove {iteration.path.name} and those after it to make them again"


def _short(value: Any) -> str:
    return ", ".join(part[:12] for part in value) if isinstance(value, list) else str(value)[:12]
