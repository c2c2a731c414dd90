"""How the numbers that a network reads and writes are normalised: what is chosen, and what the data say.

Every dimension is looked at before step 1. The numbers of vectors and of depth are those of the frames; RGB
keeps the dataset's statistics.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data import Dataset
from keystep.data.cache import mapped_columns
from keystep.data.stats_file import contradictions
from keystep.models.checkpoint import Config, network_modes
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.config import ActConfig
from keystep.models.normalizer import normalization_entry, offset_and_scale
from keystep.models.observing import numbered
from keystep.models.scorer_config import ScorerConfig
from keystep.train.config import parse_choices
from keystep.train.measure import dimensions, measured_depth
from keystep.train.names import usable_names
from keystep.train.remarks import narrow, outliers

ACTION = "action"


@dataclass(frozen=True)
class Normalized:
    """A network and what it takes its numbers by.

    Attributes:
        network: with the clip range that the data need.
        modes: by key, of everything the network reads or writes.
        stats: of the frames, of RGB the dataset's; of keys normalised by quantiles with `q01` and `q99`.
        notes: what was chosen, and on outliers; to be printed.
    """

    network: Config
    modes: dict[str, str]
    stats: dict[str, dict[str, Any]]
    notes: list[str]


def normalize(
    network: Config,
    reader: Dataset,
    stats: dict[str, dict[str, Any]],
    choices: Sequence[str],
    cache: Path | None,
    still: np.ndarray | None = None,
) -> Normalized:
    """Applies the choices to a network, and looks at the data.

    Args:
        stats: that the dataset has of its features: `min`, `max`, `mean`, `std`.
        choices: see `parse_choices`.
        cache: folder of the memory-mapped columns.
        still: (A,) an action that is a target besides those of the dataset; NaN where it is one of these.

    Raises:
        ValueError: a choice for what the network does not know.
        DatasetError: a number that is not finite.
    """
    modes = network_modes(network)
    images = {feature.key: feature.kind for feature in network.images}
    vectors = [key for key in modes if key not in images]
    depth = [key for key, kind in images.items() if kind == "depth"]
    modes |= _chosen(choices, vectors, depth)
    notes, stats = list[str](), dict(stats)
    stats |= {key: measured_depth(values) for key, values in mapped_columns(reader, depth, cache).items()}
    columns = mapped_columns(reader, vectors, cache)
    for key, values in columns.items():
        told = stats.get(key, {})
        stats[key], remarks = _measure(key, modes[key], values, reader)
        wrong = contradictions(key, told, stats[key])
        notes += [*(f"warning: the dataset's statistics: {line}" for line in wrong), *remarks]
    sampled = getattr(network, "subgoal", ACTION)
    if sampled in columns and not isinstance(network, ActConfig | ScorerConfig | CodePlannerConfig):
        entry = normalization_entry(modes[sampled], stats[sampled])
        ends = [stats[sampled]["min"], stats[sampled]["max"], *([] if still is None else [still])]
        notes += [] if still is None else _unreachable(entry, still, reader)
        sampler = dataclasses.replace(network.sampler, clip_range=clip_range(entry, ends))
        network = dataclasses.replace(network, sampler=sampler)
    if choices:
        chosen = ", ".join(f"{key} {modes[key]}" for key in [*vectors, *depth])
        notes.insert(0, f"normalization: {chosen}")
    return Normalized(network, modes, stats, notes)


def _chosen(choices: Sequence[str], vectors: Sequence[str], depth: Sequence[str]) -> dict[str, str]:
    """What is chosen for all is of vectors; depth has no quantiles."""
    given = parse_choices(choices)
    for_all = given.pop("", None)
    if for_all and not vectors:
        raise ValueError(f"normalization: expected none (images have their own), got {for_all}")
    for key, mode in given.items():
        if key in depth and mode == "quantile":
            raise ValueError(f"normalization: expected min_max or mean_std of depth, got {key}={mode}")
        if key not in (*vectors, *depth):
            known = ", ".join((*vectors, *depth)) or "none (images have their own)"
            raise ValueError(f"normalization: expected a key of {known}, got {key}={mode}")
    return ({key: for_all for key in vectors} if for_all else {}) | given


def _measure(key: str, mode: str, values: np.ndarray, reader: Dataset) -> tuple[dict[str, Any], list[str]]:
    """The statistics of a vector's frames, and what to say of them."""
    measured, notes = list[dict[str, float]](), list[str]()
    for dimension in dimensions(key, values, reader):
        stats = dimension.stats()
        measured.append(stats)
        far_out = outliers(key, mode, dimension, stats)
        too_little = narrow(key, mode, dimension, stats, far_out is not None)
        notes += [note for note in (far_out, too_little) if note]
    names = ("min", "max", "mean", "std", *(("q01", "q99") if mode == "quantile" else ()))
    return {name: [stats[name] for stats in measured] for name in names} | {"count": len(values)}, notes


def _unreachable(entry: dict[str, Any], still: np.ndarray, reader: Dataset) -> list[str]:
    """A line if samples are clipped before they reach `still`; see `clip_range`."""
    if entry["mode"] != "min_max":
        return []
    names = usable_names(reader.features[ACTION].names, len(still)) or numbered(ACTION, len(still))
    rows = zip(names, still, entry["min"], entry["max"], strict=True)
    told = [f"{name} ({low:g}..{high:g})" for name, value, low, high in rows if value < low or value > high]
    if not told:
        return []
    return [
        f"warning: normalization: {', '.join(told)} is relative, and no motion (0) is beyond its range, "
        "where min_max clips samples: the policy cannot stand still. --normalization action=mean_std or "
        "quantile does not clip it; --action-law absolute if the actions are no motions"
    ]


def clip_range(entry: dict[str, Any], values: Iterable[Any]) -> float:
    """Where a sampler may clip what it samples: beyond all `values` (dimensions,) in network units.

    Of min_max that is 1; else it is rounded up to two digits.
    """
    if entry["mode"] == "min_max":
        return 1.0
    offset, scale = offset_and_scale(entry)
    sizes = np.abs((np.stack([*values]).astype(np.float64) - offset) / scale)
    return max(1.0, math.ceil(100 * float(np.nanmax(sizes))) / 100)
