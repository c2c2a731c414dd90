"""Policies of LeRobot as bundles: what they do is what a slow reference of its code does, step by step."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lerobot_checkpoints import (
    ACT,
    DIFFUSION,
    Player,
    edit_pipeline,
    observations,
    statistics,
    write,
)
from lerobot_episodes import ENVIRONMENT, SEED, STATE, STEPS, VECTORS, noise_of, play

import keystep

torch = pytest.importorskip("torch")

from keystep.export.convert.lerobot.convert import convert_lerobot  # noqa: E402
from keystep.export.verify import verify_bundle  # noqa: E402

TWO = {"observation.images.a": {"type": "VISUAL", "shape": [3, 40, 56]}}
TWO |= {"observation.images.b": {"type": "VISUAL", "shape": [3, 40, 56]}}
OTHER = TWO | {"observation.images.b": {"type": "VISUAL", "shape": [3, 70, 33]}}
QUANTILES = {"VISUAL": "MIN_MAX", "STATE": "QUANTILES", "ACTION": "QUANTILE10", "ENV": "MEAN_STD"}
DEVIATIONS = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}

STILL = {"output_features": {"action": {"type": "ACTION", "shape": [3]}}}
"""The last of three values never moves."""

CASES: dict[str, dict[str, Any]] = {
    "diffusion": DIFFUSION,
    "diffusion, one frame, an environment, no camera": DIFFUSION
    | {"n_obs_steps": 1, "input_features": {"observation.state": STATE, **ENVIRONMENT}, "n_action_steps": 8}
    | {"normalization_mapping": QUANTILES},
    "diffusion, DDPM, clean sample, bias only, other groups": DIFFUSION
    | {"noise_scheduler_type": "DDPM", "prediction_type": "sample", "use_film_scale_modulation": False}
    | {"n_groups": 4, "beta_schedule": "linear", "num_inference_steps": None, "clip_sample_range": 2.0}
    | {"normalization_mapping": DEVIATIONS, "num_train_timesteps": 10, "down_dims": [16]},
    "diffusion, two cameras of their own, BatchNorm, crop, three frames": DIFFUSION
    | {"n_obs_steps": 3, "use_separate_rgb_encoder_per_camera": True, "use_group_norm": False}
    | {"input_features": {**TWO, "observation.state": STATE, **ENVIRONMENT}, "crop_shape": [37, 41]},
    "diffusion, two cameras with one encoder, resized, then cropped": DIFFUSION
    | {"resize_shape": [48, 44], "crop_ratio": 0.9, "crop_shape": [43, 39]}
    | {"input_features": {"observation.state": STATE, **TWO}},
    "ACT": ACT,
    "ACT, cameras of different sizes, an environment": ACT
    | {"input_features": {**OTHER, **ENVIRONMENT, "observation.state": STATE}}
    | {"normalization_mapping": QUANTILES, "use_vae": False, "n_decoder_layers": 2},
    "ACT, normalised before, gelu, a dilated ResNet-50": ACT
    | {"pre_norm": True, "feedforward_activation": "gelu", "vision_backbone": "resnet50"}
    | {"replace_final_stride_with_dilation": 1, "normalization_mapping": DEVIATIONS},
    "ACT, temporal ensembling": ACT | VECTORS | {"temporal_ensemble_coeff": 0.3, "n_action_steps": 1},
    "ACT, temporal ensembling that weighs the newest most": ACT
    | VECTORS
    | {"temporal_ensemble_coeff": -1.0, "n_action_steps": 1, "normalization_mapping": DEVIATIONS},
    "ACT, an action that never moves, MIN_MAX": ACT | VECTORS | STILL,
    "ACT, an action that never moves, MEAN_STD": ACT
    | VECTORS
    | STILL
    | {"normalization_mapping": DEVIATIONS | {"ENV": "MEAN_STD"}},
    "ACT, an action that never moves, QUANTILE10": ACT
    | VECTORS
    | STILL
    | {"normalization_mapping": QUANTILES},
}


def expected(model: Any, bundle: Path) -> np.ndarray:
    noise = noise_of(keystep.read_manifest(bundle))
    player = Player(model, lambda: next(noise))
    return np.stack([player.act(observation) for observation in observations(model.config, STEPS)])


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_acts_as_lerobot_does(case: str, tmp_path: Path) -> None:
    config = CASES[case]
    model = write(tmp_path / "checkpoint", config)
    bundle = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep").path
    ours, theirs = play(bundle, config), expected(model, bundle)
    span = np.ptp(theirs, axis=0)
    assert (span[:2] > 0).all(), "actions that never change prove nothing"
    allowed = 1e-4 * span + 1e-6 * np.abs(theirs).max(axis=0)  # of each value alone
    assert (np.abs(ours - theirs) <= allowed).all(), np.abs(ours - theirs).max(axis=0) / allowed


@pytest.fixture(scope="module")
def act(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A small ACT without images: the checkpoint, the bundle, the reference."""
    folder = tmp_path_factory.mktemp("lerobot")
    config = ACT | {"input_features": {"observation.state": STATE, **ENVIRONMENT}}
    model = write(folder / "checkpoint", config)
    return (
        folder / "checkpoint",
        convert_lerobot(str(folder / "checkpoint"), folder / "act.keystep").path,
        model,
    )


def test_older_checkpoints_act_as_newer_ones(act: tuple[Path, Path, Any], tmp_path: Path) -> None:
    _, newer, model = act
    write(tmp_path / "older", model.config, older=True)
    older = convert_lerobot(str(tmp_path / "older"), tmp_path / "older.keystep").path
    np.testing.assert_allclose(play(older, model.config), play(newer, model.config), atol=1e-5)


def test_a_converted_bundle_verifies(act: tuple[Path, Path, Any]) -> None:
    checkpoint, bundle, _ = act
    assert verify_bundle(bundle).ok
    manifest = keystep.read_manifest(bundle)
    assert manifest["provenance"]["converted_from"] == "lerobot"
    weights = hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    assert manifest["provenance"]["weights_sha256"] == weights
    assert manifest["chunk"] == {"horizon": 5, "execute": 3, "start": 0, "merge": "consumed_index"}
    assert manifest["action"]["hold"] == {"mode": "last"}


def test_a_training_folder_and_float16_weights_will_do(act: tuple[Path, Path, Any], tmp_path: Path) -> None:
    from lerobot_checkpoints import edit_weights

    _, bundle, model = act
    write(tmp_path / "000100" / "pretrained_model", model.config)

    def halve(weights: dict[str, Any]) -> None:
        weights |= {name: tensor.half() for name, tensor in weights.items()}

    edit_weights(tmp_path / "000100" / "pretrained_model", halve)
    half = convert_lerobot(str(tmp_path / "000100"), tmp_path / "half.keystep").path
    np.testing.assert_allclose(play(half, model.config), play(bundle, model.config), atol=2e-2)


def test_what_was_renamed_is_observed_by_its_first_name(act: tuple[Path, Path, Any], tmp_path: Path) -> None:
    _, bundle, model = act
    write(tmp_path / "renamed", model.config)

    def rename(steps: list[dict[str, Any]]) -> None:
        steps[0]["config"]["rename_map"] = {"observation.joints": "observation.state"}

    edit_pipeline(tmp_path / "renamed", "policy_preprocessor", rename)
    renamed = convert_lerobot(str(tmp_path / "renamed"), tmp_path / "renamed.keystep").path
    keys = [feature["key"] for feature in keystep.read_manifest(renamed)["observation"]]
    assert keys == ["observation.joints", "observation.environment_state"]
    same = play(renamed, model.config, {"observation.joints": "observation.state"})
    np.testing.assert_array_equal(same, play(bundle, model.config))


def test_vectors_that_the_network_does_not_read_are_left_out(tmp_path: Path) -> None:
    inputs = {"observation.velocity": STATE, "observation.state": STATE, **ENVIRONMENT}
    config = ACT | {"input_features": inputs}
    model = write(tmp_path / "checkpoint", config)
    made = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep")
    assert any("observation.velocity" in note for note in made.notes)
    np.testing.assert_allclose(play(made.path, config), expected(model, made.path), atol=1e-4)


def test_options_change_what_they_say(act: tuple[Path, Path, Any], tmp_path: Path) -> None:
    checkpoint, _, model = act
    options: dict[str, Any] = {"rate_hz": 50.0, "bounds": "data", "execute": 2, "name": "arm"}
    made = convert_lerobot(str(checkpoint), tmp_path / "new.keystep", **options)
    manifest, seen = keystep.read_manifest(made.path), statistics(model.config)["action"]
    assert (manifest["name"], manifest["control_rate_hz"], manifest["chunk"]["execute"]) == ("arm", 50.0, 2)
    np.testing.assert_allclose(manifest["action"]["min"], seen["min"])
    np.testing.assert_allclose(manifest["action"]["max"], seen["max"])


def test_temporal_ensembling_is_the_bundle_s_default(tmp_path: Path) -> None:
    config = ACT | VECTORS | {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1}
    write(tmp_path / "checkpoint", config)
    made = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep")
    assert any("temporal ensembling, m = 0.01" in note for note in made.notes)
    chunk = keystep.read_manifest(made.path)["chunk"]
    assert chunk["merge"] == "temporal_ensemble" and chunk["ensemble_decay"] == 0.01
    with keystep.load(made.path, mode="async") as runtime:
        runtime.reset(seed=SEED)
    whole = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "whole.keystep", execute=3)
    assert any("temporal ensembling is left out" in note for note in whole.notes)
    assert keystep.read_manifest(whole.path)["chunk"]["merge"] == "consumed_index"
    with pytest.raises(keystep.ArgumentError, match=r"merge: expected replace \(mode is lockstep"):
        keystep.load(whole.path, merge="temporal_ensemble")


def test_before_0_4_every_range_was_a_little_wider(tmp_path: Path) -> None:
    """LeRobot 0.3.3 divides inputs by max - min + 1e-8, newer ones only where that is 0."""
    from lerobot_checkpoints import edit_weights

    from keystep.models.normalizer import Normalizer

    folder = tmp_path / "checkpoint"
    write(folder, ACT | VECTORS, older=True)
    low, high = torch.tensor([-1.0, 0.5, 0.75]), torch.tensor([1.0, 0.5, 0.75 + 6e-8])
    start = "normalize_inputs.buffer_observation_state"
    edit_weights(folder, lambda weights: weights.update({f"{start}.min": low, f"{start}.max": high}))
    made = convert_lerobot(str(folder), tmp_path / "new.keystep").path
    entry = keystep.read_manifest(made)["observation"][0]["normalization"]
    ours = Normalizer.of({"observation.state": entry})
    for value in (low, high, torch.tensor([0.3, 0.5, 0.75 + 2e-7])):
        theirs = (value - low) / (high - low + 1e-8) * 2 - 1
        torch.testing.assert_close(ours.normalize("observation.state", value), theirs, rtol=1e-5, atol=1e-5)


def test_statistics_in_the_configuration_go_before_the_file(tmp_path: Path) -> None:
    config = ACT | VECTORS
    model = write(tmp_path / "checkpoint", config)
    others = statistics(config, seed=9)
    table = {key: {name: value.tolist() for name, value in row.items()} for key, row in others.items()}
    for name, step in (("policy_preprocessor", 3), ("policy_postprocessor", 0)):
        edit_pipeline(
            tmp_path / "checkpoint", name, lambda steps, n=step: steps[n]["config"].update(stats=table)
        )
    made = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep").path
    noise = noise_of(keystep.read_manifest(made))
    player = Player(model, lambda: next(noise), stats=others)
    theirs = np.stack([player.act(observation) for observation in observations(config, STEPS)])
    np.testing.assert_allclose(play(made, config), theirs, atol=1e-4 * np.ptp(theirs, axis=0).max())


@pytest.mark.parametrize(
    ("maps", "names"),
    [
        ([{"observation.a": "observation.b"}, {"observation.b": "observation.state"}], ["a", "env"]),
        ([{"observation.a": "observation.state"}, {"observation.c": "observation.d"}], ["a", "env"]),
        (
            [{"observation.state": "observation.env", "observation.env": "observation.state"}],
            ["env", "state"],
        ),
    ],
)
def test_renames_one_after_the_other(maps: Any, names: list[str], tmp_path: Path) -> None:
    inputs = {"observation.state": STATE, **ENVIRONMENT}
    write(tmp_path / "checkpoint", ACT | {"input_features": inputs})
    long = "observation.environment_state"
    maps = json.loads(json.dumps(maps).replace("observation.env", long))

    def rename(steps: list[dict[str, Any]]) -> None:
        steps[:1] = [
            {"registry_name": steps[0]["registry_name"], "config": {"rename_map": one}} for one in maps
        ]

    edit_pipeline(tmp_path / "checkpoint", "policy_preprocessor", rename)
    made = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep").path
    keys = [feature["key"] for feature in keystep.read_manifest(made)["observation"]]
    assert keys == [long if name == "env" else f"observation.{name}" for name in names]


def test_statistics_that_nobody_reads_may_be_anything(act: tuple[Path, Path, Any], tmp_path: Path) -> None:
    from lerobot_checkpoints import edit_weights

    _, bundle, model = act
    write(tmp_path / "checkpoint", model.config)
    for path in (tmp_path / "checkpoint").glob("policy_*.safetensors"):
        unread = {
            "timestamp.std": torch.tensor([torch.nan]),
            "observation.state.q99": torch.full((3,), torch.inf),
        }
        edit_weights(tmp_path / "checkpoint", lambda stats, unread=unread: stats.update(unread), path.name)
    made = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep").path
    np.testing.assert_array_equal(play(made, model.config), play(bundle, model.config))


def test_mixed_precision_is_told(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", ACT | VECTORS | {"use_amp": True})
    made = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep")
    assert any("use_amp" in note for note in made.notes)


def test_a_hub_id_is_read_from_the_cache(
    act: tuple[Path, Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    checkpoint, bundle, model = act
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = tmp_path / "hub" / "models--somebody--arm"
    snapshot = place / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(checkpoint)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    from_hub = convert_lerobot("somebody/arm", tmp_path / "hub.keystep").path
    np.testing.assert_array_equal(play(from_hub, model.config), play(bundle, model.config))


def test_the_command(act: tuple[Path, Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from keystep import cli

    checkpoint, _, _ = act
    assert (
        cli.run(["convert", "lerobot", str(checkpoint), str(tmp_path / "a.keystep"), "--rate-hz", "20"]) == 0
    )
    shown = capsys.readouterr().out
    assert "keystep verify" in shown and "20 times a second" in shown
    assert json.loads((tmp_path / "a.keystep" / "manifest.json").read_text())["control_rate_hz"] == 20
    assert cli.run(["export", str(checkpoint), str(tmp_path / "b.keystep")]) == 2
    assert f"keystep convert lerobot {checkpoint}" in capsys.readouterr().err


@pytest.mark.parametrize("given", [(48, 40), (33, 97)])
@pytest.mark.parametrize("resize", [None, (24, 31), (70, 64)])
@pytest.mark.parametrize("crop", [None, (20, 25), (23, 24)])
def test_resize_comes_before_the_crop(given: Any, resize: Any, crop: Any) -> None:
    """The ResNet sees torch's own bilinear resize with antialiasing, then the middle of that."""
    from keystep.export.convert.lerobot.camera import CameraConfig, CameraEncoder

    encoder = CameraEncoder(CameraConfig(given, resize, crop, "resnet18", True, 4))
    for name in ("backbone", "softmax", "out"):
        setattr(encoder, name, torch.nn.Identity())
    image = torch.rand(1, 3, *given, generator=torch.Generator().manual_seed(0))
    theirs = image
    if resize:
        theirs = torch.nn.functional.interpolate(image, resize, mode="bilinear", antialias=True)
    if crop:
        top, left = (round((have - want) / 2.0) for have, want in zip(theirs.shape[-2:], crop, strict=True))
        theirs = theirs[..., top : top + crop[0], left : left + crop[1]]
    torch.testing.assert_close(encoder(image), theirs, rtol=0, atol=1e-6)


def test_a_crop_that_leaves_one_cell_is_told(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", DIFFUSION | {"crop_shape": [32, 30]})
    made = convert_lerobot(str(tmp_path / "checkpoint"), tmp_path / "new.keystep")
    assert any("one cell" in note for note in made.notes)
