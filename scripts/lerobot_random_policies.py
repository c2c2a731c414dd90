"""Random policies of LeRobot's own classes, in its environment, for compare_lerobot_policies.py."""

from __future__ import annotations

import logging
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

EPISODES, STEPS = 2, 24


def stand_in_for_torchvision() -> None:
    """What its policies import of it."""
    import accelerate  # noqa: F401  both look for torchvision: they shall find none
    import datasets  # noqa: F401
    import diffusers.schedulers.scheduling_ddim
    import diffusers.schedulers.scheduling_ddpm  # noqa: F401
    import plain_resnet
    import torch
    from torch.nn import functional

    class CenterCrop(torch.nn.Module):
        def __init__(self, size: tuple[int, int]) -> None:
            super().__init__()
            self.size = size

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            (height, width), (tall, wide) = image.shape[-2:], self.size
            top, left = int(round((height - tall) / 2.0)), int(round((width - wide) / 2.0))  # noqa: RUF046
            return image[..., top : top + tall, left : left + wide]

    class Resize(CenterCrop):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return functional.interpolate(image, self.size, mode="bilinear", antialias=True)

    names = [
        "",
        ".transforms",
        ".transforms.functional",
        ".transforms.v2",
        ".transforms.v2.functional",
        ".models",
        ".models._utils",
    ]
    names += [".ops", ".ops.misc"]
    modules: dict[str, Any] = {name: types.ModuleType(f"torchvision{name}") for name in names}
    modules[""].transforms, modules[""].models = modules[".transforms"], modules[".models"]
    modules[".transforms"].v2 = modules[".transforms.v2"]
    modules[".transforms"].functional = modules[".transforms.functional"]
    modules[".transforms.v2"].functional = modules[".transforms.v2.functional"]
    for name in ("Transform",):
        setattr(modules[".transforms.v2"], name, type(name, (), {}))
    modules[".transforms"].ToTensor = object
    modules[".transforms"].CenterCrop = modules[".transforms"].RandomCrop = CenterCrop
    modules[".transforms"].Resize = Resize
    for depth in plain_resnet.BLOCKS:
        setattr(modules[".models"], depth, plain_resnet.maker(depth))
    modules[".models._utils"].IntermediateLayerGetter = plain_resnet.IntermediateLayerGetter
    modules[".ops.misc"].FrozenBatchNorm2d = plain_resnet.FrozenBatchNorm2d
    sys.modules.update({f"torchvision{name}": module for name, module in modules.items()})
    logging.disable(logging.WARNING)


def random_features(rng: np.random.Generator, act: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """LeRobot's input and output features: cameras (of ACT of any sizes), perhaps an environment's state."""
    from lerobot.configs.types import FeatureType, PolicyFeature

    cameras, environment = int(rng.integers(0, 4)), bool(rng.integers(0, 2))
    sizes = [(int(rng.integers(40, 90)), int(rng.integers(40, 90))) for _ in range(3)]
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (int(rng.integers(1, 9)),))}
    for number in range(cameras):
        key = "observation.image" if cameras == 1 else f"observation.images.cam_{number}"
        inputs[key] = PolicyFeature(FeatureType.VISUAL, (3, *sizes[number if act else 0]))
    if environment or not cameras:
        inputs["observation.environment_state"] = PolicyFeature(FeatureType.ENV, (int(rng.integers(1, 7)),))
    if rng.integers(0, 3) == 0:  # normalised by LeRobot, and read by nobody
        inputs["observation.velocity"] = PolicyFeature(FeatureType.STATE, (2,))
    return inputs, {"action": PolicyFeature(FeatureType.ACTION, (int(rng.integers(1, 9)),))}


def random_modes(rng: np.random.Generator, older: bool) -> dict[str, Any]:
    from lerobot.configs.types import NormalizationMode

    modes = ["MEAN_STD", "MIN_MAX", "IDENTITY"] + ([] if older else ["QUANTILES", "QUANTILE10"])
    chosen = {kind: NormalizationMode[str(rng.choice(modes))] for kind in ("VISUAL", "STATE", "ACTION")}
    if rng.integers(0, 2):
        chosen["ENV"] = NormalizationMode[str(rng.choice(modes))]
    return chosen


def diffusion_config(rng: np.random.Generator, older: bool) -> Any:
    from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

    inputs, outputs = random_features(rng, act=False)
    frames, levels = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    horizon = 8 * int(rng.integers(1, 3))
    groups = int(rng.choice([4, 8, 8, 8]))
    crop = (int(rng.integers(33, 41)), int(rng.integers(33, 41))) if rng.integers(0, 2) else None
    steps = int(rng.choice([10, 20, 50]))
    return DiffusionConfig(
        n_obs_steps=frames,
        horizon=horizon,
        n_action_steps=int(rng.integers(1, horizon - frames + 2)),
        input_features=inputs,
        output_features=outputs,
        normalization_mapping=random_modes(rng, older),
        vision_backbone=str(rng.choice(["resnet18", "resnet18", "resnet34", "resnet50"])),
        crop_shape=crop,
        pretrained_backbone_weights=None,
        use_group_norm=bool(rng.integers(0, 2)),
        spatial_softmax_num_keypoints=int(rng.integers(4, 33)),
        use_separate_rgb_encoder_per_camera=bool(rng.integers(0, 2)),
        down_dims=tuple(int(width) for width in rng.choice([16, 24, 32, 48], size=levels)),
        kernel_size=int(rng.choice([3, 5])),
        n_groups=groups,
        diffusion_step_embed_dim=int(rng.choice([16, 32])),
        use_film_scale_modulation=bool(rng.integers(0, 4)),
        noise_scheduler_type=str(rng.choice(["DDPM", "DDIM"])),
        num_train_timesteps=steps,
        beta_schedule=str(rng.choice(["squaredcos_cap_v2", "linear", "scaled_linear"])),
        prediction_type=str(rng.choice(["epsilon", "sample"])),
        clip_sample=bool(rng.integers(0, 4)),
        clip_sample_range=float(rng.choice([1.0, 1.0, 2.5])),
        num_inference_steps=int(rng.integers(4, 11)) if rng.integers(0, 4) else None,
        device="cpu",
    )


def act_config(rng: np.random.Generator, older: bool) -> Any:
    from lerobot.policies.act.configuration_act import ACTConfig

    inputs, outputs = random_features(rng, act=True)
    chunk = int(rng.integers(4, 17))
    backbone = str(rng.choice(["resnet18", "resnet18", "resnet34", "resnet50"]))
    execute = int(rng.integers(1, chunk + 1))
    averaged = execute % 3 == 1
    return ACTConfig(
        chunk_size=chunk,
        n_action_steps=1 if averaged else execute,
        temporal_ensemble_coeff=0.01 * execute if averaged else None,
        input_features=inputs,
        output_features=outputs,
        normalization_mapping=random_modes(rng, older),
        vision_backbone=backbone,
        pretrained_backbone_weights=None,
        replace_final_stride_with_dilation=backbone == "resnet50" and bool(rng.integers(0, 2)),
        pre_norm=bool(rng.integers(0, 2)),
        dim_model=int(rng.choice([32, 64, 96])),
        n_heads=int(rng.choice([2, 4])),
        dim_feedforward=int(rng.choice([64, 100])),
        feedforward_activation=str(rng.choice(["relu", "gelu"])),
        n_encoder_layers=int(rng.integers(1, 4)),
        n_decoder_layers=int(rng.integers(1, 3)),
        use_vae=bool(rng.integers(0, 2)),
        latent_dim=int(rng.choice([8, 32])),
        n_vae_encoder_layers=1,
        device="cpu",
    )


def random_statistics(config: Any, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    """Of everything; one value of a vector now and then never moves."""
    stats = {}
    for key, feature in {**config.input_features, **config.output_features}.items():
        image = feature.type.value == "VISUAL"
        shape = (3, 1, 1) if image else feature.shape
        mean = rng.uniform(0.3, 0.6, shape) if image else rng.normal(0, 2, shape)
        std = rng.uniform(0.1, 0.3, shape) if image else rng.uniform(0.05, 3, shape)
        if not image and rng.integers(0, 3) == 0:
            std.flat[0] = 0.0
        table = {"mean": mean, "std": std, "min": mean - 2 * std, "max": mean + 2 * std}
        for name, width in (("q01", -1.8), ("q10", -1.2), ("q90", 1.2), ("q99", 1.8)):
            table[name] = mean + width * std
        stats[key] = {name: value.astype(np.float32) for name, value in table.items()}
    return stats


def observations(config: Any, stats: dict[str, Any], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """[EPISODES, STEPS, ..]: vectors within the data's range, images of blocks and noise, bytes."""
    found = {}
    for key, feature in config.input_features.items():
        count = (EPISODES, STEPS)
        if feature.type.value == "VISUAL":
            _, height, width = feature.shape
            blocks = rng.uniform(0, 255, (*count, -(-height // 16), -(-width // 16), 3))
            image = blocks.repeat(16, axis=2).repeat(16, axis=3)[:, :, :height, :width]
            noise = rng.normal(0, 20, image.shape)
            found[key] = (image + noise).clip(0, 255).astype(np.uint8)
        else:
            drawn = rng.uniform(-2, 2, (*count, *feature.shape))
            known = stats[key]
            values = known["mean"] + known["std"] * drawn
            found[key] = np.where(known["std"] == 0, known["mean"], values).astype(np.float32)
    return found


def add_statistics(folder: Path, config: Any, stats: dict[str, Any]) -> None:
    """As LeRobot wrote checkpoints before it had pipelines: statistics among the weights."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    wanted = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max"), "IDENTITY": ()}
    places = [("normalize_inputs", config.input_features), ("normalize_targets", config.output_features)]
    for place, features in [*places, ("unnormalize_outputs", config.output_features)]:
        for key, feature in features.items():
            mode = config.normalization_mapping.get(feature.type.value)
            for name in wanted[mode.value] if mode else ():
                value = torch.from_numpy(stats[key][name].copy())
                weights[f"{place}.buffer_{key.replace('.', '_')}.{name}"] = value
    save_file(weights, folder / "model.safetensors")
    for path in folder.glob("policy_*"):
        path.unlink()
