"""A checkpoint of LeRobot: where it is, and what its `config.json` says that all policies have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystep.export.convert.fields import NOTHING, Fields, read_object, refuse
from keystep.export.convert.tensors import Tensors, read_tensors
from keystep.export.errors import ExportError
from keystep.files import sha256

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FILES = [CONFIG, WEIGHTS, "policy_*.json", "policy_*.safetensors"]
STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
MOST_PIXELS = 4096
TYPES = ("STATE", "VISUAL", "ENV", "ACTION")

COMMON = {
    "type", "n_obs_steps", "input_features", "output_features", "normalization_mapping", "device", "use_amp",
    "use_peft", "push_to_hub", "repo_id", "private", "tags", "license", "pretrained_path",
    "pretrained_revision", "vision_backbone", "pretrained_backbone_weights", "n_action_steps", "optimizer_lr",
    "optimizer_weight_decay", "compile_model", "compile_mode",
}  # fmt: skip
"""Fields that every policy has, or that only training reads."""


@dataclass(frozen=True)
class Given:
    """An input or output of LeRobot's policy.

    Attributes:
        key: as its networks name it. type: one of `TYPES`. shape: of one frame, images channels first.
    """

    key: str
    type: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class LeRobotCheckpoint:
    """A checkpoint that is read. `inputs` and `outputs` are in its order."""

    folder: Path
    kind: str
    config: Fields
    weights: Tensors
    inputs: tuple[Given, ...]
    outputs: tuple[Given, ...]

    @property
    def widest(self) -> int:
        """The greatest extent of a tensor: no layer that config.json tells of can have more."""
        return max((extent for tensor in self.weights.values() for extent in tensor.shape), default=1)

    @property
    def state(self) -> Given | None:
        """What the robot measures of itself."""
        return next((given for given in self.inputs if (given.type, given.key) == ("STATE", STATE)), None)

    @property
    def environment(self) -> Given | None:
        """What a simulator tells."""
        return next((given for given in self.inputs if given.type == "ENV"), None)

    @property
    def cameras(self) -> tuple[Given, ...]:
        """In the order in which the networks take them."""
        return tuple(given for given in self.inputs if given.type == "VISUAL")

    @property
    def used(self) -> tuple[Given, ...]:
        """What the networks read. LeRobot normalises other vectors, too, and then leaves them."""
        some = [self.state, *self.cameras, self.environment]
        return tuple(given for given in some if given is not None)

    @property
    def action(self) -> Given:
        """What it is to do."""
        for given in self.outputs:
            if (given.type, given.key) == ("ACTION", ACTION):
                return given
        got = [given.key for given in self.outputs]
        raise refuse("output_features", f"{ACTION!r} of type ACTION", got)


def is_lerobot(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint of LeRobot: its config.json names a policy and features."""
    path = _inner(folder) / CONFIG
    if not path.is_file():
        return False
    try:
        found = read_object(path)
    except ExportError:
        return False
    return "type" in found and "input_features" in found


def read_source(place: str, revision: str | None = None) -> LeRobotCheckpoint:
    """Reads a folder, or what the model hub has under an id.

    Raises:
        ExportError: nothing there, damaged, or what keystep does not convert, by the name of the field.
    """
    folder = _inner(Path(place)) if Path(place).is_dir() else _download(place, revision)
    config = Fields(read_object(_present(folder, CONFIG)))
    kind = _kind(config)
    if config.flag("use_peft", False):
        raise refuse("use_peft", "false (adapters merged into the weights)", True)
    inputs, outputs = (_features(config, name) for name in ("input_features", "output_features"))
    for number, given in enumerate(given for given in inputs if given.type == "ENV"):
        if number or given.key != ENVIRONMENT:
            raise refuse("input_features", f"{ENVIRONMENT!r} as the one of type ENV", given.key)
    weights = read_tensors(_present(folder, WEIGHTS))
    weights = {name.replace("._orig_mod", ""): tensor for name, tensor in weights.items()}  # torch.compile
    return LeRobotCheckpoint(folder, kind, config, weights, inputs, outputs)


def _kind(config: Fields) -> str:
    if config.raw("type", None) == "smolvla":
        got = "'smolvla', which is not converted yet: docs/convert.md, SmolVLA, says what it takes"
        raise ExportError(f"type: expected act | diffusion, got {got}")
    return config.choice("type", ("act", "diffusion"))


def _inner(folder: Path) -> Path:
    """Training writes `checkpoints/NUMBER/pretrained_model`; the folder above it will do."""
    inner = folder / "pretrained_model"
    return inner if not (folder / CONFIG).is_file() and (inner / CONFIG).is_file() else folder


def _present(folder: Path, name: str) -> Path:
    path = folder / name
    if path.is_file():
        return path
    kinds = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in kinds)
    wanted = f"a checkpoint of LeRobot with {name}"
    got = f"none (and {', '.join(pickles)}: pickles are never opened)" if pickles else "none"
    raise ExportError(f"{folder}: expected {wanted}, got {got}")


def _download(name: str, revision: str | None) -> Path:
    """The files of a hub id, from the cache or the hub; nothing else is downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=FILES))
    except HFValidationError:
        raise ExportError(f"checkpoint: expected a folder or a hub id OWNER/NAME, got {name!r}") from None
    except Exception as error:  # of whatever library the hub's client speaks HTTP with
        reason = " ".join(str(error).split())[:200]
        wanted = f"a folder, or {name!r} on the model hub or in its local cache"
        raise ExportError(f"checkpoint: expected {wanted}, got {reason}") from None


def _features(config: Fields, name: str) -> tuple[Given, ...]:
    found = config.part(name)
    return tuple(_feature(key, found.part(key)) for key in found.values)


def _feature(key: str, fields: Fields) -> Given:
    kind, shape = fields.choice("type", TYPES), fields.wholes("shape")
    wanted = 3 if kind == "VISUAL" else 1
    if len(shape) != wanted or (kind == "VISUAL" and (shape[0] != 3 or max(shape) > MOST_PIXELS)):
        what = f"[3, height, width], at most {MOST_PIXELS} pixels a side" if kind == "VISUAL" else "[values]"
        raise refuse(f"{fields.where}shape", what, fields.raw("shape", NOTHING))
    return Given(key, kind, shape)


def described(source: LeRobotCheckpoint) -> dict[str, Any]:
    """For a bundle's provenance. A hub id may be another checkpoint tomorrow; the digest is of this one."""
    return {
        "converted_from": "lerobot",
        "policy": source.kind,
        "config": source.config.values,
        "weights_sha256": sha256(source.folder / WEIGHTS),
    }
