"""Checkpoints from before version 4, in which a policy observed a state and cameras of one size.

checkpoints_version_3.json has what keystep 0.6.0 wrote of random networks (seed 3): each policy.json, a hash
of its tensors' names and shapes, and the first values that it computed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from keystep.models import (  # noqa: E402
    ActConfig,
    CheckpointError,
    DiffusionConfig,
    PlannerConfig,
    load_policy,
    make_model,
    read_checkpoint,
)
from keystep.models.checkpoint import KINDS, load_model  # noqa: E402
from keystep.models.checkpoint_versions import OLDER, upgraded  # noqa: E402

OLD = json.loads((Path(__file__).parent / "checkpoints_version_3.json").read_text())


def write(folder: Path, document: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "policy.json").write_text(json.dumps(document))
    return folder


def filled(shape: tuple[int, ...], seed: int) -> Any:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def computed(model: Any) -> Any:
    """As those of the file were: every input is filled with numbers of its own."""
    config = model.config
    if isinstance(config, PlannerConfig):
        sample = filled((1, config.subgoals, *config.subgoal_shape), 1)
        goal = model.goal(filled((1, config.text_tokens, config.text_width), 2))
        return model.denoise(sample, torch.tensor([7]), goal, filled((1, *config.subgoal_shape), 3))
    batch = {
        name: filled(feature.network_shape(frames), 10 + number)
        for number, (name, (feature, frames)) in enumerate(config.inputs().items())
    } | {"task": torch.tensor([1])}
    if isinstance(config, ActConfig):
        return model.act(batch)
    sample = filled((1, config.horizon, config.action_dim), 1)
    return model.denoise(sample, torch.tensor([7]), model.encode(batch))


@pytest.mark.parametrize("name", OLD)
def test_the_same_weights_compute_the_same(tmp_path: Path, name: str) -> None:
    old = OLD[name]
    document = old["document"]
    assert document["version"] == 3 and "observation" not in document["policy"]
    new = upgraded(document)
    config = KINDS[document["kind"]].from_dict(new["policy"] | {"observation": new["observation"]})
    torch.manual_seed(3)
    weights = make_model(config).state_dict()
    lines = "\n".join(f"{key} {list(value.shape)}" for key, value in sorted(weights.items()))
    assert hashlib.sha256(lines.encode()).hexdigest() == old["tensors"]
    write(tmp_path, document)
    save_file(weights, tmp_path / "model.safetensors")
    model, checkpoint = load_model(tmp_path)
    # Another machine's sums are rounded otherwise; here they are equal bit for bit.
    torch.testing.assert_close(
        computed(model).flatten()[:16], torch.tensor(old["output"]), rtol=1e-5, atol=1e-6
    )
    assert checkpoint.stats == document["stats"] and checkpoint.action == document["action"]
    told, seen = document["observation"], {feature.key: feature for feature in checkpoint.observation}
    assert len(seen) == (told["state"] is not None) + len(told["images"])
    if told["state"] is not None:
        assert list(seen["observation.state"].names) == told["state"]["names"]
    for image in told["images"]:
        feature = seen[f"observation.images.{image['camera']}"]
        assert feature.kind == "rgb" and feature.shape == (image["height"], image["width"], 3)


def test_version_1_knew_diffusion_policies_only(tmp_path: Path) -> None:
    document = OLD["state and task"]["document"]
    expected = read_checkpoint(write(tmp_path / "3", document))
    older = {key: value for key, value in document.items() if key not in ("kind", "normalization")}
    hold = document["action"] | {"hold": document["action"]["hold"]["values"]}
    assert read_checkpoint(write(tmp_path / "1", older | {"version": 1, "action": hold})) == expected


def test_a_hold_that_training_invented_is_none(tmp_path: Path) -> None:
    document = OLD["state and task"]["document"]
    action = document["action"] | {"hold": [0.0] * 7}
    for collection, hold in (
        ({}, {"mode": "last"}),
        ({"action": {}}, {"mode": "values", "values": [0.0] * 7}),
    ):
        changed = document | {
            "version": 2,
            "action": action,
            "provenance": {"dataset_collection": collection},
        }
        assert read_checkpoint(write(tmp_path, changed)).action["hold"] == hold


DAMAGE: list[tuple[dict[str, Any], str]] = [
    ({"policy": {"state_dim": "3"}}, "policy.state_dim: expected a number of at least 0, got '3'"),
    ({"policy": {"cameras": 3}}, "policy.cameras: expected an array, got 3"),
    (
        {"policy": {"cameras": [{"name": "a"}]}},
        "policy.cameras.height: expected a value of type int, got None",
    ),
    (
        {"policy": {"camera": {"name": "a", "height": 0, "width": 1}}},
        "policy.cameras: observation.images.a.shape",
    ),
    ({"policy": 3}, "policy: expected an object, got 3"),
    ({"observation": 3}, "observation: expected an object, got 3"),
    ({"observation": {"state": {"names": "abc"}}}, "observation.state.names: expected an array of texts"),
    ({"observation": {"state": {"names": ["a"]}}}, "observation.state.names: expected 26 names, got .'a'."),
    ({"action": {}}, "action.names: expected an array of texts, got nothing"),
    # Widths of which not even the names would fit into memory: they are compared with those that are there.
    ({"policy": {"state_dim": 10**9}}, "observation.state.names: expected 1000000000 names, got"),
    ({"policy": {"state_dim": 10**30}}, "observation.state.names: expected 10{30} names, got"),
]


@pytest.mark.parametrize(("changes", "message"), DAMAGE)
def test_damaged_ones_name_the_field(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    document = json.loads(json.dumps(OLD["state and task"]["document"]))
    for key, value in changes.items():
        merged = isinstance(value, dict) and key != "action"
        document[key] = document[key] | value if merged else value
    with pytest.raises(CheckpointError, match=f"policy.json: {message}"):
        load_policy(write(tmp_path, document))


@pytest.mark.parametrize("word", OLDER)
def test_new_configurations_do_not_know_the_old_words(tmp_path: Path, word: str) -> None:
    assert word not in DiffusionConfig().to_dict()
    document = upgraded(OLD["state and task"]["document"]) | {"version": 4}
    read_checkpoint(write(tmp_path, document))
    stray = document | {"policy": document["policy"] | {word: [] if word == "cameras" else 26}}
    with pytest.raises(CheckpointError, match=f"policy.{word}: expected one of .* got 'an unknown key'"):
        read_checkpoint(write(tmp_path, stray))
