"""Training curves: one CSV, one picture."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from keystep.files import replacing, write_text


@dataclass(frozen=True)
class Row:
    """One point of the curves.

    Attributes:
        step: optimiser steps done.
        train_loss: mean over the steps since the last row.
        val_loss: on the held-out windows with fixed noise and the averaged weights; None where not measured.
        learning_rate: of the last step.
        gradient_norm: mean before clipping.
        seconds: spent training, over all parts of the run.
    """

    step: int
    train_loss: float
    val_loss: float | None
    learning_rate: float
    gradient_norm: float
    seconds: float


def write_csv(path: Path, rows: list[Row]) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_text(path, text.getvalue())


def read_csv(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return [
            Row(
                int(row["step"]),
                float(row["train_loss"]),
                float(row["val_loss"]) if row["val_loss"] else None,
                float(row["learning_rate"]),
                float(row["gradient_norm"]),
                float(row["seconds"]),
            )
            for row in csv.DictReader(file)
        ]


def plot(path: Path, rows: list[Row]) -> None:
    """Losses on a logarithmic axis and the learning rate, over steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    loss.semilogy([row.step for row in rows], [row.train_loss for row in rows], label="train", linewidth=1)
    measured = [(row.step, row.val_loss) for row in rows if row.val_loss is not None]
    if measured:
        loss.semilogy(*zip(*measured, strict=True), "o-", label="validation, averaged weights", markersize=3)
    loss.set_ylabel("loss")
    loss.legend()
    loss.grid(True, which="both", alpha=0.3)
    rate.plot([row.step for row in rows], [row.learning_rate for row in rows], color="gray")
    rate.set_ylabel("learning rate")
    rate.set_xlabel("step")
    with replacing(path) as (staged,):
        figure.savefig(staged, format="png", dpi=120)
