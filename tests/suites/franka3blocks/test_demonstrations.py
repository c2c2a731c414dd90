"""Demonstrations of the oracle: what their frames hold, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from keystep.code.outcome import Outcome  # noqa: E402
from keystep.code.trace import check_trace  # noqa: E402
from keystep.suites.headless import missing_driver  # noqa: E402
from keystep.suites.tabletop import TASKS, env_id, layout  # noqa: E402
from keystep.suites.tabletop.environment import TabletopEnv  # noqa: E402
from keystep.suites.tabletop.oracle.demonstrations import demonstrate  # noqa: E402
from keystep.suites.tabletop.oracle.episodes import play  # noqa: E402

SHAPES = {
    "observation.state": (np.float32, (31,)),
    "observation.objects": (np.float32, (160,)),
    "action": (np.float32, (7,)),
    "objects.poses": (np.float32, (56,)),
    "objects.boxes": (np.float32, (32,)),
    "keystep": (np.bool_, ()),
}
VARIED = ("Pick", "BalanceScale", "SortByTexture", "ThrowOnto")


def first_solved(task, **options):
    """A demonstration, its seed and the environment it was made in."""
    env = gymnasium.make(env_id(task), terminate_on_success=False, **options)
    for seed in range(5):
        found = demonstrate(env, task, seed)
        if found is not None:
            return found, seed, env
    raise AssertionError(f"{task}: no seed was solved")


@pytest.fixture(scope="module", params=VARIED)
def case(request):
    found, seed, env = first_solved(request.param)
    yield request.param, found, seed, env
    env.close()


def test_frames_have_their_shapes_and_dtypes(case):
    task, found, _, env = case
    frames = found.frames
    steps = len(frames["code"])
    assert set(frames) == {*SHAPES, "code"} and 1 < steps <= TASKS[task].max_steps
    for key, (dtype, shape) in SHAPES.items():
        assert frames[key].dtype == dtype and frames[key].shape == (steps, *shape), key
    assert all(type(code) is str for code in frames["code"])
    check_trace(frames["code"], frames["keystep"])
    assert found.prompt == env.unwrapped.scenario.prompt
    assert found.names == [body.thing.name for body in env.unwrapped.scenario.bodies]


def test_frames_tell_what_was_there_before_each_action(case):
    """Its actions, one after the other in a new environment, show the same bit for bit and solve the task."""
    task, found, seed, _ = case
    env = TabletopEnv(task, terminate_on_success=False)
    observation = env.reset(seed=seed)[0]
    for step, action in enumerate(found.frames["action"]):
        for key, value in observation.items():
            np.testing.assert_array_equal(found.frames[key][step], value)
        np.testing.assert_array_equal(found.frames["objects.poses"][step], env.poses().ravel())
        np.testing.assert_array_equal(found.frames["objects.boxes"][step], env.boxes().ravel())
        observation = env.step(action)[0]
    assert env.success
    env.close()


def test_slots_hold_objects_and_then_nothing(case):
    _, found, _, _ = case
    count = len(found.names)
    poses = found.frames["objects.poses"].reshape(-1, layout.MAX_BODIES, 7)
    boxes = found.frames["objects.boxes"].reshape(-1, layout.MAX_BODIES, 4)
    np.testing.assert_allclose(np.linalg.norm(poses[:, :count, 3:], axis=2), 1.0, atol=1e-5)
    assert (poses[:, count:] == 0).all() and (boxes[:, count:] == -1).all()
    seen = boxes[:, :count].reshape(-1, 4)
    gone = (seen == -1).all(axis=1)
    assert (seen[~gone] >= 0).all() and (seen[~gone] <= 1).all()
    assert (seen[~gone, :2] < seen[~gone, 2:]).all()
    objects = found.frames["observation.objects"].reshape(-1, layout.MAX_BODIES, len(layout.OBJECT_NAMES))
    np.testing.assert_array_equal(objects[:, :, 1:8], poses)


@pytest.mark.parametrize("steps", [25, 40, 60])
def test_an_episode_is_a_demonstration_if_it_solves_the_task_and_comes_to_its_end(steps):
    env = TabletopEnv("PlaceOnTop", terminate_on_success=False, max_episode_steps=steps)
    for seed in range(3):
        episode = play(env, seed)
        complete = episode.success and episode.result.outcome is Outcome.SUCCESS
        assert (demonstrate(env, "PlaceOnTop", seed) is not None) == complete
        assert steps > 25 or not complete, "there is not enough time for four calls"
        assert steps < 60 or complete
    env.close()


def test_the_task_must_be_that_of_the_environment():
    env = gymnasium.make(env_id("Pick"), terminate_on_success=False)
    with pytest.raises(ValueError, match="task: expected Pick as the environment's, got 'Swap'"):
        demonstrate(env, "Swap", 0)
    env.close()


def test_an_environment_that_ends_with_success_is_refused():
    env = gymnasium.make(env_id("Pick"))
    with pytest.raises(ValueError, match="env: expected terminate_on_success=False"):
        demonstrate(env, "Pick", 0)
    env.close()


def test_pictures_take_the_place_of_objects():
    reason = missing_driver()
    if reason is not None:
        pytest.skip(f"no Vulkan driver: {reason}")
    found, seed, env = first_solved("Touch", obs_mode="rgb", image_size=32)
    blind = TabletopEnv("Touch", terminate_on_success=False)
    expected = demonstrate(blind, "Touch", seed)
    assert expected is not None
    frames = found.frames
    for camera in layout.CAMERAS:
        pictures = frames[f"observation.images.{camera}"]
        assert (pictures.dtype, pictures.shape) == (np.uint8, (len(frames["code"]), 32, 32, 3))
        assert (pictures[0] != pictures[-1]).any()
    assert "observation.objects" not in frames and frames["code"] == expected.frames["code"]
    for key in ("observation.state", "action", "objects.poses", "objects.boxes", "keystep"):
        np.testing.assert_array_equal(frames[key], expected.frames[key])
    env.close()
    blind.close()
