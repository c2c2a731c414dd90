"""What of LeRobot is not converted: refused by the field's name, before anything is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from lerobot_checkpoints import ACT, DIFFUSION, edit, edit_weights, write  # noqa: E402
from lerobot_refusals import ENVIRONMENT, STATE, VECTORS, changed, drop, refused  # noqa: E402

from keystep.export.convert.lerobot.convert import convert_lerobot  # noqa: E402
from keystep.export.manifest import ExportError  # noqa: E402


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("type", "pi0", "act | diffusion"),
        ("type", "smolvla", "not converted yet: docs/convert.md, SmolVLA, says what it takes"),
        ("type", ..., "got nothing"),
        ("use_peft", True, "false"),
        ("n_action_steps", 0, "1.."),
        ("n_action_steps", 100, "1.."),
        ("n_action_steps", "3", "an integer"),
        ("n_obs_steps", ..., "got nothing"),
        ("input_features", {}, ""),
        ("input_features", None, "an object"),
        ("input_features", ENVIRONMENT | {"observation.state": {"type": "JOINTS", "shape": [3]}}, "STATE | "),
        (
            "input_features",
            STATE | {"observation.image": {"type": "VISUAL", "shape": [48, 40, 3]}},
            "[3, height",
        ),
        ("input_features", STATE | {"observation.world": {"type": "ENV", "shape": [2]}}, "environment_state"),
        ("output_features", {"action.arm": {"type": "ACTION", "shape": [2]}}, "'action'"),
        ("use_language", True, "an unknown one"),
        ("use_language", False, "an unknown one"),
    ],
)
def test_fields_of_both(checkpoint: Path, field: str, value: Any, told: str) -> None:
    refused(changed(checkpoint, **{field: value}), field, told)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("noise_scheduler_type", "EDM", "DDPM | DDIM"),
        ("prediction_type", "v_prediction", "epsilon | sample"),
        ("beta_schedule", "sigmoid", "squaredcos_cap_v2"),
        ("beta_start", "small", "a finite number"),
        ("num_inference_steps", 0, "1..20"),
        ("num_inference_steps", 50, "1..20"),
        ("kernel_size", 7, "3 or 5"),
        ("horizon", 7, "multiple of 2"),
        ("down_dims", [16, 20], "multiples of 8"),
        ("down_dims", "wide", "integers of 1.."),
        ("clip_sample", "yes", "true or false"),
        ("vision_backbone", "vit_b_16", "resnet18"),
        ("crop_shape", [100, 100], "at most"),
        ("resize_shape", [100], "2 integers"),
    ],
)
def test_fields_of_diffusion(tmp_path: Path, field: str, value: Any, told: str) -> None:
    camera = {"observation.image": {"type": "VISUAL", "shape": [3, 48, 40]}}
    write(tmp_path / "checkpoint", DIFFUSION | {"input_features": STATE | camera})
    refused(changed(tmp_path / "checkpoint", **{field: value}), field, told)


HUGE = (10**12, 10**30, 10**400)
"""Memory is taken for nothing that the weights do not have: at best that would end in a traceback."""


@pytest.mark.parametrize("value", HUGE, ids=["12", "30", "400"])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (DIFFUSION, ("horizon", "n_obs_steps", "n_action_steps", "diffusion_step_embed_dim", "kernel_size")),
        (DIFFUSION, ("spatial_softmax_num_keypoints", "num_train_timesteps", "n_groups", "beta_start")),
        (ACT, ("chunk_size", "dim_model", "n_heads", "dim_feedforward", "latent_dim")),
        (ACT, ("n_encoder_layers", "n_decoder_layers", "temporal_ensemble_coeff")),
    ],
)
def test_huge_integers(tmp_path: Path, kind: dict[str, Any], fields: tuple[str, ...], value: int) -> None:
    checkpoint = tmp_path / "checkpoint"
    write(checkpoint, kind)
    for field in fields:
        if field not in ("beta_start", "temporal_ensemble_coeff") or value == HUGE[-1]:
            refused(changed(checkpoint, **{field: value}), field, "expected ")
            edit(checkpoint, **{field: kind[field]})
    large = {"observation.image": {"type": "VISUAL", "shape": [3, 48, 4097]}}
    refused(
        changed(checkpoint, input_features=STATE | large), "[3, height, width], at most 4096 pixels a side"
    )
    for size in ([3, value, 40], [3, 48, value]):
        edit(checkpoint, input_features=STATE | {"observation.image": {"type": "VISUAL", "shape": size}})
        refused(checkpoint, "observation.image.shape", "integers of 1..65536")


def test_cameras_of_different_sizes_are_for_act(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", DIFFUSION | VECTORS, older=True)
    cameras = {f"observation.images.{n}": {"type": "VISUAL", "shape": [3, 40 + n, 40]} for n in (1, 2)}
    modes = {"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}
    edit(tmp_path / "checkpoint", input_features=STATE | cameras, normalization_mapping=modes)
    refused(tmp_path / "checkpoint", "input_features", "cameras of one size")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("n_obs_steps", 2, "1 (ACT sees one frame)"),
        ("feedforward_activation", "glu", "relu | gelu"),
        ("dim_model", 30, "a multiple of 4"),
        ("n_heads", 3, "n_heads 3"),
        ("replace_final_stride_with_dilation", 1, "false with resnet18"),
        ("pre_norm", "no", "true or false"),
        ("temporal_ensemble_coeff", "0.1", "a finite number"),
    ],
)
def test_fields_of_act(tmp_path: Path, field: str, value: Any, told: str) -> None:
    write(tmp_path / "checkpoint", ACT | VECTORS)
    where = "dim_model" if field == "n_heads" else field
    refused(changed(tmp_path / "checkpoint", **{field: value}), where, told)


def test_the_last_block_has_eight_groups(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", DIFFUSION | VECTORS | {"n_groups": 4})
    edit(tmp_path / "checkpoint", down_dims=[12, 24])
    refused(tmp_path / "checkpoint", "down_dims", "a multiple of 8 first")
    edit(tmp_path / "checkpoint", n_groups=5)
    refused(tmp_path / "checkpoint", "down_dims", "multiples of 5")


def test_a_camera_whose_key_is_no_observation(tmp_path: Path) -> None:
    camera = {"pixels": {"type": "VISUAL", "shape": [3, 40, 40]}}
    write(tmp_path / "checkpoint", ACT | {"input_features": STATE | camera})
    refused(tmp_path / "checkpoint", "input_features.pixels", "observation.<name>")


def test_temporal_ensembling_takes_one_action_of_each_chunk(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", ACT | VECTORS | {"temporal_ensemble_coeff": 0.1})
    refused(tmp_path / "checkpoint", "n_action_steps", "1 (with temporal_ensemble_coeff)", "3")
    edit(tmp_path / "checkpoint", n_action_steps=1, temporal_ensemble_coeff=-101)
    refused(tmp_path / "checkpoint", "temporal_ensemble_coeff", "-100..100")


def test_weights_that_disagree_with_the_configuration(checkpoint: Path) -> None:
    names = json.loads((checkpoint / "config.json").read_text())["type"]
    bias = "model.action_head.bias" if names == "act" else "diffusion.unet.final_conv.1.bias"
    edit_weights(checkpoint, lambda weights: weights.update({"of.another": torch.zeros(2)}))
    refused(checkpoint, "model.safetensors: of.another", "no such tensor")
    edit_weights(checkpoint, drop("of.another"))
    edit_weights(checkpoint, lambda weights: weights.update({bias: torch.zeros(3)}))
    refused(checkpoint, bias, "[2]", "[3]")
    edit_weights(checkpoint, lambda weights: weights.update({bias: torch.tensor([0.0, torch.nan])}))
    refused(checkpoint, bias, "finite")
    edit_weights(checkpoint, drop(bias))
    refused(checkpoint, bias, "got nothing")


def test_a_damaged_file_is_told(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 100)
    refused(checkpoint, "model.safetensors")
    (checkpoint / "config.json").write_text("{")
    refused(checkpoint, "config.json", "JSON")
    (checkpoint / "config.json").write_text("[1]")
    refused(checkpoint, "config.json", "a JSON object")


def test_pickles_are_never_opened(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def caught(*_: Any, **__: Any) -> None:
        raise AssertionError("a pickle was opened")

    monkeypatch.setattr(torch, "load", caught)
    monkeypatch.setattr(pickle, "load", caught)
    monkeypatch.setattr(pickle, "loads", caught)
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    refused(checkpoint, "model.safetensors", "pytorch_model.bin", "pickles are never opened")


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "config.json")
    refused(tmp_path / "no" / "such" / "folder", "checkpoint", "OWNER/NAME")
    with pytest.raises(ExportError, match="on the model hub or in its local cache, got"):
        convert_lerobot("nobody/nothing", tmp_path / "new.keystep")


def test_whatever_the_hubs_client_raises_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of its HTTP library are no OSErrors."""
    import huggingface_hub

    class ProxyError(Exception):
        pass

    def download(*_: Any, **__: Any) -> str:
        raise ProxyError("503 from the proxy")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ExportError, match="on the model hub or in its local cache, got 503 from the proxy"):
        convert_lerobot("nobody/nothing", tmp_path / "new.keystep")


def test_options_out_of_range(checkpoint: Path) -> None:
    refused(checkpoint, "rate_hz", rate_hz=0.0)
    refused(checkpoint, "execute", execute=100)
    kind = json.loads((checkpoint / "config.json").read_text())["type"]
    refused(checkpoint, "sampler", **({"kind": "ddim"} if kind == "act" else {"kind": "flow"}))
    for path in checkpoint.glob("policy_*"):
        path.unlink()
    edit(checkpoint, normalization_mapping={"STATE": "IDENTITY", "ACTION": "IDENTITY"})
    refused(checkpoint, "bounds", bounds="data")


def test_what_a_refusal_points_to_is_there() -> None:
    page = Path(__file__).parents[2] / "docs/convert.md"
    assert "\n## SmolVLA\n" in page.read_text(encoding="utf-8")
