"""What a configuration trains."""

from __future__ import annotations

from keystep.data import Dataset
from keystep.models.checks import ConfigError
from keystep.train.config import ControllerTraining, PlannerTraining, TrainConfig
from keystep.train.controller import ControllerRecipe
from keystep.train.planner import PlannerRecipe
from keystep.train.recipe import Recipe
from keystep.train.rehearsal import hint


def recipe_of(config: TrainConfig, reader: Dataset) -> Recipe:
    """Raises DatasetError, ValueError; what of a network is refused says what mends it."""
    try:
        return _recipe_of(config, reader)
    except ConfigError as error:
        raise ConfigError(f"{error}{hint(str(error))}") from None


def _recipe_of(config: TrainConfig, reader: Dataset) -> Recipe:
    if isinstance(config, PlannerTraining):
        return PlannerRecipe(config, reader)
    if not isinstance(config, ControllerTraining):
        raise TypeError(
            f"config: expected ControllerTraining or PlannerTraining, got {type(config).__name__}"
        )
    return ControllerRecipe(config, reader)
