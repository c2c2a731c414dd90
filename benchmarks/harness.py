"""Interleaved rounds, paired statistics and result files: the method that every benchmark here shares.

Contenders take turns in shuffled order within each round, so a change of the machine's speed during the run
meets all of them alike, and ratios are taken between runs of the same round.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe_run
from keystep.bars import progress_bar
from keystep.files import write_json, write_text

Contender = Callable[[int], float]  # round index -> milliseconds


def interleave(
    contenders: Mapping[str, Contender], rounds: int, *, seed: int, label: str, settle_ms: float = 20.0
) -> dict[str, list[float]]:
    """Runs every contender once per round, in shuffled order.

    `settle_ms` passes before each turn: the thread pools of the contender before spin for a while after their
    work and would take a core from the next one. Returns the milliseconds of each contender, by round.
    """
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    order = np.random.default_rng(seed)
    names = list(contenders)
    samples: dict[str, list[float]] = {name: [] for name in names}
    with progress_bar() as progress:
        bar = progress.add_task(label, total=rounds * len(names))
        for round_index in range(rounds):
            for position in order.permutation(len(names)):
                time.sleep(settle_ms / 1e3)
                samples[names[position]].append(contenders[names[position]](round_index))
                progress.advance(bar)
    return samples


def summarise(samples: Sequence[float]) -> dict[str, float]:
    """Median, tails and extremes, in the unit of the samples."""
    values = np.asarray(samples, np.float64)
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {
        "count": len(values),
        "median": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def paired_ratio(
    numerator: Sequence[float], denominator: Sequence[float], *, seed: int = 0, resamples: int = 2000
) -> dict[str, float]:
    """Median over the rounds of numerator/denominator, with its 95 % bootstrap percentile interval."""
    ratios = np.asarray(numerator, np.float64) / np.asarray(denominator, np.float64)
    rows = np.random.default_rng(seed).integers(0, len(ratios), (resamples, len(ratios)))
    low, high = np.percentile(np.median(ratios[rows], axis=1), [2.5, 97.5])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}


def machine_markdown(machine: Mapping[str, Any]) -> str:
    """One line on the machine and one on the software, for the head of a report."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    dirty = " with uncommitted changes" if machine["dirty"] else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:.0f} GiB, {machine['kernel']}, "
        f"governor {machine['governor']}, load {machine['load_at_start']:.2f} at the start\n"
        f"commit {machine['commit']}{dirty}; {versions}\n"
    )


def write_result(
    output: Path, benchmark: str, settings: Mapping[str, Any], body: Mapping[str, Any], report: str
) -> None:
    """Writes `output` (JSON) and the Markdown report beside it, each atomically."""
    machine = describe_run()
    result = {"benchmark": benchmark, "machine": machine, "settings": dict(settings), **body}
    write_json(output, result)
    head = f"# {benchmark}\n\n{machine_markdown(machine)}\n"
    write_text(output.with_suffix(".md"), head + report)
