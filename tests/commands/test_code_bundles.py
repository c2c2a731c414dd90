"""Commands that are given a bundle that writes code: what shows it, and what sends it elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training packages are not installed")
pytest.importorskip("transformers")

from code_checkpoints import code_checkpoint

from keystep import cli
from keystep.commands.inspect import code_summary
from keystep.export.code_bundle import export_code_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    return export_code_bundle(code_checkpoint(folder / "writer", "micro-state"), folder / "it.keystep")


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "IT"],
        ["eval", "IT"],
        ["profile", "IT"],
        ["profile", "--compare", "IT", "IT"],
        ["soak", "IT"],
        ["rollouts", "IT", "new"],
        ["plans", "IT"],
        ["fig10", "IT"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_wants_actions_names_the_commands_for_code(
    bundle: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([str(bundle) if word == "IT" else word for word in arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: bundle: expected a policy that acts, got family code;")
    assert "keystep run" in err and "keystep eval --act oracle" in err and err.count("\n") == 1


@pytest.mark.parametrize("option", ["--checkpoint", "--planner", "--scorer", "--provider"])
def test_verify_refuses_what_it_would_not_look_at(
    bundle: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["verify", str(bundle), option, "cuda"]) == 2
    assert f"{option[2:]}: expected none with family code, got cuda" in capsys.readouterr().err


def test_inspect_tells_what_it_sees_says_and_remembers(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    rows = code_summary(bundle, manifest)
    assert rows["bundle"].startswith("it, family code") or "family code" in rows["bundle"]
    assert rows["sees"].startswith("observation.objects, 160 values") and rows["sees"].endswith("8 tokens")
    assert rows["feels"] == "observation.state, 31 values"
    assert rows["code"].startswith("get_actor, get_pose, ") and rows["code"].endswith("a grid of 32 cells")
    assert "done" in rows["code"] and rows["prompt"].startswith("task, memory, proprioception, image")
    assert rows["memory"] == "256 key-steps; of more than the context holds the oldest are forgotten"
    assert rows["writes"] == "draft, at every step"
    assert rows["weights"].startswith("fp32, logits max ") and "100.00% of the golden" in rows["weights"]
    assert rows["graph decode"].startswith("decode.onnx, ") and rows["graph decode"].count("past") == 1
    manifest["planner"]["decoding"] |= {"way": "early_stop", "every": 3, "constrained": True}
    manifest["planner"] |= {"feels": None}
    changed = code_summary(bundle, manifest)
    assert changed["writes"] == "early_stop after 24 characters, every 3 steps, only code of the API"
    assert changed["feels"] == "nothing"
    assert cli.run(["inspect", str(bundle)]) == 0
    assert "\nwrites" in capsys.readouterr().out
