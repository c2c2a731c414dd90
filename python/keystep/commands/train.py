"""keystep train"""

from __future__ import annotations

from typing import Annotated, Any

import tyro

from keystep.train.code_planner_config import CodePlannerTraining
from keystep.train.config import ControllerTraining, PlannerTraining
from keystep.train.scorer_config import ScorerTraining

Training = (
    Annotated[ControllerTraining, tyro.conf.subcommand("controller")]
    | Annotated[PlannerTraining, tyro.conf.subcommand("planner")]
    | Annotated[CodePlannerTraining, tyro.conf.subcommand("code-planner")]
    | Annotated[ScorerTraining, tyro.conf.subcommand("scorer")]
)


def main(config: Annotated[Training, tyro.conf.arg(name="")]) -> Any:
    """Train a controller or a planner on a dataset; run again to continue. Ctrl-C saves and stops.

    A scorer of plans is trained on plans that were tried, in one go.
    """
    if isinstance(config, ScorerTraining):
        from keystep.train.scorer import train_scorer

        scored = train_scorer(config)
        assert scored is not None  # nobody stops it but by Ctrl-C
        print(scored)
        return scored
    from keystep.train.trainer import train

    result = train(config)
    losses = f"train loss {result.train_loss}, validation loss {result.val_loss}"
    print(f"{result.output}: step {result.step}, {losses}")
    return result
