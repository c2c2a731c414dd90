"""Networks, normalisation and checkpoints of keystep policies (PyTorch; training and export only)."""

from typing import TYPE_CHECKING

from keystep.lazy import lazy_names

if TYPE_CHECKING:
    from keystep.models.checkpoint import (
        Checkpoint,
        CheckpointError,
        load_model,
        load_planner,
        load_policy,
        load_scorer,
        make_model,
        random_checkpoint,
        read_checkpoint,
        save_checkpoint,
    )
    from keystep.models.checks import ConfigError
    from keystep.models.code_planner.config import CodePlannerConfig
    from keystep.models.code_planner.presets import CODE_PLANNER_PRESETS
    from keystep.models.config import ActConfig, DiffusionConfig, SamplerConfig
    from keystep.models.diffusion import DiffusionController
    from keystep.models.normalizer import Normalizer, default_modes, normalization_entry
    from keystep.models.observing import camera_feature, state_feature, vector_feature
    from keystep.models.planner_config import PlannerConfig, ResamplerConfig
    from keystep.models.presets import ACT_PRESETS, PLANNER_PRESETS, PRESETS
    from keystep.models.scorer_config import ScorerConfig
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Checkpoint": "checkpoint",
            "CheckpointError": "checkpoint",
            "load_model": "checkpoint",
            "load_planner": "checkpoint",
            "load_policy": "checkpoint",
            "load_scorer": "checkpoint",
            "make_model": "checkpoint",
            "random_checkpoint": "checkpoint",
            "read_checkpoint": "checkpoint",
            "save_checkpoint": "checkpoint",
            "ConfigError": "checks",
            "CODE_PLANNER_PRESETS": "code_planner.presets",
            "CodePlannerConfig": "code_planner.config",
            "ActConfig": "config",
            "PlannerConfig": "planner_config",
            "DiffusionConfig": "config",
            "ResamplerConfig": "planner_config",
            "SamplerConfig": "config",
            "ScorerConfig": "scorer_config",
            "Normalizer": "normalizer",
            "default_modes": "normalizer",
            "normalization_entry": "normalizer",
            "camera_feature": "observing",
            "state_feature": "observing",
            "vector_feature": "observing",
            "DiffusionController": "diffusion",
            "ACT_PRESETS": "presets",
            "PLANNER_PRESETS": "presets",
            "PRESETS": "presets",
        },
    )

__all__ = [
    "ACT_PRESETS",
    "CODE_PLANNER_PRESETS",
    "PLANNER_PRESETS",
    "PRESETS",
    "ActConfig",
    "Checkpoint",
    "CheckpointError",
    "CodePlannerConfig",
    "ConfigError",
    "DiffusionConfig",
    "DiffusionController",
    "Normalizer",
    "PlannerConfig",
    "ResamplerConfig",
    "SamplerConfig",
    "ScorerConfig",
    "camera_feature",
    "default_modes",
    "load_model",
    "load_planner",
    "load_policy",
    "load_scorer",
    "make_model",
    "normalization_entry",
    "random_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "state_feature",
    "vector_feature",
]
