"""`keystep eval --suite tabletop`: any policy, each task in its own environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from eval_runs import run
from stub_bundle import stub_manifest, write_stub_bundle

pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.suites.tabletop import layout


def tabletop_manifest(tasks: list[str]) -> dict[str, Any]:
    """The stub policy, of the size of the tabletop suite."""
    manifest = stub_manifest()
    states, actions = len(layout.STATE_NAMES), len(layout.ACTION_NAMES)
    encode, denoise = manifest["graphs"]["encode"], manifest["graphs"]["denoise"]
    state, _, task = encode["inputs"]
    encode["inputs"] = [state | {"shape": [1, states]}, task]
    for side in ("inputs", "outputs"):
        for tensor in denoise[side]:
            if tensor["role"] in ("sample", "model_output"):
                tensor["shape"][-1] = actions
    normal = {"mode": "mean_std", "mean": [0.0] * states, "std": [1.0] * states}
    bounds = {"min": layout.ACTION_LOW.tolist(), "max": layout.ACTION_HIGH.tolist()}
    action = {"names": list(layout.ACTION_NAMES), "units": list(layout.ACTION_UNITS), **bounds}
    return {
        "observation": {"state": {"names": list(layout.STATE_NAMES)}, "images": []},
        "action": action | {"rate_limit": None, "hold": [0.0] * actions},
        "normalization": {"observation.state": normal, "action": {"mode": "min_max", **bounds}},
        "graphs": manifest["graphs"],
        "tasks": [{"name": name, "instruction": f"{name}."} for name in tasks],
    }


def test_two_tasks(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    bundle = write_stub_bundle(tmp_path / "policy.keystep", **tabletop_manifest(["Pick", "Touch"]))
    path = tmp_path / "report.json"
    options = ("--suite", "tabletop", "--episodes", 1, "--max-episode-steps", 3, "--json", path)
    status, _, err = run(capsys, bundle, *options)
    assert status == 0, err
    report = json.loads(path.read_text())
    assert [(task["name"], task["episodes"]) for task in report["tasks"]] == [("Pick", 1), ("Touch", 1)]
    assert [task["faults"] for task in report["tasks"]] == [0, 0]
    assert report["env"] == "keystep/Tabletop-<Task>-v0"
