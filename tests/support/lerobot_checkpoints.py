"""Checkpoints in LeRobot's layout, of random weights, and what it does with them, from facts.

`write` makes one, `Player` is its `select_action` between its pipelines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot_act_reference import Act
from lerobot_reference import STATE, Diffusion
from plain_resnet import randomize
from safetensors.torch import load_file, save_file
from torch import Tensor

MODES = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
    "IDENTITY": (),
}
COMMON: dict[str, Any] = {
    "n_obs_steps": 1,
    "input_features": {
        STATE: {"type": "STATE", "shape": [3]},
        "observation.images.top": {"type": "VISUAL", "shape": [3, 48, 40]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [2]}},
    "device": "cpu",
    "use_amp": False,
    "push_to_hub": True,
    "repo_id": None,
    "normalization_mapping": {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
    "vision_backbone": "resnet18",
    "pretrained_backbone_weights": None,
    "n_action_steps": 3,
    "optimizer_lr": 1e-4,
}
DIFFUSION: dict[str, Any] = COMMON | {
    "type": "diffusion",
    "n_obs_steps": 2,
    "horizon": 8,
    "drop_n_last_frames": 7,
    "crop_shape": None,
    "crop_is_random": True,
    "use_group_norm": True,
    "spatial_softmax_num_keypoints": 4,
    "use_separate_rgb_encoder_per_camera": False,
    "down_dims": [16, 24],
    "kernel_size": 3,
    "n_groups": 8,
    "diffusion_step_embed_dim": 16,
    "use_film_scale_modulation": True,
    "noise_scheduler_type": "DDIM",
    "num_train_timesteps": 20,
    "beta_schedule": "squaredcos_cap_v2",
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
    "clip_sample": True,
    "clip_sample_range": 1.0,
    "num_inference_steps": 5,
    "do_mask_loss_for_padding": False,
}
ACT: dict[str, Any] = COMMON | {
    "type": "act",
    "chunk_size": 5,
    "replace_final_stride_with_dilation": False,
    "pre_norm": False,
    "dim_model": 32,
    "n_heads": 4,
    "dim_feedforward": 48,
    "feedforward_activation": "relu",
    "n_encoder_layers": 2,
    "n_decoder_layers": 1,
    "use_vae": True,
    "latent_dim": 8,
    "n_vae_encoder_layers": 1,
    "temporal_ensemble_coeff": None,
    "dropout": 0.1,
    "kl_weight": 10.0,
}


def features(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return config["input_features"] | config["output_features"]


def statistics(config: dict[str, Any], seed: int = 0) -> dict[str, dict[str, np.ndarray]]:
    """Of everything; the last value of every longer vector never moves."""
    rng, found = np.random.default_rng(seed), {}
    for key, feature in features(config).items():
        image = feature["type"] == "VISUAL"
        shape = (3, 1, 1) if image else tuple(feature["shape"])
        mean = rng.uniform(0.3, 0.6, shape) if image else rng.normal(0, 2, shape)
        std = rng.uniform(0.1, 0.3, shape)
        if not image and shape[0] > 2:
            std[-1] = 0
        table = {"mean": mean, "std": std, "min": mean - 2 * std, "max": mean + 2 * std}
        table |= {"q01": mean - 1.8 * std, "q99": mean + 1.8 * std}
        table |= {"q10": mean - 1.2 * std, "q90": mean + 1.2 * std}
        found[key] = {name: value.astype(np.float32) for name, value in table.items()}
    return found


def model_of(config: dict[str, Any], seed: int = 0) -> Act | Diffusion:
    model = (Act if config["type"] == "act" else Diffusion)(config).eval()
    randomize(model, torch.Generator().manual_seed(seed))
    return model


def write(folder: Path, config: dict[str, Any], seed: int = 0, older: bool = False) -> Act | Diffusion:
    """older: statistics among the weights, as before LeRobot had pipelines."""
    folder.mkdir(parents=True)
    model, stats = model_of(config, seed), statistics(config, seed)
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if older:
        weights |= in_weights(config, stats)
    else:
        write_pipelines(folder, config, stats)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return model


def in_weights(config: dict[str, Any], stats: dict[str, dict[str, np.ndarray]]) -> dict[str, Tensor]:
    found = {}
    for key, feature in features(config).items():
        places = ("normalize_targets", "unnormalize_outputs") if key == "action" else ("normalize_inputs",)
        mode = config["normalization_mapping"].get(feature["type"], "IDENTITY")
        for place in places:
            for name in MODES[mode]:
                value = torch.from_numpy(stats[key][name].copy())
                found[f"{place}.buffer_{key.replace('.', '_')}.{name}"] = value
    return found


def write_pipelines(folder: Path, config: dict[str, Any], stats: dict[str, dict[str, np.ndarray]]) -> None:
    modes, outputs = config["normalization_mapping"], config["output_features"]
    tensors = {f"{key}.{name}": value for key, table in stats.items() for name, value in table.items()}
    pipelines = {
        "policy_preprocessor": [
            ("rename_observations_processor", {"rename_map": {}}),
            ("to_batch_processor", {}),
            ("device_processor", {"device": "cpu", "float_dtype": None}),
            ("normalizer_processor", {"eps": 1e-8, "features": features(config), "norm_map": modes}),
        ],
        "policy_postprocessor": [
            ("unnormalizer_processor", {"eps": 1e-8, "features": outputs, "norm_map": modes}),
            ("device_processor", {"device": "cpu", "float_dtype": None}),
        ],
    }
    for name, steps in pipelines.items():
        written = []
        for number, (kind, settings) in enumerate(steps):
            step: dict[str, Any] = {"registry_name": kind, "config": settings}
            if kind.endswith("normalizer_processor"):
                step["state_file"] = f"{name}_step_{number}_{kind}.safetensors"
                values = {key: torch.from_numpy(value.copy()) for key, value in tensors.items()}
                save_file(values, folder / step["state_file"])
            written.append(step)
        (folder / f"{name}.json").write_text(json.dumps({"name": name, "steps": written}))


def edit(folder: Path, **changes: Any) -> None:
    """Changes config.json; `...` takes a field away."""
    path = folder / "config.json"
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def edit_pipeline(folder: Path, name: str, change: Any) -> None:
    """`change` is given the list of steps."""
    path = folder / f"{name}.json"
    values = json.loads(path.read_text())
    change(values["steps"])
    path.write_text(json.dumps(values))


def edit_weights(folder: Path, change: Any, file: str = "model.safetensors") -> None:
    """`change` is given the dictionary of tensors."""
    weights = load_file(folder / file)
    change(weights)
    save_file(weights, folder / file)


def observations(config: dict[str, Any], steps: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """As a robot gives them: vectors in the data's range, images as bytes (height, width, 3)."""
    rng, stats = np.random.default_rng([seed, 1]), statistics(config, seed)
    found = []
    for _ in range(steps):
        observation = {}
        for key, feature in config["input_features"].items():
            if feature["type"] == "VISUAL":
                height, width = feature["shape"][1:]
                blocks = rng.uniform(0, 255, (-(-height // 8), -(-width // 8), 3))
                image = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
                observation[key] = image.astype(np.uint8)
            else:
                known = stats[key]
                value = known["mean"] + known["std"] * rng.uniform(-2, 2, feature["shape"])
                observation[key] = np.where(known["std"] == 0, known["mean"], value).astype(np.float32)
        found.append(observation)
    return found


class Player:
    """LeRobot's `select_action` between its pipelines.

    Args:
        noise: of the next chunk, [1, H, A] each: the sample, then what each step adds.
        older: normalises as before 0.4.
        stats: of everything, by default those that `write` writes.
    """

    def __init__(
        self,
        model: Act | Diffusion,
        noise: Any,
        seed: int = 0,
        older: bool = False,
        stats: dict[str, dict[str, np.ndarray]] | None = None,
    ) -> None:
        self.model, self.noise, self.config, self.older = model, noise, model.config, older
        self.stats = statistics(model.config, seed) if stats is None else stats
        self.frames: list[dict[str, Tensor]] = []
        self.actions: list[Tensor] = []
        self.chunks: list[Tensor] = []

    @torch.no_grad()
    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """[A], physical units."""
        frame = {}
        for key, value in observation.items():
            tensor = torch.from_numpy(value)
            if value.dtype == np.uint8:
                tensor = tensor.permute(2, 0, 1).float() / 255
            frame[key] = self._scaled(key, tensor[None])
        kept = self.config["n_obs_steps"]
        self.frames = [*(self.frames or [frame] * (kept - 1)), frame][-kept:]
        if self.config.get("temporal_ensemble_coeff") is not None:
            self.actions = [self._averaged(self.model.chunk(self.frames, self.noise())[0])]
        if not self.actions:
            self.actions = list(self.model.chunk(self.frames, self.noise())[0])
        return self._scaled("action", self.actions.pop(0), inverse=True).numpy()

    def _averaged(self, chunk: Tensor) -> Tensor:
        """ACT, Algorithm 2: of what all chunks say of now, with the weights exp(-m i), i = 0 the oldest."""
        self.chunks = [*self.chunks, chunk][-len(chunk) :]
        said = torch.stack([rows[len(self.chunks) - 1 - i] for i, rows in enumerate(self.chunks)]).double()
        weights = torch.exp(-self.config["temporal_ensemble_coeff"] * torch.arange(len(said)).double())
        return ((weights[:, None] * said).sum(0) / weights.sum()).float()

    def _scaled(self, key: str, value: Tensor, inverse: bool = False) -> Tensor:
        kind = features(self.config)[key]["type"]
        mode = self.config["normalization_mapping"].get(kind, "IDENTITY")
        if mode == "IDENTITY":
            return value
        first, second = (torch.from_numpy(self.stats[key][name]) for name in MODES[mode])
        if mode == "MEAN_STD":
            return value * second + first if inverse else (value - first) / (second + 1e-8)
        span = torch.where(second == first, 1e-8, second - first)
        if self.older and not inverse:
            span = second - first + 1e-8
        return (value + 1) / 2 * span + first if inverse else 2 * (value - first) / span - 1
