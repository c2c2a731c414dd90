"""Networks, normalisation and checkpoints of keystep policies (PyTorch; training and export only)."""

from keystep.models.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_model,
    load_planner,
    load_policy,
    make_model,
    random_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from keystep.models.checks import ConfigError
from keystep.models.config import (
    ActConfig,
    CameraConfig,
    PlannerConfig,
    PolicyConfig,
    ResamplerConfig,
    SamplerConfig,
)
from keystep.models.normalizer import Normalizer, default_modes, normalization_entry
from keystep.models.policy import DiffusionPolicy
from keystep.models.presets import ACT_PRESETS, PLANNER_PRESETS, PRESETS

__all__ = [
    "ACT_PRESETS",
    "PLANNER_PRESETS",
    "PRESETS",
    "ActConfig",
    "CameraConfig",
    "Checkpoint",
    "CheckpointError",
    "ConfigError",
    "DiffusionPolicy",
    "Normalizer",
    "PlannerConfig",
    "PolicyConfig",
    "ResamplerConfig",
    "SamplerConfig",
    "default_modes",
    "load_model",
    "load_planner",
    "load_policy",
    "make_model",
    "normalization_entry",
    "random_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
]
