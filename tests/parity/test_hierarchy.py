"""The C++ loop of subgoal policies beside Algorithm 4 in PyTorch: equal noise, equal actions, whole episodes.

Networks are untrained. In a linear system, and before pictures that do not depend on the actions, each policy
lives by its own actions. In the simulator both see what the runtime's actions bring about: contacts make a
difference of 1e-6 one of 1e-1 within an episode, whatever computes the actions.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import keystep

pytest.importorskip("torch")

from hierarchy_fixture import (
    CONTROLLERS,
    EXECUTE,
    PLAN_ACTIONS,
    PLANNERS,
    STEPS,
    SUBGOALS,
    live,
    world,
    write_checkpoint,
    write_pair,
)

from keystep.export.bundle import export_bundle
from keystep.export.verify import verify_bundle
from keystep.models.reference_hierarchy import ReferenceHierarchy

TOLERANCE = 1e-5
TICKS = 3 * PLAN_ACTIONS + 7
Export = Callable[..., tuple[Path, Path, Path]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """(planner, controller, bundle) of a pair by name; made once for all tests that want the same."""
    made: dict[tuple[Any, ...], tuple[Path, Path, Path]] = {}

    def export(planner: str, controller: str, **options: Any) -> tuple[Path, Path, Path]:
        key = (planner, controller, *sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("pair")
            pair = write_pair(folder, planner, controller)
            options |= {"planner": pair[0], "resize": True}
            made[key] = (*pair, export_bundle(pair[1], folder / "x.keystep", **options))
        return made[key]

    return export


def compare(
    runtime: keystep.Runtime,
    reference: ReferenceHierarchy,
    controller: str,
    *,
    ticks: int = TICKS,
    instruction: str | None = "Lift the red block.",
    seed: int = 3,
    **context: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """One episode, each policy in a world of its own: actions [ticks, A] and plans [ticks, M, ...]."""
    both = []
    for policy in (runtime, reference):
        policy.reset(instruction=instruction, seed=seed, episode=1, **context)
        both.append(live(policy, world(controller, seed), ticks))
    (actions, plans), (wanted, imagined) = both
    np.testing.assert_allclose(actions, wanted, atol=TOLERANCE, rtol=0)
    if plans.dtype == np.uint8:  # rounding may tip over
        difference = np.abs(plans.astype(int) - imagined)
        assert difference.max() <= 1 and difference.mean() < 1e-3
    else:
        np.testing.assert_allclose(plans, imagined, atol=TOLERANCE, rtol=0)
    return actions, plans


def count(plans: np.ndarray) -> int:
    return len(np.unique(plans, axis=0))


PAIRS = {
    "state": ("state", "state"),
    "without dropout": ("without dropout", "state"),
    "act": ("state", "act"),
    "images": ("images", "images"),
    "tokens": ("tokens", "state"),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_equal_actions_over_several_plans(pair: str, exported: Export) -> None:
    planner, controller, bundle = exported(*PAIRS[pair])
    assert STEPS % EXECUTE  # the last chunk towards each subgoal is cut
    reference = ReferenceHierarchy(planner, controller)
    with keystep.load(bundle, threads=1) as runtime:
        actions, plans = compare(runtime, reference, PAIRS[pair][1])
        assert count(plans) == 4 == runtime.plan_progress["plans"]
        others = [
            compare(runtime, reference, PAIRS[pair][1], ticks=STEPS + 1, **change)[0]
            for change in (
                {"seed": 4},
                {"instruction": "Push the green cube to the left!"},
                {"instruction": None, "task": "task_1"},
            )
        ]
    for other in others:  # what should make a difference does
        assert np.abs(other - actions[: len(other)]).max() > 10 * TOLERANCE


@pytest.mark.parametrize("pair", ["state", "images", "tokens"])
def test_guidance_of_an_episode(pair: str, exported: Export) -> None:
    planner, controller, bundle = exported(*PAIRS[pair])
    reference = ReferenceHierarchy(planner, controller)
    with keystep.load(bundle, threads=1) as runtime:
        plans = [
            compare(runtime, reference, PAIRS[pair][1], ticks=STEPS + 1, guidance=guidance)[1]
            for guidance in (0.0, 0.5, 2.0)
        ]
    for one, other in pairwise(plans):
        assert np.abs(one.astype(float) - other).max() > 10 * TOLERANCE


SAMPLERS: dict[str, dict[str, Any]] = {
    "ddpm 100": {"kind": "ddpm", "inference_steps": 100},
    "ddim 30": {"kind": "ddim", "inference_steps": 30},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("level", ["planner", "controller"])
def test_samplers_chosen_at_load(level: str, sampler: str, exported: Export) -> None:
    planner, controller, bundle = exported("state", "state")
    change = SAMPLERS[sampler]
    names = {"planner": ("planner_sampler", "planner_steps"), "controller": ("sampler", "inference_steps")}
    options: Any = dict(zip(names[level], change.values(), strict=True))
    reference = ReferenceHierarchy(planner, controller, **{f"{level}_sampler": change})  # type: ignore[arg-type]
    with keystep.load(bundle, threads=1, **options) as runtime:
        _, plans = compare(runtime, reference, "state", ticks=2 * PLAN_ACTIONS + 2)
    assert count(plans) == 3


@pytest.mark.parametrize("execute", [None, 4])
def test_the_last_subgoal_stays_without_replanning(execute: int | None, exported: Export) -> None:
    """It stays beyond its n actions, and cuts no chunk."""
    planner, controller, bundle = exported("state", "state", execute=execute)
    reference = ReferenceHierarchy(planner, controller, execute=execute, replan=False)
    with keystep.load(bundle, threads=1, replan=False) as runtime:
        _, plans = compare(runtime, reference, "state")
        assert count(plans) == 1
        assert runtime.plan_progress == {"plans": 1, "subgoal": 3, "actions": TICKS - PLAN_ACTIONS + STEPS}


def test_a_controller_trained_to_execute_more_than_a_subgoal_lasts(exported: Export) -> None:
    """Its chunks end with the subgoal, also where the last one stays."""
    assert CONTROLLERS["long chunks"].execute > STEPS
    planner, controller, bundle = exported("state", "long chunks", replan=False)
    assert keystep.read_manifest(bundle)["chunk"]["execute"] == STEPS
    with keystep.load(bundle, threads=1) as runtime:
        compare(runtime, ReferenceHierarchy(planner, controller, replan=False), "state")


def test_images_are_resized_as_pillow_does(exported: Export) -> None:
    """Seen through subgoals handed in, which come back as the controller takes them."""
    image = pytest.importorskip("PIL.Image")
    key = "observation.images.static"
    with keystep.load(exported("images", "images")[2], threads=1) as runtime:
        for height, width in ((50, 37), (16, 16), (9, 200)):
            given = np.random.default_rng(height).integers(0, 256, (SUBGOALS, height, width, 3), np.uint8)
            runtime.reset(instruction="Lift it.", subgoals={key: given})
            runtime.act({key: given[0]})
            wanted = [
                image.fromarray(picture).resize((16, 16), image.Resampling.BILINEAR) for picture in given
            ]
            difference = runtime.plan()[key].astype(int) - np.stack(wanted)
            assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("pair", PAIRS)
def test_verify_compares_both_levels(pair: str, exported: Export) -> None:
    planner, controller, bundle = exported(*PAIRS[pair])
    report = verify_bundle(bundle, controller, planner, tolerance=TOLERANCE)
    assert report.ok, str(report)
    rows = {(row.ours, row.reference, row.quantity) for row in report.comparisons}
    for reference in ("golden (torch)", "torch (checkpoint)"):
        assert {("C++ runtime", reference, quantity) for quantity in ("actions", "plan")} <= rows
    assert ("ONNX from Python", "golden (torch)", "plan output") in rows


def test_verify_of_a_one_step_controller_without_planner(tmp_path: Path) -> None:
    controller = write_checkpoint(tmp_path / "controller", CONTROLLERS["act"])
    report = verify_bundle(export_bundle(controller, tmp_path / "x.keystep"), controller, tolerance=TOLERANCE)
    assert report.ok, str(report)
    assert {row.quantity for row in report.comparisons} == {"actions"}


def test_verify_notices_another_planner(exported: Export, tmp_path: Path) -> None:
    _, controller, bundle = exported("state", "state")
    other = write_checkpoint(tmp_path / "other", PLANNERS["state"], seed=9)
    report = verify_bundle(bundle, controller, other, tolerance=TOLERANCE)
    different = [(row.reference, row.quantity) for row in report.comparisons if not row.within(TOLERANCE)]
    assert different == [("torch (checkpoint)", "plan")]


def test_a_whole_episode_in_the_simulator(exported: Export) -> None:
    pytest.importorskip("mani_skill")
    from keystep.evaluate.environments import make_env

    planner, controller, bundle = exported("state", "state")
    reference, plans = ReferenceHierarchy(planner, controller), []
    with keystep.load(bundle, threads=1) as runtime:
        env = make_env("keystep/Franka3Blocks-v1", runtime.manifest)
        observation, _ = env.reset(seed=3, options={"task": "lift_red"})
        for policy in (runtime, reference):
            policy.reset(instruction="Lift the red block.", seed=3, episode=2)
        ended = False
        while not ended:
            seen = {"observation.state": observation["observation.state"]}
            action = runtime.act(seen)
            np.testing.assert_allclose(action, reference.act(seen), atol=TOLERANCE, rtol=0)
            plan = runtime.plan()["observation.state"]
            # Values up to 2 after ten steps of two summations: a few more roundings than an action.
            imagined = reference.plan()["observation.state"]
            np.testing.assert_allclose(plan, imagined, atol=5 * TOLERANCE, rtol=0)
            plans.append(plan)
            observation, _, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
        env.close()
    assert count(np.stack(plans)) >= 3
