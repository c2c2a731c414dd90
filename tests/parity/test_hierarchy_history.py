"""Hierarchies whose controller sees several frames and starts at row 1 of chunks; the planner sees one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from hierarchy_fixture import CONTROLLERS, PLAN_ACTIONS, PLANNERS, live, world, write_checkpoint

from keystep.export import answers
from keystep.export.bundle import export_bundle
from keystep.export.verify import verify_bundle
from keystep.models import DiffusionConfig
from keystep.models.reference_hierarchy import ReferenceHierarchy

TOLERANCE = 1e-5
TICKS = 2 * PLAN_ACTIONS + 7
Bundles = dict[str, tuple[Path, Path, Path]]


def with_history(name: str, history: int, **changes: Any) -> DiffusionConfig:
    """CONTROLLERS[name] that sees `history` frames."""
    config = CONTROLLERS[name]
    assert isinstance(config, DiffusionConfig)
    seen = tuple(replace(feature, history=history) for feature in config.observation)
    return replace(config, observation=seen, chunk_start=1, **changes)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """(planner, controller, bundle) by what both see; `hurried` sees more frames than it has subgoals."""
    hurried = replace(PLANNERS["state"], steps_per_subgoal=1)
    pairs = {
        "state": (PLANNERS["state"], with_history("state", 2)),
        "images": (PLANNERS["images"], with_history("images", 2)),
        "hurried": (hurried, with_history("state", hurried.subgoals + 2, execute=1)),
    }
    made = {}
    for name, (planner, controller) in pairs.items():
        folder = tmp_path_factory.mktemp("pair")
        upper = write_checkpoint(folder / "planner", planner, seed=5)
        lower = write_checkpoint(folder / "controller", controller, seed=6)
        made[name] = (upper, lower, export_bundle(lower, folder / "x.keystep", planner=upper))
    return made


@pytest.mark.parametrize("name", ["state", "images", "hurried"])
def test_episodes_equal_the_reference(name: str, exported: Bundles) -> None:
    """Twice: the second episode knows nothing of the first one's frames."""
    planner, controller, bundle = exported[name]
    manifest = keystep.read_manifest(bundle)
    assert manifest["chunk"]["start"] == 1 and manifest["observation"][0]["history"] >= 2
    reference = ReferenceHierarchy(planner, controller)
    with keystep.load(bundle, threads=1) as runtime:
        for episode in range(2):
            both = []
            for policy in (runtime, reference):
                policy.reset(instruction="Lift the red block.", seed=3, episode=episode)
                both.append(live(policy, world(name, seed=episode), TICKS))
            (actions, plans), (wanted, imagined) = both
            np.testing.assert_allclose(actions, wanted, atol=TOLERANCE, rtol=0)
            bytes_apart = 1 if plans.dtype == np.uint8 else TOLERANCE  # rounding may tip over
            np.testing.assert_allclose(plans.astype(float), imagined, atol=bytes_apart, rtol=0)
            assert len(np.unique(plans, axis=0)) >= 3


def test_the_planner_sees_the_newest_frame_alone(exported: Bundles) -> None:
    """Two pasts and one present: equal plans bit for bit, other chunks."""
    newest, *pasts = np.random.default_rng(4).standard_normal((3, 26)).astype(np.float32)
    plans, chunks, next_plans = [], [], []
    with keystep.load(exported["state"][2], threads=1) as runtime:
        for past in pasts:
            runtime.reset(instruction="Lift the red block.", seed=3)
            for _ in range(PLAN_ACTIONS):
                runtime.act({"observation.state": past})
            present = {"observation.state": newest}
            plans.append(runtime.predict_plan(present)["observation.state"])
            runtime.act(present)  # the one that plans again
            next_plans.append(runtime.plan()["observation.state"])
            assert runtime.plan_progress["plans"] == 2
            goals = {"observation.state": np.stack([newest] * len(plans[0]))}
            runtime.reset(subgoals=goals, seed=3)
            runtime.act({"observation.state": past})
            chunks.append(runtime.predict_chunk(present))
    np.testing.assert_array_equal(*plans)
    np.testing.assert_array_equal(*next_plans)
    assert np.abs(chunks[0] - chunks[1]).max() > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["state", "images", "hurried"])
def test_verify(name: str, exported: Bundles) -> None:
    """Also where the ticks with the older frames use up every subgoal: the last one stays, all are equal."""
    planner, controller, bundle = exported[name]
    report = verify_bundle(bundle, controller, planner, tolerance=TOLERANCE)
    assert report.ok, str(report)
    rows = {(row.ours, row.reference, row.quantity) for row in report.comparisons}
    for reference in ("golden (torch)", "torch (checkpoint)"):
        assert {("C++ runtime", reference, quantity) for quantity in ("actions", "plan")} <= rows


@pytest.mark.parametrize("name", ["state", "hurried"])
def test_verify_notices_a_lost_frame(name: str, exported: Bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    """The golden answers depend on the older frames."""
    monkeypatch.setattr(answers, "_seen", lambda runtime, manifest, frames: answers._newest(manifest, frames))
    report = verify_bundle(exported[name][2], tolerance=TOLERANCE)
    assert not report.ok
    assert {row.quantity for row in report.comparisons if not row.within(TOLERANCE)} == {"actions"}
