"""Configurations by name. Importing this module needs no torch."""

from __future__ import annotations

from dataclasses import replace

from keystep.models.config import ActConfig, DiffusionConfig, SamplerConfig
from keystep.models.observing import camera_feature, state_feature
from keystep.models.planner_config import PlannerConfig, ResamplerConfig, planner_sampler

# Predicts the clean chunk. At the noisy steps, which decide where the arm goes, the loss of a predicted
# epsilon hardly depends on the condition (weight alpha-bar): short training never learns what a task means.
_SMALL = DiffusionConfig(
    down_dims=(32, 64),
    state_hidden=(),
    condition_hidden=(512, 512),
    condition_features=192,
    sampler=SamplerConfig(prediction="sample"),
)
_WIDE = DiffusionConfig(horizon=16, step_dim=256, state_features=512)

PRESETS: dict[str, DiffusionConfig] = {
    # For tests: a fraction of a second to export and run.
    "tiny": DiffusionConfig(
        down_dims=(16, 32), step_dim=16, state_hidden=(32,), state_features=16, task_features=8
    ),
    # Trains on two CPU cores within the hour.
    "small": _SMALL,
    # The same with a narrow image encoder whose map stays fine enough for 64 x 64 pixels.
    "small-rgb": replace(_SMALL, image_width=32, image_stages=2),
    "small-15m": replace(_WIDE, down_dims=(128, 256, 384)),
    "medium": replace(_WIDE, down_dims=(256, 512, 1024)),
    # HD-ExpIt's controller: 263 M parameters with two 96 x 96 views (current and goal image).
    "paper": replace(_WIDE, horizon=8, down_dims=(512, 1024, 2048)),
}

ACT_PRESETS: dict[str, ActConfig] = {
    "act-tiny": ActConfig(
        width=32, heads=2, feedforward=64, encoder_layers=1, vae_layers=1, latent=4, image_width=16
    ),
    # Over states, on two CPU cores.
    "act-small": ActConfig(width=256, heads=4, feedforward=512, encoder_layers=2, vae_layers=2),
    "act": ActConfig(),
}
"""Controllers of one step. `act` has HD-ExpIt's sizes: 51 M parameters with a 96 x 96 camera and its goal."""

_SMALL_TEXT = ResamplerConfig(dim=128, depth=1, heads=4, head_dim=32, latents=8)

PLANNER_PRESETS: dict[str, PlannerConfig] = {
    "tiny": PlannerConfig(
        observation=(state_feature(26),),
        resampler=ResamplerConfig(dim=16, depth=1, heads=2, head_dim=8, latents=2),
        embedding=16,
        down_dims=(16, 32),
        step_dim=16,
        condition_hidden=(32,),
        condition_features=16,
        base=16,
        multipliers=(1, 2),
        blocks=1,
        head_channels=16,
        attention_at=(2,),
    ),
    # Over states, a transformer; trains on two CPU cores within the hour. After 4,000 batches of 128 three
    # of its layers put stacks 1.4 cm beside their place, small-unet 3 cm after 12,000 (docs/decisions.md).
    "small": PlannerConfig(
        observation=(state_feature(26),), resampler=_SMALL_TEXT, embedding=128, network="transformer"
    ),
    # Over states, a U-Net, which the native engine runs. Predicting the clean plan learns faster at first;
    # after 7,000 batches of 128 v-prediction grasps and stacks nearer.
    "small-unet": PlannerConfig(
        observation=(state_feature(26),),
        resampler=_SMALL_TEXT,
        embedding=128,
        condition_hidden=(1024, 1024),
        condition_features=512,
    ),
    # Over 64 x 64 images. It folds squares of 4 x 4 pixels into channels; as many values of noise do not fit
    # through its 32 channels, so it predicts the clean frames.
    "small-rgb": PlannerConfig(
        observation=(camera_feature("static", 64, 64),),
        resampler=_SMALL_TEXT,
        embedding=128,
        base=32,
        multipliers=(1, 2, 4),
        blocks=1,
        attention_at=(8, 16),
        patch=4,
        min_snr=0.0,
        sampler=replace(planner_sampler(), prediction="sample"),
    ),
    # HD-ExpIt's planner: 201 M parameters at 96 x 96 with CLIP's text tokens.
    "paper": PlannerConfig(observation=(camera_feature("static", 96, 96),), text_tokens=14, text_width=512),
}
"""Planners; training sets `observation`, and the text encoder's width, from its data."""
