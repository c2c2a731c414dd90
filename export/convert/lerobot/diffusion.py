"""LeRobot's diffusion policy: its U-Net is ours but for names and the 1 of our FiLM, `h * (1 + scale)`."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import Tensor, nn

from keystep.export.convert.fields import Fields, refuse
from keystep.export.convert.lerobot.camera import CameraConfig, CameraEncoder
from keystep.export.convert.lerobot.source import COMMON, MOST_PIXELS, LeRobotCheckpoint
from keystep.export.convert.lerobot.statistics import IN_WEIGHTS
from keystep.export.convert.tensors import fill
from keystep.features import Feature
from keystep.models import SamplerConfig
from keystep.models.given import GivenDiffusion, GivenDiffusionConfig
from keystep.models.resnet import DEPTHS, folded

FIELDS = COMMON | {
    "horizon", "drop_n_last_frames", "resize_shape", "crop_ratio", "crop_shape", "crop_is_random",
    "use_group_norm", "spatial_softmax_num_keypoints", "use_separate_rgb_encoder_per_camera", "down_dims",
    "kernel_size", "n_groups", "diffusion_step_embed_dim", "use_film_scale_modulation",
    "gradient_checkpointing", "noise_scheduler_type", "num_train_timesteps", "beta_schedule", "beta_start",
    "beta_end", "prediction_type", "clip_sample", "clip_sample_range", "num_inference_steps",
    "do_mask_loss_for_padding", "optimizer_betas", "optimizer_eps", "scheduler_name",
    "scheduler_warmup_steps",
}  # fmt: skip
FINAL_GROUPS = 8
"""Of the last block, whatever `n_groups` says."""


class FrameEncoder(nn.Module):
    """The condition [1, C]: of every frame, oldest first, state, cameras and environment side by side.

    Args:
        state, environment: keys of the vectors. cameras: of the images.
        encoders: one for each camera, or one for all.
        frames: how many are seen.
    """

    def __init__(
        self,
        state: str,
        cameras: list[str],
        environment: str | None,
        encoders: list[CameraEncoder],
        frames: int,
    ) -> None:
        super().__init__()
        self.state, self.cameras, self.environment = state, cameras, environment
        self.encoders = nn.ModuleList(encoders)
        self.frames = frames

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        parts = [self._steps(batch[self.state])]
        for number, key in enumerate(self.cameras):
            encoder = self.encoders[number % len(self.encoders)]
            parts.append(encoder(self._steps(batch[key])))
        if self.environment is not None:
            parts.append(self._steps(batch[self.environment]))
        return torch.cat(parts, dim=-1).reshape(1, -1)

    def _steps(self, value: Tensor) -> Tensor:
        """[1, n, ..] or, of one frame, [1, ..] -> [n, ..]."""
        return value[0] if self.frames > 1 else value


def diffusion_policy(source: LeRobotCheckpoint, features: dict[str, Feature]) -> GivenDiffusion:
    """The policy with its weights.

    Args:
        features: what is observed, by the policy's keys.

    Raises:
        ExportError: what is not converted, or weights that are others than config.json says.
        ConfigError: sizes that no U-Net of ours has.
    """
    config = source.config
    config.only(FIELDS, "LeRobot's diffusion policy")
    frames, horizon = config.whole("n_obs_steps", most=source.widest), config.whole("horizon")
    if source.state is None:
        raise refuse("input_features", "observation.state", [given.key for given in source.inputs])
    encoders = _encoders(source)
    width = source.state.shape[0] + sum(encoder.out.out_features for encoder in encoders[1]) * encoders[0]
    width += source.environment.shape[0] if source.environment else 0
    groups = config.whole("n_groups")
    known = GivenDiffusionConfig(
        action_dim=source.action.shape[0],
        horizon=horizon,
        execute=config.whole("n_action_steps", most=max(1, horizon - frames + 1)),
        chunk_start=frames - 1,
        observation=tuple(replace(feature, history=frames) for feature in features.values()),
        down_dims=config.wholes("down_dims", most=source.widest),
        kernel_size=config.whole("kernel_size"),
        groups=groups,
        step_dim=config.whole("diffusion_step_embed_dim", most=source.widest),
        film_scale=config.flag("use_film_scale_modulation"),
        sampler=_sampler(config),
        width=frames * width,
    )
    environment = source.environment
    encoder = FrameEncoder(
        features[source.state.key].key,
        [features[given.key].key for given in source.cameras],
        features[environment.key].key if environment else None,
        encoders[1],
        frames,
    )
    if known.down_dims[0] % FINAL_GROUPS:
        wanted = f"a multiple of {FINAL_GROUPS} first (the groups of the last block)"
        raise refuse("down_dims", wanted, list(known.down_dims))
    policy = GivenDiffusion(known, encoder)
    if groups != FINAL_GROUPS:
        policy.unet.final[0][1] = nn.GroupNorm(FINAL_GROUPS, known.down_dims[0])  # type: ignore[index,operator]
    separate = len(encoder.encoders) > 1 or config.flag("use_separate_rgb_encoder_per_camera", False)
    fill(policy, source.weights, lambda name: _theirs(name, separate), IN_WEIGHTS, "model.safetensors")
    with torch.no_grad():
        for block in policy.unet.blocks() if known.film_scale else ():
            block.film.bias[: len(block.film.bias) // 2] -= 1.0
    folded(policy.encoder)
    return policy


def _sampler(config: Fields) -> SamplerConfig:
    """LeRobot gives these to diffusers' schedulers, and leaves the rest as it is there."""
    steps = config.whole("num_train_timesteps")
    return SamplerConfig(
        kind=config.choice("noise_scheduler_type", ("DDPM", "DDIM")).lower(),
        train_steps=steps,
        inference_steps=config.whole("num_inference_steps", most=steps, default=steps),
        beta_schedule=config.choice("beta_schedule", ("linear", "scaled_linear", "squaredcos_cap_v2")),
        beta_start=config.number("beta_start"),
        beta_end=config.number("beta_end"),
        prediction=config.choice("prediction_type", ("epsilon", "sample")),
        clip_sample=config.flag("clip_sample"),
        clip_range=config.number("clip_sample_range"),
    )


def blind(policy: GivenDiffusion) -> bool:
    """Whether its spatial softmax has one cell to look at, whatever is in the images."""
    encoders = policy.encoder.encoders
    return len(encoders) > 0 and len(encoders[0].softmax.grid) == 1  # type: ignore[arg-type,index,union-attr]


def _encoders(source: LeRobotCheckpoint) -> tuple[int, list[CameraEncoder]]:
    """How often each is used, and the encoders."""
    config, cameras = source.config, source.cameras
    if not cameras:
        if source.environment is None:
            got = [given.key for given in source.inputs]
            raise refuse("input_features", "a camera or observation.environment_state", got)
        return 0, []
    sizes = sorted({given.shape[1:] for given in cameras})
    if len(sizes) > 1:
        raise refuse("input_features", "cameras of one size (LeRobot's diffusion policy stacks them)", sizes)
    resize = config.wholes("resize_shape", 2, None, MOST_PIXELS)
    crop = config.wholes("crop_shape", 2, None)
    ratio = config.number("crop_ratio", 1.0)
    if resize is not None:
        crop = tuple(int(extent * ratio) for extent in resize) if ratio < 1 else None
    (given,) = sizes
    size: tuple[int, int] = resize or (given[0], given[1])
    if crop is not None and not all(0 < want <= have for want, have in zip(crop, size, strict=True)):
        raise refuse("crop_shape", f"at most {[*size]}, and more than nothing", [*crop])
    camera = CameraConfig(
        size=(given[0], given[1]),
        resize=resize if resize != (given[0], given[1]) else None,
        crop=crop,
        backbone=config.choice("vision_backbone", DEPTHS),
        grouped=config.flag("use_group_norm"),
        keypoints=config.whole("spatial_softmax_num_keypoints", most=source.widest),
    )
    if config.flag("use_separate_rgb_encoder_per_camera", False):
        return 1, [CameraEncoder(camera) for _ in cameras]
    return len(cameras), [CameraEncoder(camera)]


_STAGES = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
_UNET = [
    (r"down\.(\d+)\.([01])\.", r"down_modules.\1.\2."),
    (r"up\.(\d+)\.([01])\.", r"up_modules.\1.\2."),
    (r"shrink\.(\d+)\.", r"down_modules.\1.2."),
    (r"grow\.(\d+)\.", r"up_modules.\1.2."),
    (r"middle\.(\d+)\.", r"mid_modules.\1."),
    (r"final\.0\.", r"final_conv.0.block."),
    (r"final\.1\.", r"final_conv.1."),
    (r"step\.mlp\.0\.", r"diffusion_step_encoder.1."),
    (r"step\.mlp\.2\.", r"diffusion_step_encoder.3."),
]
_BLOCK = {
    "first.": "conv1.block.",
    "second.": "conv2.block.",
    "film.": "cond_encoder.1.",
    "shortcut.": "residual_conv.",
}


def _theirs(name: str, separate: bool) -> str:
    """LeRobot's name of a tensor of ours."""
    if name.startswith("unet."):
        inner = name.removeprefix("unet.")
        for ours, theirs in _UNET:
            inner, found = re.subn(f"^{ours}", theirs, inner)
            if found:
                break
        for part, theirs in _BLOCK.items():
            inner = re.sub(rf"(?<=\.){re.escape(part)}", theirs, inner)
        return f"diffusion.unet.{inner}"
    _, _, number, part, *rest = name.split(".")
    place = f"diffusion.rgb_encoder.{number}" if separate else "diffusion.rgb_encoder"
    if part == "backbone":
        return ".".join([place, "backbone", _STAGES[rest[0]], *rest[1:]])
    if part == "softmax":
        return f"{place}.pool.pos_grid" if rest == ["grid"] else ".".join([place, "pool", "nets", *rest[1:]])
    return ".".join([place, part, *rest])
