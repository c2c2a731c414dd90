"""The state of a run on disk: tensors in safetensors, numbers in JSON, no pickle.

`training_state/step-00002000/` appears whole, by one rename of a finished folder; then older ones go.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from keystep.data import DatasetError
from keystep.files import sync, sync_folder, write_json
from keystep.train.curves import Row, read_csv, write_csv

FOLDER = "training_state"
_NAME = re.compile(r"step-(\d{8})")

Tensors = dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """Attributes:
    step: optimiser steps done.
    model, average: weights and their exponential moving average, by name.
    optimizer: AdamW's tensors, "<parameter number>/<name>".
    numbers: JSON values: settings, dataset digest, steps of the average, seconds.
    rows: the curves so far.
    """

    step: int
    model: Tensors
    average: Tensors
    optimizer: Tensors
    numbers: dict[str, Any]
    rows: list[Row]


def save(output: Path, state: TrainingState) -> None:
    """Write the state of a step and remove those of earlier ones. On an error the earlier ones stay."""
    root = output / FOLDER
    root.mkdir(parents=True, exist_ok=True)
    staging, final = root / ".writing", root / f"step-{state.step:08d}"
    if final.exists():
        return
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        for name in ("model", "average", "optimizer"):
            save_file(
                {key: value.contiguous() for key, value in getattr(state, name).items()},
                staging / f"{name}.safetensors",
            )
        write_json(staging / "state.json", {"step": state.step, **state.numbers})
        write_csv(staging / "curves.csv", state.rows)
        sync_folder(staging)
        staging.rename(final)
        sync(root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    for old in root.iterdir():
        if old != final and _NAME.fullmatch(old.name):
            shutil.rmtree(old)


def load(output: Path) -> TrainingState | None:
    """The latest state, or None if there is none."""
    found = [path for path in (output / FOLDER).glob("step-*") if _NAME.fullmatch(path.name)]
    if not found:
        return None
    latest = max(found, key=lambda path: path.name)
    try:
        numbers = json.loads((latest / "state.json").read_text(encoding="utf-8"))
        tensors = {
            name: load_file(latest / f"{name}.safetensors") for name in ("model", "average", "optimizer")
        }
        return TrainingState(
            step=numbers.pop("step"), numbers=numbers, rows=read_csv(latest / "curves.csv"), **tensors
        )
    except Exception as error:  # safetensors, JSON and CSV each raise their own
        raise DatasetError(f"{latest}: expected a complete training state, got {error}") from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """Every tensor of the optimiser's state, flat."""
    state = optimizer.state_dict()["state"]
    return {f"{number}/{name}": value for number, entry in state.items() for name, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """The inverse; hyperparameters stay those of `optimizer`."""
    state: dict[int, Tensors] = {}
    for key, value in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
