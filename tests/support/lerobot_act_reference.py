"""LeRobot's ACT from facts: slow, clear, under its names of weights; see lerobot_reference.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from lerobot_reference import ENVIRONMENT, STATE, Batch, keys, width
from plain_resnet import FrozenBatchNorm2d, IntermediateLayerGetter, maker
from torch import Tensor, nn
from torch.nn import functional


class ActLayer(nn.Module):
    def __init__(self, config: dict[str, Any], decoder: bool) -> None:
        super().__init__()
        size, heads = config["dim_model"], config["n_heads"]
        self.self_attn = nn.MultiheadAttention(size, heads)
        if decoder:
            self.multihead_attn = nn.MultiheadAttention(size, heads)
        self.linear1 = nn.Linear(size, config["dim_feedforward"])
        self.linear2 = nn.Linear(config["dim_feedforward"], size)
        for number in range(2 + decoder):
            setattr(self, f"norm{number + 1}", nn.LayerNorm(size))
        self.before, self.decoder = config["pre_norm"], decoder
        self.activation = getattr(functional, config["feedforward_activation"])

    def forward(
        self, x: Tensor, place: Tensor, memory: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        def attend(h: Tensor) -> Tensor:
            return self.self_attn(h + place, h + place, h)[0]

        def look(h: Tensor) -> Tensor:
            assert memory is not None and seen is not None
            return self.multihead_attn(h + place, memory + seen, memory)[0]

        def think(h: Tensor) -> Tensor:
            return self.linear2(self.activation(self.linear1(h)))

        parts: list[Callable[[Tensor], Tensor]] = [attend, look, think] if self.decoder else [attend, think]
        for number, part in enumerate(parts):
            norm = getattr(self, f"norm{number + 1}")
            x = x + part(norm(x)) if self.before else norm(x + part(x))
        return x


class ActStack(nn.Module):
    def __init__(self, config: dict[str, Any], layers: int, decoder: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(ActLayer(config, decoder) for _ in range(layers))
        plain = not decoder and not config["pre_norm"]
        self.norm = nn.Identity() if plain else nn.LayerNorm(config["dim_model"])

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, *more)
        return self.norm(x)


class Act(nn.Module):
    """`model.` of a checkpoint."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        size = config["dim_model"]
        model = self.model = nn.Module()
        if keys(config, "VISUAL"):
            full = maker(config["vision_backbone"])(
                norm_layer=FrozenBatchNorm2d,
                replace_stride_with_dilation=(False, False, config["replace_final_stride_with_dilation"]),
            )
            channels = full.fc.in_features
            model.backbone = IntermediateLayerGetter(full, {"layer4": "map"})
            model.encoder_img_feat_input_proj = nn.Conv2d(channels, size, 1)
        model.encoder = ActStack(config, config["n_encoder_layers"], False)
        model.decoder = ActStack(config, config["n_decoder_layers"], True)
        model.encoder_latent_input_proj = nn.Linear(config["latent_dim"], size)
        model.encoder_robot_state_input_proj = nn.Linear(width(config, STATE), size)
        if keys(config, "ENV"):
            model.encoder_env_state_input_proj = nn.Linear(width(config, ENVIRONMENT), size)
        model.encoder_1d_feature_pos_embed = nn.Embedding(2 + len(keys(config, "ENV")), size)
        model.decoder_pos_embed = nn.Embedding(config["chunk_size"], size)
        model.action_head = nn.Linear(size, width(config, "action"))
        if config["use_vae"]:  # what training alone needs
            model.vae_encoder_cls_embed = nn.Embedding(1, size)
            model.vae_encoder_latent_output_proj = nn.Linear(size, 2 * config["latent_dim"])

    def chunk(self, frames: list[Batch], noise: list[Tensor]) -> Tensor:
        """[1, execute, A]; with temporal ensembling all rows."""
        model: Any = self.model
        frame = frames[-1]
        tokens = [model.encoder_latent_input_proj(torch.zeros(1, self.config["latent_dim"]))]
        tokens.append(model.encoder_robot_state_input_proj(frame[STATE]))
        if keys(self.config, "ENV"):
            tokens.append(model.encoder_env_state_input_proj(frame[ENVIRONMENT]))
        places = list(model.encoder_1d_feature_pos_embed.weight[:, None])
        for key in keys(self.config, "VISUAL"):
            cells = model.encoder_img_feat_input_proj(model.backbone(frame[key])["map"])
            tokens += list(cells.flatten(2).permute(2, 0, 1))
            places += list(cell_places(*cells.shape[-2:], self.config["dim_model"])[:, None])
        seen = torch.stack(places)
        memory = model.encoder(torch.stack(tokens), seen)
        asked = model.decoder_pos_embed.weight[:, None]
        out = model.decoder(torch.zeros_like(asked), asked, memory, seen)
        rows = model.action_head(out).transpose(0, 1)
        averaged = self.config["temporal_ensemble_coeff"] is not None
        return rows if averaged else rows[:, : self.config["n_action_steps"]]


def cell_places(height: int, columns: int, size: int) -> Tensor:
    """[cells, D]: of row, then column, sines and cosines of 2 pi place / count / 10000^(2 i / half)."""
    half, rows = size // 2, []
    for row in range(1, height + 1):
        for column in range(1, columns + 1):
            values = []
            for place, count in ((row, height), (column, columns)):
                for pair in range(half // 2):
                    angle = 2 * math.pi * place / (count + 1e-6) / 10000 ** (2 * pair / half)
                    values += [math.sin(angle), math.cos(angle)]
            rows.append(values)
    return torch.tensor(rows)
