"""Contenders of one case side by side: apart in their processes, interleaved, their outputs compared."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import interleave, paired_ratio, summarise
from benchmarks.worker import Contender, Worker
from keystep.table_writer import table_of

OURS = "keystep"
Answers = Mapping[int, Mapping[str, Any]]  # by round; -1 is the one before the first


@dataclass(frozen=True)
class Race:
    """What is compared.

    Attributes:
        module: name of the module with the contenders, see `benchmarks.worker`.
        names: who takes part.
        references: whose answer each contender's must equal, as far as its tolerance says; those without one
            are only timed.
        per: the time of a call is divided by this, e.g. the actions of a call.
        options: of all contenders, handed to their `make`.
        normalize: takes actions to the network's units, in which relative errors are given.
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
    options: Mapping[str, Any] = field(default_factory=dict)
    normalize: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda actions: actions


def run(race: Race) -> list[dict[str, Any]]:
    """Figures of every contender. One of another environment that does not load has but its `left_out`: why.

    Raises AssertionError if a contender's answer is not that of its reference, RuntimeError if one that
    runs in this environment does not load.
    """
    contenders: Mapping[str, Contender] = importlib.import_module(race.module).CONTENDERS
    workers: dict[str, Worker] = {}
    try:
        left_out = _start(race, contenders, workers)
        outputs = {name: {-1: worker.predict(race.seed, calls=2)} for name, worker in workers.items()}
        for name in workers:
            difference(contenders[name], name, outputs, race)  # before time is spent on a wrong answer
        samples = _take_turns(race, workers, outputs)
    finally:
        for worker in workers.values():
            worker.close()
    figures = []
    for name, worker in workers.items():
        ratio = {"times_keystep": paired_ratio(samples[name], samples[OURS])} if OURS in samples else {}
        figures.append(
            {
                "name": name,
                "description": contenders[name].description,
                "precision": contenders[name].precision,
                "load_ms": worker.load_ms,
                "ms": summarise(samples[name]),
                **ratio,
                **difference(contenders[name], name, outputs, race),
                "peak_rss_mb": max(answer["peak_rss_mb"] for answer in outputs[name].values()),
                "samples_ms": samples[name],
            }
        )
    return figures + [{"name": name, "left_out": reason} for name, reason in left_out.items()]


def _start(race: Race, contenders: Mapping[str, Contender], workers: dict[str, Worker]) -> dict[str, str]:
    """Adds to `workers` all that load; returns why others did not."""
    left_out = {}
    for name in race.names:
        try:
            workers[name] = Worker(race.module, name, race.case, race.threads, race.options)
        except RuntimeError as error:
            if contenders[name].python is None:
                raise
            left_out[name] = str(error)
    return left_out


def _take_turns(
    race: Race, workers: Mapping[str, Worker], outputs: Mapping[str, dict[int, dict[str, Any]]]
) -> dict[str, list[float]]:
    """Milliseconds by round; adds the answers to `outputs`."""

    def turn(name: str) -> Callable[[int], float]:
        def call(round_index: int) -> float:
            answer = workers[name].predict(race.seed + 1 + round_index, race.warm_calls + 1)
            outputs[name][round_index] = answer
            return float(answer["ms"]) / race.per

        return call

    turns = {name: turn(name) for name in workers}
    return interleave(turns, race.rounds, seed=race.seed, label=race.label)


def difference(
    contender: Contender, name: str, outputs: Mapping[str, Answers], race: Race
) -> dict[str, float | None]:
    """Of the contender's answers from its reference's, over all rounds; None without a reference.

    The greatest in physical units; in network units the greatest over the reference's greatest value, and the
    root of the mean square over the reference's.

    Raises AssertionError when the first is above the contender's tolerance, or not a number.
    """
    if name not in race.references:
        return {"max_abs_difference": None, "max_relative": None, "rms_relative": None}
    reference, tolerance = race.references[name], contender.tolerance
    rounds = list(outputs[name])
    ours, theirs = (
        np.array([outputs[each][index]["actions"] for index in rounds]) for each in (name, reference)
    )
    worst = float(np.abs(ours - theirs).max())
    if tolerance is not None and not worst <= tolerance:  # NaN is not
        expected = f"the actions of {reference} within {tolerance}"
        raise AssertionError(f"{name}: expected {expected}, got {worst:.3g} off")
    ours, theirs = race.normalize(ours), race.normalize(theirs)
    return {
        "max_abs_difference": worst,
        "max_relative": float(np.abs(ours - theirs).max() / np.abs(theirs).max()),
        "rms_relative": float(np.sqrt(np.mean((ours - theirs) ** 2) / np.mean(theirs**2))),
    }


def table(contenders: Sequence[Mapping[str, Any]], floor_ms: float, digits: int = 2) -> str:
    """Markdown. `x floor` is the distance to the floor, for contenders whose work it is the floor of."""
    return table_of([_row(contender, floor_ms, digits) for contender in contenders])


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
