"""Networks, normalisation and checkpoints of keystep policies (PyTorch; training and export only)."""

from keystep.models.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_policy,
    random_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from keystep.models.config import PRESETS, CameraConfig, ConfigError, PolicyConfig, SamplerConfig
from keystep.models.normalizer import Normalizer, default_modes, normalization_entry
from keystep.models.policy import DiffusionPolicy

__all__ = [
    "PRESETS",
    "CameraConfig",
    "Checkpoint",
    "CheckpointError",
    "ConfigError",
    "DiffusionPolicy",
    "Normalizer",
    "PolicyConfig",
    "SamplerConfig",
    "default_modes",
    "load_policy",
    "normalization_entry",
    "random_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
]
