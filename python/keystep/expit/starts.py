"""Where episodes start: demonstrations, resets and replayed ends (HD-ExpIt, Figure 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keystep.data import DatasetReader
from keystep.evaluate.plots import COLOURS, MARKERS
from keystep.expit.finished import FinishedRun
from keystep.notebook import html_markdown, new_figure
from keystep.table_writer import markdown_table

CONTEXT = "context"
"""Name among the extras of a rollout, which has its `kind`."""
DEMONSTRATED = "demonstrations"


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
    """Of the demonstrations and of all rollouts that were kept, by the kind of their contexts.

    The states are scaled to unit variance, dimension by dimension, before the components are found.

    Raises:
        DatasetError: no such vector in the data.
    """
    found: dict[str, list[np.ndarray]] = {DEMONSTRATED: []}
    demonstrations = {str(dataset_of(run)): DatasetReader(dataset_of(run)) for run in runs}
    for reader in demonstrations.values():
        for _, state in _starts(reader, key):
            found[DEMONSTRATED].append(state)
    for run in runs:
        for part in run.evaluated[1:]:
            for kind, state in _starts(DatasetReader(part.folder.rollouts), key):
                found.setdefault(f"{kind} contexts", []).append(state)
    states = {kind: np.array(rows, np.float64) for kind, rows in found.items() if rows}
    points, explained = _components(states)
    spread = {kind: float(np.sqrt(rows.var(axis=0).sum())) for kind, rows in states.items()}
    told = ", ".join(run.path.name for run in runs)
    return StartReport(key, points, spread, explained, f"First frames of {told}.")


def dataset_of(run: FinishedRun) -> Any:
    """Folder of D0."""
    from pathlib import Path

    named = run.settings["demonstrations"]["dataset"]
    return Path(named) if named else run.path / "demonstrations"


def _starts(reader: DatasetReader, key: str) -> list[tuple[str, np.ndarray]]:
    """Kind of context and first state of every episode."""
    reader.vector(key)
    rows = np.concatenate([batch[key] for batch in reader.iter_batches([key])])
    found = []
    for episode in reader.episodes():
        context = episode.extras.get(CONTEXT)
        kind = str(context.get("kind", "reset")) if isinstance(context, dict) else "reset"
        found.append((kind, rows[episode.start]))
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
