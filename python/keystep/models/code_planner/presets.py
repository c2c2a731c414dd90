"""Planners that write code, by name. Importing this module needs no torch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keystep.models.code_planner.config import OBJECT_SLOTS, OBJECTS, CodePlannerConfig
from keystep.models.observing import camera_feature, state_feature, vector_feature

STATE_WIDTH, OBJECT_WIDTH = 31, 20  # of the tabletop suite; training sets what its data have

_TINY = CodePlannerConfig(observation=(camera_feature("base", 128, 128), state_feature(STATE_WIDTH)))
_OBJECTS = (vector_feature(OBJECTS, OBJECT_SLOTS * OBJECT_WIDTH), state_feature(STATE_WIDTH))
_MICRO: dict[str, Any] = {"width": 64, "layers": 2, "heads": 4, "key_heads": 2, "hidden": 48}

CODE_PLANNER_PRESETS: dict[str, CodePlannerConfig] = {
    # For tests: a fraction of a second to run.
    "micro": replace(_TINY, **_MICRO, image_tokens=4, stem=(4, 8, 8, 16)),
    "micro-state": CodePlannerConfig(observation=_OBJECTS, **_MICRO, image_tokens=OBJECT_SLOTS),
    # 5 M parameters, which train on two CPU cores.
    "tiny": _TINY,
    # The same decoder over the slots of objects in place of a picture.
    "state": CodePlannerConfig(observation=_OBJECTS, image_tokens=OBJECT_SLOTS),
    # From Code to Action: CLIP ViT-L/14 at 336 px and Phi-3-mini, 4.1 billion parameters, without
    # proprioception. Weights: keystep.models.code_planner.pretrained.pretrained_planner.
    "paper": CodePlannerConfig(
        observation=(camera_feature("base", 336, 336),),
        network="llava",
        vocabulary=32064,
        context=2047,
        pad_id=32000,
        end_id=32007,
        image_id=32044,
        image_tokens=576,
        width=3072,
        layers=32,
        llava={
            "image_token_index": 32044,
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
                "projection_dim": 768,
            },
            "text_config": {
                "model_type": "phi3",
                "vocab_size": 32064,
                "hidden_size": 3072,
                "intermediate_size": 8192,
                "num_hidden_layers": 32,
                "num_attention_heads": 32,
                "num_key_value_heads": 32,
                "max_position_embeddings": 4096,
                "original_max_position_embeddings": 4096,
                "sliding_window": 2047,
            },
        },
    ),
}
"""Training sets `observation`, the vocabulary and the ids of special tokens from its data."""
