"""LeRobot's policy class around a bundle. Nothing is computed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

import keystep
from lerobot_policy_keystep.configuration_keystep import NOT_TRAINED, KeystepConfig
from lerobot_policy_keystep.episodes import Episodes
from lerobot_policy_keystep.folder import copy_bundle, found_bundle
from lerobot_policy_keystep.inputs import (
    Inputs,
    check_action,
    check_rate,
    lerobot_shape,
    lerobot_type,
    wrong,
)
from lerobot_policy_keystep.tasks import Tasks, texts_of

ACTION = "action"
OF_THE_HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "token")
"""Options of `from_pretrained` that are about fetching."""


class KeystepPolicy(PreTrainedPolicy):
    """A bundle in LeRobot's tools: each environment of a batch is a session of its own on shared weights.

    Args:
        config: with the features that LeRobot found, or none; then it has the bundle's.
        dataset_stats: not used, the bundle has its own.
        dataset_meta: of the dataset, where there is one: its actions' names and its rate are compared.

    Raises:
        keystep.Error: one line: the bundle, or an option, or the first feature that does not fit.
    """

    config_class = KeystepConfig
    name = "keystep"

    def __init__(
        self, config: KeystepConfig, dataset_stats: Any = None, dataset_meta: Any = None, **_: Any
    ) -> None:
        super().__init__(config)
        if not isinstance(config, KeystepConfig):
            raise wrong("policy.type", "keystep", getattr(config, "type", type(config).__name__))
        if not config.bundle:
            raise wrong("policy.bundle", "a folder NAME.keystep", "''")
        manifest = keystep.read_manifest(config.bundle)
        if manifest["family"] == "code":
            raise wrong("family", "flat | subgoal", "code")
        if manifest["goal"] == "observation":
            raise wrong("goal", "none | text", "observation (LeRobot's tools have no goal to give)")
        self._inputs = Inputs(manifest, config.rename_map)
        self._check(manifest, dataset_meta)
        tasks = Tasks(manifest, config.task)
        runtime = keystep.load(config.bundle, **config.load_options())
        self._episodes = Episodes(runtime, tasks, config.seed, config.guidance)
        self._long = [feature for feature in self._inputs.features if feature.history > 1]
        self._continues = manifest["sampler"] is not None and manifest["planner"] is None

    def reset(self) -> None:
        """New episodes, whose numbers go on."""
        self._episodes.begin()

    @torch.no_grad()
    def select_action(self, batch: dict[str, Any], noise: None = None, **_: Any) -> Tensor:
        """(B, A) in physical units, as `keystep.Runtime.act` gives them."""
        _no_noise(noise)
        return _tensor(self._episodes.act(*self._read(batch)), batch)

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: dict[str, Any],
        noise: None = None,
        inference_delay: int = 0,
        prev_chunk_left_over: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """(B, rows, A) from the row to execute next, within the bounds; what is left of the old chunk is
        continued as `keystep.Runtime.serve_chunk` does. Not of bundles with a history: who asks for chunks
        shows the newest frame alone, and those between two chunks would be missing."""
        _no_noise(noise)
        for feature in self._long:
            wanted = "1 where chunks are asked for (actions one by one keep it)"
            raise wrong(f"{feature.key}.history", wanted, feature.history)
        previous = None if prev_chunk_left_over is None else _array(prev_chunk_left_over)
        return _tensor(self._episodes.chunks(*self._read(batch), previous, inference_delay), batch)

    def drop_queued_actions(self) -> None:
        """What was computed for later; the episodes go on."""
        self._episodes.interrupt()

    def supports_rtc(self) -> bool:
        """Whether a chunk can continue the one before. A planner needs to be told what was executed, and a
        history every frame, which LeRobot's real-time chunking does not."""
        return self._continues and not self._long

    def forward(self, batch: dict[str, Tensor]) -> Any:
        raise NotImplementedError(NOT_TRAINED)

    def get_optim_params(self) -> Any:
        raise NotImplementedError(NOT_TRAINED)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_name_or_path: str | Path | None,
        *,
        config: PreTrainedConfig | None = None,
        revision: str | None = None,
        **others: Any,
    ) -> KeystepPolicy:
        """A folder or a repository with config.json and the bundle (`save_pretrained` writes it).

        Args:
            others: LeRobot's; of them `dataset_meta` and those about fetching count.
        """
        hub = {name: others[name] for name in OF_THE_HUB if others.get(name)} | {"revision": revision}
        if config is None:
            config = PreTrainedConfig.from_pretrained(pretrained_name_or_path, **hub)
        if pretrained_name_or_path is not None and isinstance(config, KeystepConfig):
            config.bundle = found_bundle(config.bundle, pretrained_name_or_path, **hub)
        told = {name: others[name] for name in ("dataset_stats", "dataset_meta") if name in others}
        return cls(config, **told).eval()

    def _save_pretrained(self, save_directory: Path, **_: Any) -> None:
        bundle = copy_bundle(self.config.bundle, save_directory)
        replace(self.config, bundle=bundle)._save_pretrained(save_directory)

    def _read(self, batch: dict[str, Any]) -> tuple[list[dict[str, np.ndarray]], list[str | None]]:
        tensors = {key: value for key, value in batch.items() if isinstance(value, Tensor)}
        observations = self._inputs.observations(tensors, _array)
        return observations, texts_of(batch.get("task"), len(observations))

    def _check(self, manifest: dict[str, Any], dataset: Any) -> None:
        """What LeRobot found is the bundle's; from here on its configuration says what the bundle has."""
        config = self.config
        given = {key: (found.type.value, found.shape) for key, found in (config.input_features or {}).items()}
        inputs = self._inputs
        names = inputs.check(given, sizes=dataset is not None) if given else inputs.expected()
        action = (config.output_features or {}).get(ACTION)
        told = dataset.features.get(ACTION, {}).get("names") if dataset is not None else None
        ours = manifest["action"]["names"]
        if config.output_features and action is None:
            raise wrong(ACTION, "it among LeRobot's features", ", ".join(config.output_features))
        check_action(manifest, action.shape if action is not None else (len(ours),), told)
        check_rate(manifest, getattr(dataset, "fps", None))
        config.input_features = {
            names[feature.key]: PolicyFeature(FeatureType[lerobot_type(feature)], lerobot_shape(feature))
            for feature in inputs.features
        }
        config.output_features = {ACTION: PolicyFeature(FeatureType.ACTION, (len(ours),))}
        numbers = [f"action_{number}" for number in range(len(ours))]  # of a converted bundle: no names
        config.action_feature_names = None if ours == numbers else ours


def _array(value: Tensor) -> np.ndarray:
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()  # which NumPy does not have


def _tensor(actions: np.ndarray, batch: dict[str, Any]) -> Tensor:
    """Where the observations are."""
    device = next(value.device for value in batch.values() if isinstance(value, Tensor))
    return torch.from_numpy(actions).to(device)


def _no_noise(noise: Any) -> None:
    if noise is not None:
        raise wrong("noise", "none (policy.seed and the episode say it)", type(noise).__name__)
