"""A damaged policy.json: a CheckpointError that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from keystep.models import PRESETS, CheckpointError, load_policy, random_checkpoint
from keystep.models.checkpoint import read_checkpoint

TINY = PRESETS["tiny"]


def edited(folder: Path, path: str, value: Any) -> None:
    """policy.json with the field `path` set, or removed when the value is ..."""
    document = json.loads((folder / "policy.json").read_text())
    *parents, last = path.split(".")
    place = document
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    (folder / "policy.json").write_text(json.dumps(document))


DAMAGE = [
    ("action", ..., "action: expected an object, got nothing"),
    ("action.units", ..., "action.units: expected 7 texts, got nothing"),
    ("action.units.1", 3, r"action.units\[1\]: expected text, got 3"),
    ("action.min", ["0"] * 7, r"action.min\[0\]: expected a finite number, got '0'"),
    ("action.max", [1.0], r"action.max: expected 7 numbers, got \[1.0\]"),
    ("action.max.2", 10**400, r"action.max\[2\]: expected a finite number"),
    ("action.rate_limit", ..., "action.rate_limit: expected 7 numbers"),
    ("action.hold", ..., "action.hold: expected an object, got nothing"),
    ("action.hold", [0.0] * 7, r"action.hold: expected an object, got \[0.0"),
    ("action.hold", {"mode": "values"}, "action.hold.values: expected 7 numbers, got nothing"),
    ("action.hold.mode", "zero", "action.hold.mode: expected values or last, got 'zero'"),
    ("observation", {}, "observation: expected an array, got {}"),
    ("observation", ..., "observation: expected an array, got None"),
    ("observation", [], "policy.observation: expected at least one feature"),
    ("observation", [{"key": "observation.a"}], r"observation\[0\].kind: expected a value of type str"),
    ("observation.0", 3, r"observation\[0\]: expected an object, got 3"),
    (
        "observation.0.shape",
        ...,
        r"observation\[0\].shape: expected an array of values of type int, got None",
    ),
    ("observation.0.shape", [26.0], r"observation\[0\].shape: expected an array of values of type int"),
    ("observation.0.history", True, r"observation\[0\].history: expected a value of type int, got True"),
    ("observation.0.names", "xyz", r"observation\[0\].names: expected an array of values of type str"),
    ("observation.0.key", "state", r"observation\[0\]: key: expected observation.<name>, got state"),
    ("provenance", 5, "provenance: expected an object, got 5"),
    ("tasks", {}, "tasks: expected an array of objects, got {}"),
    ("tasks", [{"name": "a"}], r"tasks\[0\].instruction: expected text, got nothing"),
    ("control_rate_hz", "60", "control_rate_hz: expected a number, got '60'"),
    ("stats", [], r"stats: expected an object, got \[\]"),
    ("stats.action", ..., "stats.action: expected an object, got nothing"),
    ("stats.action.min", [0.0], r"stats.action.min: expected 7 numbers, got \[0.0\]"),
    ("normalization", {"sound": "min_max"}, "normalization.sound: expected one of .*action, got 'min_max'"),
    ("normalization", {"action": ["log"]}, "normalization.mode: expected one of"),
    ("policy", 5, "policy: expected an object, got 5"),
    ("policy.horizon", "8", "policy.horizon: expected a value of type int, got '8'"),
    ("policy.down_dims", [16, None], r"policy.down_dims\[1\]: expected a value of type int, got None"),
    ("policy.surprise", 3, "policy.surprise: expected one of action_dim, .*, got 'an unknown key'"),
    ("policy.groups", 0, "policy.groups: expected a positive integer, got 0"),
    ("kind", [], r"kind: expected one of diffusion, act, planner, scorer, code_planner, got \[\]"),
    ("policy.sampler", None, "policy.sampler: expected an object, got None"),
    ("policy.sampler.eta", True, "policy.sampler.eta: expected a value of type float, got True"),
]


@pytest.mark.parametrize(("field", "value", "message"), DAMAGE)
def test_every_field_of_a_checkpoint_is_checked(tmp_path: Path, field: str, value: Any, message: str) -> None:
    random_checkpoint(tmp_path, TINY)
    edited(tmp_path, field, value)
    with pytest.raises(CheckpointError, match=f"policy.json: {message}"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("width", [10**400, 10**16])
def test_sizes_that_no_memory_holds_are_refused(tmp_path: Path, width: int) -> None:
    random_checkpoint(tmp_path, TINY)
    edited(tmp_path, "policy.step_dim", width)
    with pytest.raises(CheckpointError, match=r"policy\.json: policy: expected sizes of a network that fits"):
        load_policy(tmp_path)
