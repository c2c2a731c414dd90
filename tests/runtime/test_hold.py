"""The hold from training to the robot: checkpoint, manifest, inspect, and ticks that fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stub_bundle import ACTION, stub_manifest

import keystep
from keystep import _core
from keystep.evaluate.simulation import sendable

BAD = {
    "observation.state": np.full(4, np.nan, np.float32),
    "observation.images.static": np.zeros((6, 8, 3), np.uint8),
}


def holding(hold: Any) -> dict[str, Any]:
    """Changes of the stub's manifest."""
    return {"action": stub_manifest()["action"] | {"hold": hold}}


@pytest.mark.parametrize("hold", [{"mode": "last"}, {"mode": "values", "values": [0.0] * ACTION}])
def test_act_raises_where_nothing_can_be_given(
    make_stub: Any, observation: dict[str, Any], hold: Any
) -> None:
    policy = make_stub(holding(hold))
    policy.reset(task="lift_red")
    for given in (BAD, observation, BAD, observation):
        if given is BAD:
            with pytest.raises(keystep.PolicyError) as caught:
                policy.act(given)
            assert caught.value.status == "bad_observation"
        else:
            assert np.isfinite(policy.act(given)).all()
    policy.reset(task="lift_red")
    with pytest.raises(keystep.PolicyError):
        policy.act(BAD)


@pytest.mark.parametrize(
    ("hold", "message"),
    [
        ([0.0] * ACTION, "action.hold: expected an object"),
        ({"mode": "values"}, "action.hold.values: expected a value"),
        ({"mode": "values", "values": [0.0]}, "action.hold.values: expected 3 values, got 1"),
        ({"mode": "values", "values": [0.0, 0.0, 2.0]}, r"action.hold.values\[2\]: expected a value in"),
        ({"mode": "last", "values": []}, "action.hold.values: expected one of the keys"),
        ({"mode": "repeat"}, "action.hold.mode: expected"),
    ],
)
def test_other_holds_are_refused(make_stub: Any, hold: Any, message: str) -> None:
    with pytest.raises(keystep.BundleError, match=message):
        make_stub(holding(hold))


def test_a_manifest_is_checked_without_its_files() -> None:
    manifest = stub_manifest() | holding({"mode": "last"})
    for graph in manifest["graphs"].values():
        graph["sha256"] = "0" * 64
    manifest["golden"]["sha256"] = "0" * 64
    _core.check_manifest(json.dumps(manifest))
    manifest["tasks"] = [manifest["tasks"][0]] * 2
    with pytest.raises(keystep.BundleError, match=r"tasks\[1\]: expected unique names"):
        _core.check_manifest(json.dumps(manifest))
    for text, message in (("\ud800", "manifest: expected UTF-8, got"), (b"{}", "manifest: expected a str")):
        with pytest.raises(keystep.ArgumentError, match=message):
            _core.check_manifest(text)  # type: ignore[arg-type]
    with pytest.raises(keystep.BundleError, match="at most 16777216 bytes"):
        _core.check_manifest(" " * (16 << 20) + json.dumps(manifest))


def test_only_finite_actions_are_sent() -> None:
    assert sendable(np.ones(3)) is not None
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(
            keystep.PolicyError, match=r"action\[1\]: expected a finite number, got"
        ) as raised:
            sendable(np.array([0.0, value, 0.0]))
        assert raised.value.status == "rejected_chunk"


# ---- with torch


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    from keystep.models import PRESETS, random_checkpoint, state_feature

    random_checkpoint(
        tmp_path / "run", replace(PRESETS["tiny"], observation=(state_feature(3),), action_dim=2)
    )
    return tmp_path / "run"


def edit(checkpoint: Path, version: int = 4, provenance: Any = None, **action: Any) -> None:
    document = json.loads((checkpoint / "policy.json").read_text())
    document["action"] |= action
    document["provenance"] |= provenance or {}
    if version < 4:  # the observation was told otherwise
        (state,) = document["observation"]
        document["observation"] = {"state": {"names": state["names"]}, "images": []}
        document["policy"]["state_dim"] = len(state["names"])
    (checkpoint / "policy.json").write_text(json.dumps(document | {"version": version}))


@pytest.mark.parametrize(
    ("version", "hold", "wanted", "shown"),
    [
        (2, [1.0, -2.5], {"mode": "values", "values": [1.0, -2.5]}, "values 1, -2.5"),
        (
            3,
            {"mode": "values", "values": [0.0, 1.0]},
            {"mode": "values", "values": [0.0, 1.0]},
            "values 0, 1",
        ),
        (3, {"mode": "last"}, {"mode": "last"}, "last: a tick that fails repeats the last action given"),
    ],
)
def test_from_checkpoint_to_inspect(
    checkpoint: Path, version: int, hold: Any, wanted: Any, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from keystep.commands import inspect
    from keystep.export.bundle import export_bundle

    edit(checkpoint, version, hold=hold, law=["absolute", "absolute"])
    bundle = export_bundle(checkpoint, checkpoint.parent / "b.keystep")
    manifest = keystep.read_manifest(bundle)
    assert (manifest["version"], manifest["action"]["hold"]) == (5, wanted)
    inspect.main(bundle, engine="stub")
    rows = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["hold"].strip() == shown


@pytest.mark.parametrize(
    ("collection", "mode"),
    [({}, "last"), ({"tasks": []}, "last"), ({"action": {"hold": [0.0, 0.0]}}, "values"), (None, "values")],
)
def test_a_hold_that_was_invented_is_not_read(checkpoint: Path, collection: Any, mode: str) -> None:
    from keystep.models.checkpoint import read_checkpoint

    provenance = {} if collection is None else {"dataset_collection": collection}
    edit(checkpoint, 2, provenance, hold=[0.0, 0.0])
    assert read_checkpoint(checkpoint).action["hold"]["mode"] == mode


def test_a_constant_dimension_is_bound_to_its_constant(checkpoint: Path) -> None:
    from keystep.export.bundle import export_bundle

    constant = 1500.0
    edit(checkpoint, min=[constant, -1.0], max=[constant, 1.0], hold={"mode": "last"})
    bundle = export_bundle(checkpoint, checkpoint.parent / "b.keystep")
    bounds = keystep.read_manifest(bundle)["action"]
    assert bounds["min"] == [constant, -1.0]
    assert bounds["max"] == [float(np.nextafter(np.float32(constant), np.float32(np.inf))), 1.0]
    with keystep.load(bundle, threads=1) as policy:
        policy.reset()
        for _ in range(20):
            assert abs(policy.act({"observation.state": np.zeros(3, np.float32)})[0] - constant) < 2e-4
