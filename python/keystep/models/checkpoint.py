"""The training checkpoint: a folder with `policy.json` and `model.safetensors`. No code, no pickle.

A planner's also holds its text encoder, `text_encoder/`; that of one that writes code `language.json`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from keystep.features import Feature
from keystep.files import parse_json, replacing, to_json
from keystep.models.act import ActController
from keystep.models.checkpoint_fields import check_fields, check_statistics
from keystep.models.checkpoint_versions import upgraded
from keystep.models.code_planner.config import CodePlannerConfig
from keystep.models.config import ActConfig, DiffusionConfig
from keystep.models.diffusion import DiffusionController
from keystep.models.normalizer import Normalizer, default_modes
from keystep.models.observing import read_observation
from keystep.models.planner import Planner, make_planner
from keystep.models.planner_config import PlannerConfig
from keystep.models.scorer import PlanScorer
from keystep.models.scorer_config import ScorerConfig
from keystep.models.text import TextEncoder, load_text_encoder

Config = DiffusionConfig | ActConfig | PlannerConfig | ScorerConfig | CodePlannerConfig
KINDS: dict[str, Any] = {
    "diffusion": DiffusionConfig,
    "act": ActConfig,
    "planner": PlannerConfig,
    "scorer": ScorerConfig,
    "code_planner": CodePlannerConfig,
}
OF_PLANS = PlannerConfig | ScorerConfig
"""What knows no actions: its one observation key is all that it reads and writes."""

FORMAT, VERSION = "keystep-checkpoint", 4
_FIELDS = ("stats", "tasks", "action", "control_rate_hz", "provenance", "normalization")
TEXT_ENCODER = "text_encoder"  # folder of a planner's frozen text encoder, inside the checkpoint


class CheckpointError(RuntimeError):
    """A checkpoint folder is missing, damaged or of a newer version."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything the exporter needs to know about a trained network, besides its weights.

    Attributes:
        config: what the network is, a diffusion controller, ACT, a planner or a scorer of plans, and what it
            observes.
        stats: per key `min`, `max`, `mean`, `std` (lists), `count`, and of keys normalised by quantiles `q01`
            and `q99`; images per channel in [0, 1].
        tasks: `name` and `instruction` of each task, in the order of the task embedding.
        action: names, units, min, max, rate_limit (or None), hold ({"mode": "values", "values"} or {"mode":
            "last"}) and, where it is known, law ("relative" or "absolute", of each dimension).
        provenance: free form: git commit, data set hash, metrics.
        normalization: mode by key, else the default; see `keystep.models.normalizer`.
    """

    config: Config
    stats: dict[str, dict[str, Any]]
    tasks: list[dict[str, str]]
    action: dict[str, Any]
    control_rate_hz: float
    provenance: dict[str, Any]
    normalization: dict[str, str] = field(default_factory=dict)

    @property
    def observation(self) -> tuple[Feature, ...]:
        """What the network observes."""
        return self.config.observation

    @property
    def kind(self) -> str:
        """Which model it is of."""
        return next(kind for kind, config in KINDS.items() if isinstance(self.config, config))

    def normalizer(self) -> Normalizer:
        """Of all that the network reads and writes: of a planner, its one observation key."""
        modes = network_modes(self.config) | self.normalization
        images = [feature.key for feature in self.config.images]
        if isinstance(self.config, PlannerConfig) and images:
            return Normalizer({self.config.subgoal: {"min": [0.0] * 3, "max": [1.0] * 3}}, modes, images)
        return Normalizer(self.stats, modes, images)


def network_modes(config: Config) -> dict[str, str]:
    """The default normalisation of every key that a network reads or writes.

    What it samples goes to [-1, 1], where samplers clip: a planner's subgoals, a controller's actions.
    """
    if isinstance(config, OF_PLANS):
        return {config.subgoal: "min_max"}
    keys = [feature.key for feature in config.observation]
    if isinstance(config, CodePlannerConfig):
        return default_modes(keys) | dict.fromkeys([image.key for image in config.images], "identity")
    return default_modes([*keys, "action"])


def make_model(config: Config) -> Any:
    """The untrained network of a configuration."""
    if isinstance(config, CodePlannerConfig):
        from keystep.models.code_planner.network import CodePlanner  # imports transformers

        return CodePlanner(config)
    if isinstance(config, ScorerConfig):
        return PlanScorer(config)
    if isinstance(config, PlannerConfig):
        return make_planner(config)
    return ActController(config) if isinstance(config, ActConfig) else DiffusionController(config)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, weights: dict[str, torch.Tensor]) -> None:
    """Writes both files under temporary names and, once both are on disk, renames them, weights first.

    Args:
        weights: state dict of `make_model(checkpoint.config)`; the trainer gives the EMA weights.
    """
    policy = checkpoint.config.to_dict()
    document = {
        "format": FORMAT,
        "version": VERSION,
        "kind": checkpoint.kind,
        "observation": policy.pop("observation"),
        "policy": policy,
        **{name: getattr(checkpoint, name) for name in _FIELDS},
    }
    with replacing(folder / "model.safetensors", folder / "policy.json") as (tensors, description):
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, tensors)
        description.write_text(to_json(document), encoding="utf-8")


def read_checkpoint(folder: Path) -> Checkpoint:
    """Reads and checks `policy.json`, of older versions too.

    Raises:
        CheckpointError: missing, of a newer version, or damaged: which field.
    """
    path = folder / "policy.json"
    try:
        document = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"checkpoint: expected {path}, got no such file") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: expected JSON, got {error}") from None
    if not isinstance(document, dict):
        raise CheckpointError(f"{path}: expected an object, got {type(document).__name__}")
    if document.get("format") != FORMAT or document.get("version") not in range(1, VERSION + 1):
        got = f"{document.get('format')} version {document.get('version')}"
        raise CheckpointError(f"{path}: expected {FORMAT} of at most version {VERSION}, got {got}")
    kind = document.get("kind", "diffusion")  # version 1 knew no other
    if not isinstance(kind, str) or kind not in KINDS:
        raise CheckpointError(f"{path}: kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    try:
        document = upgraded(document)
        check_fields(document)
        # Read first, so that what is wrong with it is told as its own field.
        seen = read_observation("observation", document.get("observation"))
        config = KINDS[kind].from_dict(document["policy"] | {"observation": [f.to_dict() for f in seen]})
        checkpoint = Checkpoint(config, **{name: document[name] for name in _FIELDS})
        _check_statistics(checkpoint)
        checkpoint.normalizer()
        return checkpoint
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _check_statistics(checkpoint: Checkpoint) -> None:
    config = checkpoint.config
    widths = {feature.key: feature.width for feature in config.observation}
    if not isinstance(config, OF_PLANS | CodePlannerConfig):
        widths["action"] = config.action_dim
    modes = network_modes(config) | checkpoint.normalization
    if not (isinstance(config, PlannerConfig) and config.images):  # images have a range of their own
        check_statistics(checkpoint.stats, modes, widths)


def load_policy(folder: Path) -> tuple[DiffusionController, Checkpoint]:
    """A diffusion controller in evaluation mode, and what is known about it. Raises CheckpointError."""
    model, checkpoint = load_model(folder)
    if not isinstance(model, DiffusionController):
        raise CheckpointError(f"{folder}: kind: expected diffusion, got {checkpoint.kind}")
    return model, checkpoint


def load_planner(folder: Path) -> tuple[Planner, Checkpoint, TextEncoder]:
    """A planner in evaluation mode, what is known about it, and its frozen text encoder.

    Raises:
        CheckpointError: as `load_model`; not a planner; its text encoder is missing, or is another one.
        TextEncoderError: its text encoder is damaged or unknown.
    """
    model, checkpoint = load_model(folder)
    if not isinstance(model, Planner):
        raise CheckpointError(f"{folder}: kind: expected a planner, got {checkpoint.kind}")
    return model, checkpoint, _text_encoder(folder, model)


def load_scorer(folder: Path) -> tuple[PlanScorer, Checkpoint, TextEncoder]:
    """A scorer of plans in evaluation mode, likewise. Errors as of `load_planner`."""
    model, checkpoint = load_model(folder)
    if not isinstance(model, PlanScorer):
        raise CheckpointError(f"{folder}: kind: expected a scorer, got {checkpoint.kind}")
    return model, checkpoint, _text_encoder(folder, model)


def _text_encoder(folder: Path, model: Planner | PlanScorer) -> TextEncoder:
    place = folder / TEXT_ENCODER
    if not place.is_dir():
        raise CheckpointError(f"{place}: expected the planner's text encoder, got no such folder")
    encoder = load_text_encoder(place)
    wanted = (model.config.text_tokens, model.config.text_width)
    if (encoder.tokens, encoder.width) != wanted:
        got = f"{encoder.tokens} of {encoder.width}"
        raise CheckpointError(f"{place}: expected {wanted[0]} tokens of {wanted[1]} values, got {got}")
    return encoder


def load_model(folder: Path) -> tuple[nn.Module, Checkpoint]:
    """A network of any kind in evaluation mode with its weights, and what is known about it.

    Raises:
        CheckpointError: missing, damaged, of a newer version, or with weights that are not finite.
    """
    checkpoint = read_checkpoint(folder)
    try:
        model = make_model(checkpoint.config)
    except (RuntimeError, OverflowError, TypeError) as error:  # torch's, of sizes beyond memory or int64
        wanted = "sizes of a network that fits into memory"
        raise CheckpointError(f"{folder / 'policy.json'}: policy: expected {wanted}, got {error}") from None
    path = folder / "model.safetensors"
    try:
        weights = load_file(path)
        model.load_state_dict(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: {error}") from None
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name}: expected finite weights, got NaN or Inf")
    return model.eval(), checkpoint


def random_checkpoint(folder: Path, config: Config, seed: int = 0) -> Checkpoint:
    """An untrained network with plausible statistics, for tests and benchmarks of any size.

    A planner or scorer reads its text with the default encoder, and has actions and tasks as a controller
    would.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = make_model(config)
    if isinstance(config, OF_PLANS):
        load_text_encoder().save(folder / TEXT_ENCODER)
    dim, tasks = getattr(config, "action_dim", 7), getattr(config, "tasks", 2)

    def stats(width: int) -> dict[str, Any]:
        mean = torch.rand(width, generator=generator)
        spread = 0.1 + torch.rand(width, generator=generator)
        low, high = mean - 2 * spread, mean + 2 * spread
        return {
            "min": low.tolist(),
            "max": high.tolist(),
            "mean": mean.tolist(),
            "std": spread.tolist(),
            "q01": (mean - 1.5 * spread).tolist(),
            "q99": (mean + 1.5 * spread).tolist(),
            "count": 1000,
        }

    table = {"action": stats(dim)}
    for feature in config.observation:
        table[feature.key] = stats(feature.width) if not feature.is_image else {
            "min": [0.0] * feature.width, "max": [1.0] * feature.width, "mean": [0.5] * feature.width,
            "std": [0.25] * feature.width, "count": 1000,
        }  # fmt: skip
    checkpoint = Checkpoint(
        config=config,
        stats=table,
        tasks=[{"name": f"task_{i}", "instruction": f"Do task {i}."} for i in range(tasks)],
        action={
            "names": [f"action_{i}" for i in range(dim)],
            "units": ["1"] * dim,
            "min": [-10.0] * dim,
            "max": [10.0] * dim,
            "rate_limit": None,
            "hold": {"mode": "values", "values": [0.0] * dim},
        },
        control_rate_hz=60.0,
        provenance={"training": "none: random weights", "seed": seed},
    )
    save_checkpoint(folder, checkpoint, model.state_dict())
    return checkpoint
