"""keystep train"""

from __future__ import annotations

from typing import Annotated

import tyro

from keystep.train import TrainConfig, TrainResult, train


def main(config: Annotated[TrainConfig, tyro.conf.arg(name="")]) -> TrainResult:
    """Train a policy on a dataset; run again to continue. Ctrl-C saves and stops."""
    result = train(config)
    losses = f"train loss {result.train_loss}, validation loss {result.val_loss}"
    print(f"{result.output}: step {result.step}, {losses}")
    return result
