"""Training of policies; `train(TrainConfig(...))`."""

from keystep.train.config import TrainConfig
from keystep.train.trainer import TrainResult, train

__all__ = ["TrainConfig", "TrainResult", "train"]
