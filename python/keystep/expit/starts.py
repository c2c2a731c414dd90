"""Where episodes start: demonstrations, resets and replayed ends (HD-ExpIt, Figure 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keystep.data import DatasetReader
from keystep.evaluate.plots import COLOURS, MARKERS
from keystep.expit.captions import told_machine, told_runs
from keystep.expit.finished import FinishedRun
from keystep.expit.folder import ITERATION
from keystep.files import parse_json
from keystep.notebook import html_markdown, new_figure
from keystep.table_writer import markdown_table

CONTEXT = "context"
"""Name among the extras of a rollout, which has its `kind`."""
DEMONSTRATED = "demonstrations"
REPLAYED = "last states of demonstrations"
"""What expert-replayed contexts of iteration 1 start from."""


@dataclass(frozen=True)
class StartReport:
    """Start states on the first two principal components of all of them.

    Attributes:
        points: (episodes, 2) by kind of start.
        spread: root of the total variance of the states, in their units, by kind.
        explained: share of the variance that each component has.
    """

    key: str
    points: dict[str, np.ndarray]
    spread: dict[str, float]
    explained: tuple[float, float]
    caption: str

    def to_dict(self) -> dict[str, Any]:
        """All figures, for a JSON file."""
        told = {"key": self.key, "spread": self.spread, "explained": list(self.explained)}
        points = {kind: rows.tolist() for kind, rows in self.points.items()}
        return told | {"caption": self.caption, "points": points}

    def markdown(self) -> str:
        """A row per kind of start."""
        rows = [[kind, str(len(rows)), f"{self.spread[kind]:.4f}"] for kind, rows in self.points.items()]
        table = markdown_table(["starts", "episodes", f"spread of {self.key}"], rows)
        return f"{table}\n{self.caption}\n"

    def plot(self) -> Any:
        """A matplotlib figure."""
        figure = new_figure(5, 4)
        axes = figure.subplots()
        for index, (kind, rows) in enumerate(self.points.items()):
            style = {"color": COLOURS[index % 8], "marker": MARKERS[index % 8], "alpha": 0.5, "s": 12}
            axes.scatter(rows[:, 0], rows[:, 1], label=kind, **style)
        for number, name in enumerate(("x", "y")):
            share = f"component {number + 1} ({100 * self.explained[number]:.0f} % of the variance)"
            getattr(axes, f"set_{name}label")(share)
        axes.legend(fontsize="small")
        return figure

    def _repr_html_(self) -> str:
        return html_markdown(self.markdown())


def start_report(runs: Sequence[FinishedRun], key: str = "observation.state") -> StartReport:
    """Of the demonstrations, of their ends, and of the rollouts that were kept, by kind of context.

    The states are scaled to unit variance, dimension by dimension, before the components are found.

    Raises:
        DatasetError: no such vector in the data.
    """
    found: dict[str, list[np.ndarray]] = {DEMONSTRATED: [], REPLAYED: []}
    for place in dict.fromkeys(dataset_of(run) for run in runs):
        for _, first, last in _ends(DatasetReader(place), key):
            found[DEMONSTRATED].append(first)
            found[REPLAYED].append(last)
    for run in runs:
        for part in run.evaluated[1:]:
            for kind, first, _ in _ends(DatasetReader(part.folder.rollouts), key):
                found.setdefault(f"rollouts kept, {kind} contexts", []).append(first)
    states = {kind: np.array(rows, np.float64) for kind, rows in found.items() if rows}
    points, explained = _components(states)
    spread = {kind: float(np.sqrt(rows.var(axis=0).sum())) for kind, rows in states.items()}
    return StartReport(key, points, spread, explained, _caption(runs))


def _caption(runs: Sequence[FinishedRun]) -> str:
    """Seeds, steps, and those of the contexts; where the rollouts were collected."""
    places = [part.folder.path / ITERATION for run in runs for part in run.evaluated[1:]]
    records = [parse_json(place.read_bytes()) for place in places]
    seeds = ", ".join(dict.fromkeys(str(record.get("seeds", {}).get("rollouts")) for record in records))
    machines = dict.fromkeys(told_machine(record.get("machine") or {}) for record in records)
    collected = f" Contexts of seeds {seeds}. {'; '.join(filter(None, machines))}." if records else ""
    return f"First frames of {', '.join(run.path.name for run in runs)}. {told_runs(runs)}{collected}"


def dataset_of(run: FinishedRun) -> Path:
    """Folder of D0."""
    named = run.settings["demonstrations"]["dataset"]
    return Path(named) if named else run.path / "demonstrations"


def _ends(reader: DatasetReader, key: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Kind of context, first and last state of every episode."""
    reader.vector(key)
    rows = np.concatenate([batch[key] for batch in reader.iter_batches([key])])
    found = []
    for episode in reader.episodes():
        context = episode.extras.get(CONTEXT)
        kind = str(context.get("kind", "reset")) if isinstance(context, dict) else "reset"
        found.append((kind, rows[episode.start], rows[episode.stop - 1]))
    return found


def _components(states: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    everything = np.concatenate(list(states.values()))
    centre, scale = everything.mean(axis=0), everything.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    _, sizes, axes = np.linalg.svd((everything - centre) / scale, full_matrices=False)
    shares = np.zeros(2)
    shares[: min(2, len(sizes))] = sizes[:2] ** 2 / max(float((sizes**2).sum()), 1e-12)
    points = {kind: (rows - centre) / scale @ axes[:2].T for kind, rows in states.items()}
    return points, (float(shares[0]), float(shares[1]))
