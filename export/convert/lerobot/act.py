"""LeRobot's ACT: its fields and the names of its weights."""

from __future__ import annotations

import re

from keystep.export.convert.fields import Fields, refuse
from keystep.export.convert.lerobot.act_network import ActNetwork, Sizes
from keystep.export.convert.lerobot.source import COMMON, LeRobotCheckpoint
from keystep.export.convert.lerobot.statistics import IN_WEIGHTS
from keystep.export.convert.tensors import fill
from keystep.features import Feature
from keystep.models.given import GivenAct, GivenConfig
from keystep.models.resnet import DEPTHS, folded

FIELDS = COMMON | {
    "chunk_size", "replace_final_stride_with_dilation", "pre_norm", "dim_model", "n_heads", "dim_feedforward",
    "feedforward_activation", "n_encoder_layers", "n_decoder_layers", "use_vae", "latent_dim",
    "n_vae_encoder_layers", "temporal_ensemble_coeff", "dropout", "kl_weight", "optimizer_lr_backbone",
}  # fmt: skip
POSTERIOR = ("model.vae_encoder",)
"""How the names of what only training needs begin."""


def act_policy(source: LeRobotCheckpoint, features: dict[str, Feature]) -> GivenAct:
    """The policy with its weights; arguments and errors as of `diffusion_policy`."""
    config = source.config
    config.only(FIELDS, "LeRobot's ACT")
    frames = config.whole("n_obs_steps")
    if frames != 1:
        raise refuse("n_obs_steps", "1 (ACT sees one frame)", frames)
    if not source.cameras and source.environment is None:
        got = [given.key for given in source.inputs]
        raise refuse("input_features", "a camera or observation.environment_state", got)
    sizes = _sizes(source, features)
    known = GivenConfig(
        action_dim=sizes.action_dim,
        horizon=sizes.horizon,
        execute=config.whole("n_action_steps", most=sizes.horizon),
        observation=tuple(features.values()),
    )
    policy = GivenAct(known, ActNetwork(sizes))
    vectors = [name for name, given in (("robot", source.state), ("env", source.environment)) if given]
    fill(
        policy,
        source.weights,
        lambda name: _theirs(name.removeprefix("network."), vectors),
        (*IN_WEIGHTS, *POSTERIOR),
        "model.safetensors",
    )
    folded(policy)
    return policy


def ensemble_coefficient(config: Fields) -> float | None:
    """m of ACT's temporal ensembling, weights exp(-m i); None: chunks are executed one after the other."""
    if config.raw("temporal_ensemble_coeff", None) is None:
        return None
    decay, most = config.number("temporal_ensemble_coeff"), max(500 // config.whole("chunk_size"), 1)
    if abs(decay) > most:
        raise refuse("temporal_ensemble_coeff", f"-{most}..{most}", decay)
    if config.whole("n_action_steps") != 1:
        raise refuse("n_action_steps", "1 (with temporal_ensemble_coeff)", config.raw("n_action_steps"))
    return decay


def _sizes(source: LeRobotCheckpoint, features: dict[str, Feature]) -> Sizes:
    config = source.config
    widest, most_layers = source.widest, len(source.weights)
    width, heads = config.whole("dim_model", most=widest), config.whole("n_heads")
    if width % 4 or width % heads:
        raise refuse("dim_model", f"a multiple of 4 and of n_heads {heads}", width)
    backbone = config.choice("vision_backbone", DEPTHS)
    dilated = config.flag("replace_final_stride_with_dilation", False)
    if dilated and not DEPTHS[backbone][0]:
        raise refuse("replace_final_stride_with_dilation", f"false with {backbone}", True)
    vectors = [given for given in (source.state, source.environment) if given is not None]
    return Sizes(
        cameras=tuple(
            (features[given.key].key, (given.shape[1], given.shape[2])) for given in source.cameras
        ),
        vectors=tuple((features[given.key].key, given.shape[0]) for given in vectors),
        action_dim=source.action.shape[0],
        horizon=config.whole("chunk_size", most=widest),
        width=width,
        heads=heads,
        feedforward=config.whole("dim_feedforward", most=widest),
        encoder_layers=config.whole("n_encoder_layers", least=0, most=most_layers),
        decoder_layers=config.whole("n_decoder_layers", least=0, most=most_layers),
        latent=config.whole("latent_dim", most=widest),
        pre_norm=config.flag("pre_norm"),
        activation=config.choice("feedforward_activation", ("relu", "gelu")),
        backbone=backbone,
        dilated=dilated,
    )


_NAMES = [
    (r"positions$", "encoder_1d_feature_pos_embed.weight"),
    (r"queries$", "decoder_pos_embed.weight"),
    (r"latent\.", "encoder_latent_input_proj."),
    (r"image\.", "encoder_img_feat_input_proj."),
    (r"action\.", "action_head."),
    (r"encoder_norm\.", "encoder.norm."),
    (r"decoder_norm\.", "decoder.norm."),
    (r"encoder\.(\d+)\.", r"encoder.layers.\1."),
    (r"decoder\.(\d+)\.", r"decoder.layers.\1."),
]
_LAYER = [
    (".attention.qkv.", ".self_attn.in_proj_"),
    (".attention.out.", ".self_attn.out_proj."),
    (".cross.qkv.", ".multihead_attn.in_proj_"),
    (".cross.out.", ".multihead_attn.out_proj."),
    (".feedforward.", "."),
]


def _theirs(name: str, vectors: list[str]) -> str:
    """LeRobot's name of a tensor of ours."""
    if found := re.match(r"vectors\.(\d+)\.(.*)", name):
        which = {"robot": "robot_state", "env": "env_state"}[vectors[int(found[1])]]
        return f"model.encoder_{which}_input_proj.{found[2]}"
    for ours, theirs in _NAMES:
        name, changed = re.subn(f"^{ours}", theirs, name)
        if changed:
            break
    for ours, theirs in _LAYER:
        name = name.replace(ours, theirs)
    return f"model.{name}"
