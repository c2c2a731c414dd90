"""Statistics and pipelines of LeRobot that are not converted: refused by the field's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from lerobot_checkpoints import ACT, edit, edit_pipeline, edit_weights, write  # noqa: E402
from lerobot_refusals import VECTORS, drop, refused  # noqa: E402

NORMALIZER = "policy_preprocessor_step_3_normalizer_processor.safetensors"


def test_statistics_that_are_missing(checkpoint: Path) -> None:
    edit_weights(checkpoint, drop("observation.state.min"), NORMALIZER)
    refused(checkpoint, "observation.state.min", "max, mean")
    edit_weights(
        checkpoint, lambda stats: [stats.pop(key) for key in list(stats) if "state" in key], NORMALIZER
    )
    refused(checkpoint, "statistics of observation.state", "those of action")


def test_statistics_under_prefixed_names_are_not_skipped(checkpoint: Path) -> None:
    def prefix(stats: dict[str, Any]) -> None:
        for key in [key for key in stats if key.startswith("observation.state.")]:
            stats[f"policy.{key}"] = stats.pop(key)

    edit_weights(checkpoint, prefix, NORMALIZER)
    refused(checkpoint, "statistics of observation.state", "policy.observation.state")


def test_statistics_of_another_size(checkpoint: Path) -> None:
    wrong = {"observation.state.min": torch.zeros(4)}
    edit_weights(checkpoint, lambda stats: stats.update(wrong), NORMALIZER)
    refused(checkpoint, "observation.state.min", "3 values", "4")


@pytest.mark.parametrize(
    ("mode", "name", "values", "told"),
    [
        ("MIN_MAX", "max", [9, 9, 3e8], "observation.state.max[2]: expected more than 3e+08, got 3e+08"),
        ("MIN_MAX", "max", [9, -9, 3e9], "observation.state.max[1]: expected more than -1, got -9"),
        ("MIN_MAX", "max", [9, 9, torch.nan], "observation.state.max[2]: expected a finite number, got nan"),
        ("MEAN_STD", "std", [1, -1, 1], "observation.state.std[1]: expected more than 0, got -1"),
    ],
)
def test_statistics_that_have_no_width(tmp_path: Path, mode: str, name: str, values: Any, told: str) -> None:
    modes = {"STATE": mode, "ACTION": "MIN_MAX"}
    write(tmp_path / "checkpoint", ACT | VECTORS | {"normalization_mapping": modes})
    given = {"observation.state.min": torch.tensor([-1.0, -1.0, 3e8])}
    given[f"observation.state.{name}"] = torch.tensor(values, dtype=torch.float32)
    edit_weights(tmp_path / "checkpoint", lambda stats: stats.update(given), NORMALIZER)
    refused(tmp_path / "checkpoint", told)


def test_deviations_of_actions_are_not_negative(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", ACT | VECTORS | {"normalization_mapping": {"ACTION": "MEAN_STD"}})
    file = "policy_postprocessor_step_0_unnormalizer_processor.safetensors"
    wrong = {"action.std": torch.tensor([1.0, -1.0])}
    edit_weights(tmp_path / "checkpoint", lambda stats: stats.update(wrong), file)
    refused(tmp_path / "checkpoint", "action.std[1]: expected more than 0, got -1")


def test_no_statistics_at_all(checkpoint: Path) -> None:
    for path in checkpoint.glob("policy_*"):
        path.unlink()
    refused(checkpoint, "normalize_inputs", "statistics of observation.state", "none")
    edit(checkpoint, normalization_mapping={"STATE": "MAX_ABS"})
    refused(checkpoint, "normalization_mapping.STATE", "MEAN_STD")


def test_half_a_pair_of_pipelines(checkpoint: Path) -> None:
    (checkpoint / "policy_postprocessor.json").unlink()
    refused(checkpoint, "policy_postprocessor.json")


def set_step(number: int, **fields: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda steps: steps[number].update(fields)


def set_config(number: int, **fields: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda steps: steps[number]["config"].update(fields)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (set_step(1, registry_name="tokenizer_processor"), ["steps[1].registry_name", "tokenizer_processor"]),
        (set_step(1, registry_name=7), ["steps[1].registry_name", "a name"]),
        (
            set_step(1, registry_name="relative_actions_processor", config={"enabled": True}),
            ["steps[1].config.enabled", "absolute_actions_processor enabled, too"],
        ),
        (set_step(2, config={"float_dtype": "float16"}), ["steps[2].config.float_dtype", "float32"]),
        (set_step(3, state_file="../secret.safetensors"), ["steps[3].state_file", "a file's name"]),
        (set_step(3, state_file="none.safetensors"), ["none.safetensors"]),
        (set_step(3, state_file="\ud800"), ["expected a safetensors file"]),
        (set_step(3, state_file="a\x00b"), ["expected a safetensors file"]),
        (lambda steps: steps.pop(3), ["policy_preprocessor.json: steps", "one that normalises"]),
        (set_config(3, norm_map={"STATE": "SOFT"}), ["norm_map.STATE", "MEAN_STD"]),
        (
            lambda steps: steps[3]["config"]["features"].pop("observation.state"),
            ["features", "observation.state"],
        ),
        (
            set_config(0, rename_map={"pixels": "observation.state"}),
            ["rename_map.pixels", "observation.NAME"],
        ),
        (
            set_config(0, rename_map={"observation.environment_state": "observation.state"}),
            ["rename_map", "one name that becomes observation.environment_state", "none"],
        ),
        (
            set_config(0, rename_map={"observation.state": "observation.old"}),
            ["rename_map", "observation.state"],
        ),
        (
            set_config(
                0, rename_map={"observation.a": "observation.state", "observation.b": "observation.state"}
            ),
            ["one name that becomes observation.state", "observation.a, observation.b"],
        ),
        (set_config(0, renames={}), ["steps[0].config.renames", "an unknown one"]),
        (set_config(1, squeeze=False), ["steps[1].config.squeeze", "an unknown one"]),
        (set_config(2, to_half=True), ["steps[2].config.to_half", "an unknown one"]),
        (set_config(3, clip=3.0), ["steps[3].config.clip", "an unknown one"]),
        (
            set_config(3, normalize_observation_keys="observation.environment_state"),
            ["steps[3].config.normalize_observation_keys", "a list of texts"],
        ),
        (set_config(3, eps=0), ["steps[3].config.eps", "more than 0"]),
        (set_config(3, eps=1e-60), ["steps[3].config.eps", "more than 0"]),
        (set_config(3, eps=-1), ["steps[3].config.eps", "more than 0"]),
        (set_config(3, stats=[1]), ["steps[3].config.stats", "an object"]),
        (
            set_config(3, stats={"observation.state": {"min": "low"}}),
            ["steps[3].config.stats.observation.state.min", "numbers"],
        ),
        (
            set_config(3, stats={"observation.state": {"min": [0, 0, 0]}}),
            ["steps[3].config", "observation.state.max"],
        ),
    ],
)
def test_pipelines_that_do_more(checkpoint: Path, change: Any, parts: list[str]) -> None:
    edit_pipeline(checkpoint, "policy_preprocessor", change)
    refused(checkpoint, *parts)
