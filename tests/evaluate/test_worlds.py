"""Policies of another world are told so, once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'sim'")

from eval_runs import run, state_bundle  # noqa: E402
from fake_env import ENV_ID  # noqa: E402
from stub_bundle import stub_manifest  # noqa: E402

from keystep.evaluate.worlds import OtherWorldWarning, other_world, warn_of_other_world  # noqa: E402
from keystep.suites.franka3blocks import STATE_NAMES  # noqa: E402

V0, V1, BULLET = (f"keystep/Franka3Blocks-{version}" for version in ("v0", "v1", "bullet"))
OLD_NAMES = [*STATE_NAMES[:24], "joint_8_m", "joint_9_m"]


def manifest(trained: Any, names: Any = None, planner: Any = None) -> dict[str, Any]:
    provenance = {
        "dataset_collection": {"env_id": trained},
        "planner": {"dataset_collection": {"env_id": planner}},
    }
    entry = {"key": "observation.state", "kind": "vector", "shape": [26], "names": names}
    return {"provenance": provenance, "observation": [entry]}


@pytest.mark.parametrize("env_id", [V1, BULLET])
@pytest.mark.parametrize("trained", [V1, BULLET, None, 3])
def test_both_simulators_are_one_world(env_id: str, trained: Any) -> None:
    assert other_world(manifest(trained, list(STATE_NAMES)), env_id) == ""


@pytest.mark.parametrize("env_id", [V1, BULLET])
@pytest.mark.parametrize(
    ("found", "words"),
    [
        (manifest(V0), f"env: expected {V0}, which the policy was trained in, got "),
        (manifest(V1, planner=V0), f"env: expected {V0}, which the policy was trained in, got "),
        (
            manifest(None, OLD_NAMES),
            r"env: observation.state[24]: expected joint_8_m, as the policy was trained",
        ),
    ],
)
def test_another_version_is_another_world(env_id: str, found: dict[str, Any], words: str) -> None:
    told = other_world(found, env_id)
    assert told.startswith(words) and env_id in told


@pytest.mark.parametrize(
    ("trained", "env_id", "other"),
    [
        ("their/Push-v2", "their/Push-v2", False),
        ("their/Push-v2", "module:their/Push-v2", False),
        ("their/Push-v2", "their/Push-v3", True),
        ("their/Push-v2", "their/Pull-v3", False),  # nothing is known of either
        ("their/Push", "their/Push-v3", False),
    ],
)
def test_environments_of_others(trained: str, env_id: str, other: bool) -> None:
    assert bool(other_world(manifest(trained), env_id)) is other


@pytest.mark.parametrize("provenance", [None, {}, {"dataset_collection": None, "planner": 1}, 7])
def test_a_bundle_that_says_nothing(provenance: Any) -> None:
    assert other_world(stub_manifest() | {"provenance": provenance}, V1) == ""


def test_the_warning_is_a_category_of_its_own() -> None:
    with pytest.warns(OtherWorldWarning, match="another world"):
        warn_of_other_world(manifest(V0), V1)


SHIPPED = Path(__file__).parents[2] / "bundles" / "franka3blocks-state.keystep"


def of_world(env_id: str, folder: Path) -> Path:
    """The shipped bundle, as if it had been trained there."""
    shutil.copytree(SHIPPED, folder)
    found = json.loads((folder / "manifest.json").read_text())
    for part in (found["provenance"], found["provenance"]["planner"]):
        part["dataset_collection"]["env_id"] = env_id
    (folder / "manifest.json").write_text(json.dumps(found))
    return folder


@pytest.mark.parametrize("processes", ["1", "2"])
def test_eval_warns_once_and_keeps_it_with_the_result(tmp_path: Path, capsys: Any, processes: str) -> None:
    pytest.importorskip("pybullet", reason="needs the extra 'bullet'")
    bundle, result = of_world("keystep/Franka3Blocks-v0", tmp_path / "p.keystep"), tmp_path / "r.json"
    options = ("--env", BULLET, "--episodes", "1", "--tasks", "lift_red", "stack", "--max-episode-steps", "2")
    options += ("--processes", processes, "--json", str(result), "--markdown", str(tmp_path / "r.md"))
    status, _, err = run(capsys, bundle, *options)
    assert status == 0, err
    assert err.count("warning: ") == 1 and "trained in, got keystep/Franka3Blocks-bullet: another" in err
    told = json.loads(result.read_text())["settings"]["other_world"]
    assert told in err and told in (tmp_path / "r.md").read_text()


def test_a_policy_at_home_is_told_nothing(tmp_path: Path, capsys: Any) -> None:
    result = tmp_path / "r.json"
    options = ("--episodes", "1", "--tasks", "lift_red", "--json", str(result))
    status, _, err = run(capsys, state_bundle(tmp_path / "p.keystep"), "--env", ENV_ID, *options)
    assert status == 0, err
    assert "warning" not in err and "other_world" not in json.loads(result.read_text())["settings"]


def test_rollouts_warn_before_they_begin(tmp_path: Path) -> None:
    pytest.importorskip("pybullet", reason="needs the extra 'bullet'")
    pytest.importorskip("pyarrow", reason="needs the extra 'bullet'")
    from keystep.record.rollouts import RolloutSettings, collect_rollouts

    bundle = of_world("keystep/Franka3Blocks-v0", tmp_path / "p.keystep")
    few = {"reset_per_task": 1, "replayed_per_task": 0, "trials": 1, "max_contexts": 1, "max_steps": 8}
    settings = RolloutSettings(env_id=BULLET, tasks=("lift_red",), success_frames=1, min_steps=1, **few)  # type: ignore[arg-type]
    with pytest.warns(OtherWorldWarning, match="another world"):
        report = collect_rollouts(bundle, tmp_path / "d", settings)
    assert report.rollouts == 1
