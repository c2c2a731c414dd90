"""Training of planners and controllers; `train(ControllerTraining(...))`, `expit(read_config(...))`."""

from typing import TYPE_CHECKING

from keystep.lazy import lazy_names

if TYPE_CHECKING:
    from keystep.expit.run import expit
    from keystep.train.code_planner_config import CodePlannerTraining
    from keystep.train.config import ControllerTraining, PlannerTraining, TrainConfig
    from keystep.train.trainer import TrainResult, train
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "CodePlannerTraining": "code_planner_config",
            "ControllerTraining": "config",
            "PlannerTraining": "config",
            "TrainConfig": "config",
            "TrainResult": "trainer",
            "expit": "keystep.expit.run",
            "train": "trainer",
        },
    )

__all__ = [
    "CodePlannerTraining",
    "ControllerTraining",
    "PlannerTraining",
    "TrainConfig",
    "TrainResult",
    "expit",
    "train",
]
