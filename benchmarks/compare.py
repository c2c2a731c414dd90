"""Contenders of one case side by side: apart in their processes, interleaved, their outputs compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import interleave, markdown_table, paired_ratio, summarise
from benchmarks.worker import Worker

TOLERANCE = 1e-4
OURS = "keystep"


@dataclass(frozen=True)
class Race:
    """What is compared.

    Attributes:
        module: name of the module with the contenders, see `benchmarks.worker`.
        names: who takes part.
        references: whose answer each contender's must equal; those without one are only timed.
        per: the time of a call is divided by this, e.g. the actions of a call.
        pythons: other interpreters, by contender.
    """

    module: str
    case: Path
    names: Sequence[str]
    references: Mapping[str, str]
    threads: int
    rounds: int
    warm_calls: int
    seed: int
    label: str
    per: int = 1
    pythons: Mapping[str, Path] | None = None


def run(race: Race) -> list[dict[str, Any]]:
    """Figures of every contender. AssertionError if a contender's answer is not that of its reference."""
    workers: dict[str, Worker] = {}
    try:
        for name in race.names:
            python = (race.pythons or {}).get(name)
            workers[name] = Worker(race.module, name, race.case, race.threads, python)
        outputs = {name: {-1: workers[name].predict(race.seed, calls=2)} for name in race.names}
        for name in race.names:
            max_difference(name, outputs, race.references)  # before any time is spent on a wrong answer

        def turn(name: str) -> Callable[[int], float]:
            def call(round_index: int) -> float:
                answer = workers[name].predict(race.seed + 1 + round_index, race.warm_calls + 1)
                outputs[name][round_index] = answer
                return float(answer["ms"]) / race.per

            return call

        turns = {name: turn(name) for name in race.names}
        samples = interleave(turns, race.rounds, seed=race.seed, label=race.label)
    finally:
        for worker in workers.values():
            worker.close()
    return [
        {
            "name": name,
            "description": workers[name].description,
            "ms": summarise(samples[name]),
            "times_keystep": paired_ratio(samples[name], samples.get(OURS, samples[name])),
            "max_abs_difference": max_difference(name, outputs, race.references),
            "peak_rss_mb": max(answer["peak_rss_mb"] for answer in outputs[name].values()),
            "samples_ms": samples[name],
        }
        for name in race.names
    ]


def max_difference(
    name: str, outputs: Mapping[str, Mapping[int, Any]], references: Mapping[str, str]
) -> float | None:
    """Largest difference of any value from the reference's, over all rounds; None without a reference.

    Raises AssertionError when it is above TOLERANCE, or not a number.
    """
    if name not in references:
        return None
    differences = [
        np.abs(np.asarray(answer["actions"]) - outputs[references[name]][round_index]["actions"]).max()
        for round_index, answer in outputs[name].items()
    ]
    worst = float(np.max(differences))  # unlike max(), keeps a NaN
    if not worst <= TOLERANCE:
        raise AssertionError(
            f"{name}: expected the actions of {references[name]} within {TOLERANCE}, got {worst:.3g} off"
        )
    return worst


def table(contenders: Sequence[Mapping[str, Any]], floor_ms: float, digits: int = 2) -> str:
    """Markdown. `x floor` is the distance to the floor, for contenders whose work it is the floor of."""
    return markdown_table([_row(contender, floor_ms, digits) for contender in contenders])


def _row(contender: Mapping[str, Any], floor_ms: float, digits: int) -> dict[str, str]:
    times, difference = contender["ms"], contender["max_abs_difference"]
    row = {"contender": contender["name"]}
    row |= {
        label: f"{times[key]:.{digits}f}"
        for label, key in (("median ms", "median"), ("p90", "p90"), ("p99", "p99"))
    }
    return row | {
        "times keystep (95 %)": "{median:.2f} ({low:.2f}-{high:.2f})".format(**contender["times_keystep"]),
        "x floor": "" if difference is None else f"{times['median'] / floor_ms:.2f}",
        "max difference": "" if difference is None else f"{difference:.1e}",
        "peak MB": f"{contender['peak_rss_mb']:.0f}",
    }
