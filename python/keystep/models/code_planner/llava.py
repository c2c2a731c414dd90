"""LLaVA's parts: CLIP vision tower, projector, Phi-3 or another decoder of transformers (arXiv:2304.08485).

Mask, positions and cache are ours: every token attends to all before it, so a decoder with a sliding window
or a second range of its rotary embedding is used only as far as neither shows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlavaConfig, LlavaForConditionalGeneration

from keystep.models.checks import ConfigError, require
from keystep.models.code_planner.config import CodePlannerConfig


class LlavaSight(nn.Module):
    """CLIP's patches of one layer, projected. Pictures of another size are resized."""

    mean: Tensor
    std: Tensor

    def __init__(self, tower: nn.Module, projector: nn.Module, sizes: Any, config: CodePlannerConfig) -> None:
        super().__init__()
        self.tower, self.projector = tower, projector
        self.layer, self.whole = sizes.vision_feature_layer, sizes.vision_feature_select_strategy == "full"
        self.side: int = sizes.vision_config.image_size
        mean, std = (torch.tensor(values)[:, None, None] for values in (config.image_mean, config.image_std))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> [N, K, D]."""
        if pictures.shape[-2:] != (self.side, self.side):
            size = (self.side, self.side)
            pictures = functional.interpolate(pictures, size, mode="bicubic", antialias=True).clamp(0, 1)
        states = self.tower((pictures - self.mean) / self.std, output_hidden_states=True).hidden_states
        layers = [self.layer] if isinstance(self.layer, int) else self.layer
        patches = torch.cat([states[layer] for layer in layers], dim=-1)
        return self.projector(patches if self.whole else patches[:, 1:])


def llava_parts(config: CodePlannerConfig) -> tuple[LlavaSight, nn.Module, nn.Module]:
    """Sight, decoder and head with random weights.

    Raises:
        ConfigError: sizes that LLaVA has not, or that do not fit those of `config`.
    """
    try:
        sizes = LlavaConfig(**config.llava)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"code_planner.llava: expected what LlavaConfig takes, got {reason}") from None
    check_sizes(config, sizes)
    sizes._attn_implementation = "sdpa"
    return parts_of(LlavaForConditionalGeneration(sizes), config)


def parts_of(model: Any, config: CodePlannerConfig) -> tuple[LlavaSight, nn.Module, nn.Module]:
    inner = model.model
    sight = LlavaSight(inner.vision_tower, inner.multi_modal_projector, model.config, config)
    return sight, inner.language_model, model.lm_head


def check_sizes(config: CodePlannerConfig, sizes: Any) -> None:
    vision, text = sizes.vision_config, sizes.text_config
    tokens = (vision.image_size // vision.patch_size) ** 2
    tokens += sizes.vision_feature_select_strategy == "full"
    where = "code_planner.image_tokens"
    require(
        config.image_tokens == tokens, where, f"{tokens} (patches of the vision tower)", config.image_tokens
    )
    where, wanted = "code_planner.vocabulary", f"{text.vocab_size} (llava.text_config)"
    require(config.vocabulary == text.vocab_size, where, wanted, config.vocabulary)
    most = text.max_position_embeddings
    if "longrope" in str(getattr(text, "rope_parameters", None)):  # a cache from before the switch is stale
        most = min(most, getattr(text, "original_max_position_embeddings", None) or most)
    most = min(most, getattr(text, "sliding_window", None) or most)
    wanted = f"at most {most} (the decoder's window and first range of positions)"
    require(config.context <= most, "code_planner.context", wanted, config.context)
