"""Training of planners and controllers; `train(ControllerTraining(...))`."""

from keystep.train.config import ControllerTraining, PlannerTraining, TrainConfig
from keystep.train.trainer import TrainResult, train

__all__ = ["ControllerTraining", "PlannerTraining", "TrainConfig", "TrainResult", "train"]
