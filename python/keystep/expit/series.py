"""The runs that HD-ExpIt's curves and tables are made of, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keystep
from keystep.expit.config import ExpitConfig
from keystep.expit.reading import read_config

ACT = {"preset": "act-small", "learning_rate": 3e-4}
"""A transformer that two CPU cores can train, at a rate that it bears."""
FIRST = "ft-0"
"""Whose iteration 0 the runs of seed 0 with the same controller take over."""
SERIES: dict[str, dict[str, Any]] = {
    FIRST: {"mode": "ft", "seed": 0},
    "act-ft-0": {"mode": "ft", "seed": 0, "controller": {"kind": "act", **ACT}},
    "resets-ft-0": {"mode": "ft", "seed": 0, "start": FIRST, "resets": True},
    "standard-0": {"mode": "standard", "seed": 0, "start": FIRST},
    "ft-1": {"mode": "ft", "seed": 1},
    "ft-2": {"mode": "ft", "seed": 2},
}
"""Three seeds of ft, one of standard, HD-ACT and contexts from resets only; what most needs comes first."""


def series(
    path: Path, output: Path | None = None, only: Sequence[str] = (), **changes: Any
) -> Iterator[tuple[str, ExpitConfig]]:
    """The settings of every run, in order. Each is read when it is its turn.

    Args:
        path: TOML, as of `keystep expit`; mode, seed and start in it do not count.
        output: folder of the runs; the file's `output` when None.
        only: names of `SERIES`; all when empty.
        changes: for `read_config`, such as `budget`.

    Raises:
        ArgumentError: a name that is none, or as `read_config`.
    """
    for name in only:
        if name not in SERIES:
            raise keystep.ArgumentError(f"only: expected some of {', '.join(SERIES)}, got {name!r}")
    folder = output.resolve() if output is not None else read_config(path, **changes).output.resolve()
    for name in only or SERIES:
        yield name, config_of_series(path, name, folder, **changes)


def config_of_series(path: Path, name: str, folder: Path, **changes: Any) -> ExpitConfig:
    """The settings of one run of `SERIES`, in `folder`. Raises ArgumentError."""
    asked = dict(SERIES[name])
    start, resets = asked.pop("start", None), asked.pop("resets", False)
    changes |= {"output": str(folder / name), **asked}
    config = replace(read_config(path, **changes), start=folder / start if start else None)
    shared = config.demonstrations.dataset or folder / "demonstrations"
    config = replace(config, demonstrations=replace(config.demonstrations, dataset=shared))
    if resets:  # as many as from both kinds of context
        settings = config.rollouts
        count = settings.reset_per_task + settings.replayed_per_task
        less = {"replayed_per_task": 0, "max_contexts": 2 * settings.max_contexts}
        config = replace(config, rollouts=replace(settings, reset_per_task=count, **less))
    return config
