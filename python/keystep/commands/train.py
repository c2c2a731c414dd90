"""keystep train"""

from __future__ import annotations

from typing import Annotated

import tyro

from keystep.train import ControllerTraining, PlannerTraining, TrainResult, train

Training = (
    Annotated[ControllerTraining, tyro.conf.subcommand("controller")]
    | Annotated[PlannerTraining, tyro.conf.subcommand("planner")]
)


def main(config: Annotated[Training, tyro.conf.arg(name="")]) -> TrainResult:
    """Train a controller or a planner on a dataset; run again to continue. Ctrl-C saves and stops."""
    result = train(config)
    losses = f"train loss {result.train_loss}, validation loss {result.val_loss}"
    print(f"{result.output}: step {result.step}, {losses}")
    return result
