"""What a configuration trains."""

from __future__ import annotations

from typing import Any

from keystep.data import open_datasets
from keystep.models.checks import ConfigError
from keystep.train.code_planner import CodePlannerRecipe, code_source
from keystep.train.code_planner_config import CodePlannerTraining
from keystep.train.config import ControllerTraining, PlannerTraining, TrainConfig
from keystep.train.controller import ControllerRecipe
from keystep.train.planner import PlannerRecipe
from keystep.train.recipe import Recipe
from keystep.train.rehearsal import hint


def reader_of(config: TrainConfig) -> Any:
    """The episodes that a configuration names. Raises DatasetError."""
    if isinstance(config, CodePlannerTraining):
        return code_source(config)
    return open_datasets(config.dataset)


def recipe_of(config: TrainConfig, reader: Any) -> Recipe:
    """Raises DatasetError, ValueError; what of a network is refused says what mends it."""
    try:
        return _recipe_of(config, reader)
    except ConfigError as error:
        raise ConfigError(f"{error}{hint(str(error))}") from None


def _recipe_of(config: TrainConfig, reader: Any) -> Recipe:
    if isinstance(config, CodePlannerTraining):
        return CodePlannerRecipe(config, reader)
    if isinstance(config, PlannerTraining):
        return PlannerRecipe(config, reader)
    if not isinstance(config, ControllerTraining):
        raise TypeError(
            f"config: expected ControllerTraining or PlannerTraining, got {type(config).__name__}"
        )
    return ControllerRecipe(config, reader)
