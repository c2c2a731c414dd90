"""`keystep eval --suite tabletop`: any policy, each task in its own environment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eval_runs import run
from stub_bundle import write_stub_bundle
from tabletop_stub import tabletop_manifest

pytest.importorskip("mani_skill", reason="needs the extra 'sim'")


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
