"""LeRobot's diffusion policy from facts: slow, clear, under its names of weights.

For tests, which do not need LeRobot; scripts/compare-lerobot-policies.sh compares with LeRobot itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from plain_resnet import maker
from torch import Tensor, nn
from torch.nn import functional

Batch = dict[str, Tensor]
STATE, ENVIRONMENT = "observation.state", "observation.environment_state"


def keys(config: dict[str, Any], kind: str) -> list[str]:
    return [key for key, feature in config["input_features"].items() if feature["type"] == kind]


def width(config: dict[str, Any], key: str) -> int:
    return (config["input_features"] | config["output_features"])[key]["shape"][0]


class Convolved(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__()
        convolution = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.block = nn.Sequential(convolution, nn.GroupNorm(groups, outputs), nn.Mish())

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Residual(nn.Module):
    def __init__(self, config: dict[str, Any], inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        kernel, groups = config["kernel_size"], config["n_groups"]
        self.conv1 = Convolved(inputs, outputs, kernel, groups)
        self.conv2 = Convolved(outputs, outputs, kernel, groups)
        self.scaled = config["use_film_scale_modulation"]
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(condition, outputs * (1 + self.scaled)))
        self.residual_conv = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        film = self.cond_encoder(condition)[..., None]
        h = self.conv1(x)
        if self.scaled:
            scale, bias = film.chunk(2, dim=1)
            h = scale * h + bias
        else:
            h = h + film
        return self.conv2(h) + self.residual_conv(x)


class Waves(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, time: Tensor) -> Tensor:
        half = self.size // 2
        rates = [math.exp(-math.log(10000) * number / (half - 1)) for number in range(half)]
        angles = time[:, None] * torch.tensor(rates)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Unet(nn.Module):
    def __init__(self, config: dict[str, Any], condition: int) -> None:
        super().__init__()
        step, dims = config["diffusion_step_embed_dim"], config["down_dims"]
        actions = width(config, "action")
        self.diffusion_step_encoder = nn.Sequential(
            Waves(step), nn.Linear(step, 4 * step), nn.Mish(), nn.Linear(4 * step, step)
        )

        def block(inputs: int, outputs: int) -> Residual:
            return Residual(config, inputs, outputs, step + condition)

        self.down_modules, self.up_modules = nn.ModuleList(), nn.ModuleList()
        for level, outputs in enumerate(dims):
            last = level == len(dims) - 1
            smaller = nn.Identity() if last else nn.Conv1d(outputs, outputs, 3, 2, 1)
            before = dims[level - 1] if level else actions
            self.down_modules.append(
                nn.ModuleList([block(before, outputs), block(outputs, outputs), smaller])
            )
        self.mid_modules = nn.ModuleList([block(dims[-1], dims[-1]) for _ in range(2)])
        for level in range(len(dims) - 1, 0, -1):
            outputs = dims[level - 1]
            larger = nn.ConvTranspose1d(outputs, outputs, 4, 2, 1)
            self.up_modules.append(
                nn.ModuleList([block(2 * dims[level], outputs), block(outputs, outputs), larger])
            )
        self.final_conv = nn.Sequential(
            Convolved(dims[0], dims[0], config["kernel_size"], 8), nn.Conv1d(dims[0], actions, 1)
        )

    def forward(self, sample: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        told = torch.cat([self.diffusion_step_encoder(time), condition], dim=-1)
        x, kept = sample.transpose(1, 2), []
        for first, second, smaller in self.down_modules:  # type: ignore[misc]
            x = second(first(x, told), told)
            kept.append(x)
            x = smaller(x)
        for module in self.mid_modules:
            x = module(x, told)
        for first, second, larger in self.up_modules:  # type: ignore[misc]
            x = torch.cat([x, kept.pop()], dim=1)
            x = larger(second(first(x, told), told))
        return self.final_conv(x).transpose(1, 2)


class Pool(nn.Module):
    def __init__(self, channels: int, height: int, columns: int, points: int) -> None:
        super().__init__()
        self.nets = nn.Conv2d(channels, points, 1)
        across, down = (
            [-1 + 2 * cell / max(1, count - 1) for cell in range(count)] for count in (columns, height)
        )
        places = [(x, y) for y in down for x in across]
        self.register_buffer("pos_grid", torch.tensor(places))

    def forward(self, x: Tensor) -> Tensor:
        heat = functional.softmax(self.nets(x).flatten(2), dim=-1)
        return torch.stack([(heat[..., None] * self.pos_grid).sum(dim=2)], dim=1).flatten(1)


class Camera(nn.Module):
    def __init__(self, config: dict[str, Any], size: list[int]) -> None:
        super().__init__()
        full = maker(config["vision_backbone"])()
        self.backbone = nn.Sequential(*[*full.children()][:-2])
        if config["use_group_norm"]:
            for module in [*self.backbone.modules()]:
                for name, child in [*module.named_children()]:
                    if isinstance(child, nn.BatchNorm2d):
                        channels = child.num_features
                        setattr(module, name, nn.GroupNorm(channels // 16, channels))
        self.resize, self.crop = config.get("resize_shape"), config["crop_shape"]
        height, columns = self.crop or self.resize or size
        points = config["spatial_softmax_num_keypoints"]
        channels = full.fc.in_features
        self.pool = Pool(channels, math.ceil(height / 32), math.ceil(columns / 32), points)
        self.out = nn.Linear(2 * points, 2 * points)

    def forward(self, image: Tensor) -> Tensor:
        if self.resize:
            image = functional.interpolate(image, self.resize, mode="bilinear", antialias=True)
        if self.crop:
            top = round((image.shape[-2] - self.crop[0]) / 2)
            left = round((image.shape[-1] - self.crop[1]) / 2)
            image = image[..., top : top + self.crop[0], left : left + self.crop[1]]
        return torch.relu(self.out(self.pool(self.backbone(image))))


class Diffusion(nn.Module):
    """`diffusion.` of a checkpoint."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.diffusion = nn.Module()
        cameras = keys(config, "VISUAL")
        values = width(config, STATE) + sum(width(config, key) for key in keys(config, "ENV"))
        if cameras:
            size = config["input_features"][cameras[0]]["shape"][1:]
            separate = config["use_separate_rgb_encoder_per_camera"]
            encoders = [Camera(config, size) for _ in cameras] if separate else [Camera(config, size)]
            self.diffusion.rgb_encoder = nn.ModuleList(encoders) if separate else encoders[0]
            values += len(cameras) * 2 * config["spatial_softmax_num_keypoints"]
        self.diffusion.unet = Unet(config, values * config["n_obs_steps"])

    def condition(self, frames: list[Batch]) -> Tensor:
        parts = []
        for frame in frames:
            parts.append(frame[STATE])
            for number, key in enumerate(keys(self.config, "VISUAL")):
                encoders = self.diffusion.rgb_encoder
                encoder = encoders[number] if isinstance(encoders, nn.ModuleList) else encoders
                parts.append(encoder(frame[key]))  # type: ignore[operator]
            parts += [frame[key] for key in keys(self.config, "ENV")]
        return torch.cat(parts, dim=-1)

    def chunk(self, frames: list[Batch], noise: list[Tensor]) -> Tensor:
        """[1, execute, A]; noise: the sample, then what each step adds."""
        scheduler, condition = self._scheduler(), self.condition(frames)
        sample = noise.pop(0)
        for time in scheduler.timesteps:
            output = self.diffusion.unet(sample, torch.full((1,), int(time)), condition)  # type: ignore[operator]
            sample = _stepped(scheduler, output, time, sample, noise)
        first = self.config["n_obs_steps"] - 1
        return sample[:, first : first + self.config["n_action_steps"]]

    def _scheduler(self) -> Any:
        import diffusers

        kind = getattr(diffusers, f"{self.config['noise_scheduler_type']}Scheduler")
        names = ["beta_start", "beta_end", "beta_schedule", "clip_sample", "clip_sample_range"]
        names.append("prediction_type")
        steps = self.config["num_train_timesteps"]
        scheduler = kind(num_train_timesteps=steps, **{name: self.config[name] for name in names})
        scheduler.set_timesteps(self.config["num_inference_steps"] or steps)
        return scheduler


def _stepped(scheduler: Any, output: Tensor, time: Any, sample: Tensor, noise: list[Tensor]) -> Tensor:
    """A step of diffusers, which draws its noise from the list: it asks torch.randn for it."""
    plain = torch.randn
    torch.randn = lambda *_, **__: noise.pop(0)  # type: ignore[assignment]
    try:
        return scheduler.step(output, time, sample).prev_sample
    finally:
        torch.randn = plain
