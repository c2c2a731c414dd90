"""The cameras of the tabletop environments, and boxes from geometry against what the renderer draws."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tabletop_scenes import cube, move_body, set_scene, stacked, standing

from keystep.suites.headless import missing_driver
from keystep.suites.tabletop import TASKS, layout
from keystep.suites.tabletop.camera import boxes, first_boxes, project, rotated
from keystep.suites.tabletop.environment import TabletopEnv
from keystep.suites.tabletop.objects import COLOURS, SHAPES, Body, area, block

SIZE = 256
BASE, WRIST = (f"observation.images.{camera}" for camera in layout.CAMERAS)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def rgb():
    reason = missing_driver()
    if reason is not None:
        pytest.skip(f"no Vulkan driver: {reason}")
    env = TabletopEnv("Pick", obs_mode="rgb", image_size=SIZE, terminate_on_success=False)
    yield env
    env.close()


@pytest.fixture(scope="module")
def empty(rgb):
    """The base camera's picture of no objects."""
    return set_scene(rgb)[BASE].astype(int)


def pixels_box(picture, empty):
    """Left, top, right, bottom in pixels of all that is not in the picture of no objects."""
    drawn = (picture.astype(int) != empty).any(axis=2)
    assert drawn.sum() >= 20
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


# ---- geometry alone


def homogeneous(point):
    """Slow reference: the pixel (right, down) of a point by a 4 x 4 view matrix, fractions of the picture."""
    eye, target = np.array(layout.BASE_EYE_M), np.array(layout.BASE_TARGET_M)
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    view = np.eye(4)
    view[:3, :3] = [right, np.cross(back, right), back]
    x, y, z, _ = view @ np.append(np.array(point) - eye, 1.0)
    focal = 0.5 / np.tan(layout.BASE_FOV_RAD / 2)
    return 0.5 + focal * x / -z, 0.5 - focal * y / -z


@given(seed=seeds)
def test_points_are_projected_as_by_a_view_matrix(seed):
    points = np.random.default_rng(seed).uniform((0.0, -0.8, -0.2), (1.0, 0.8, 0.6), (5, 3))
    np.testing.assert_allclose(project(points), [homogeneous(point) for point in points], atol=1e-9)


def test_the_middle_of_the_picture_is_where_the_camera_looks():
    (middle,) = project(np.array([layout.BASE_TARGET_M]))
    np.testing.assert_allclose(middle, 0.5)
    left, front = project(np.array([[0.52, 0.1, 0.0], [0.62, 0.0, 0.0]]))
    assert left[0] > 0.5 and front[1] > 0.5, "it looks back at the robot: the robot's left is on the right"
    assert project(np.add(layout.BASE_EYE_M, [[0.5, 0.0, 0.3]])) is None


@given(seed=seeds)
def test_points_are_turned_as_by_a_matrix(seed):
    rng = np.random.default_rng(seed)
    turn, points = Rotation.random(rng=rng), rng.normal(size=(6, 3))
    np.testing.assert_allclose(
        rotated(turn.as_quat(scalar_first=True), points), turn.apply(points), atol=1e-12
    )


@given(seed=seeds)
def test_a_box_holds_all_corners_and_touches_the_outermost(seed):
    rng = np.random.default_rng(seed)
    thing = block(str(rng.choice(SHAPES)), "red", rng.uniform(0.03, 0.06), rng.uniform(0.03, 0.1))
    position, turn = rng.uniform((0.45, -0.1, 0.0), (0.6, 0.1, 0.2)), Rotation.random(rng=rng)
    quaternion = turn.as_quat(scalar_first=True)
    (found,) = boxes((Body(thing, tuple(position)),), position[None], quaternion[None])
    corners = np.array([homogeneous(turn.apply(corner) + position) for corner in thing.corners()])
    np.testing.assert_allclose(found, [*corners.min(axis=0), *corners.max(axis=0)], atol=1e-9)


@pytest.mark.parametrize("place", [(0.52, 0.6, 0.0), (0.52, -0.6, 0.0), (1.5, 0.0, 0.8), (1.1, 0.0, 0.0)])
def test_what_is_out_of_the_picture_has_no_box(place):
    body = cube("red", 0.5, 0.0)
    found = boxes((body, body), np.array([place, body.position_m]), np.array([[1.0, 0, 0, 0]] * 2))
    assert (found[0] == -1).all() and (found[1] >= 0).all() and (found[1] <= 1).all()


def test_a_box_ends_where_the_picture_ends():
    middle = boxes((cube("red", 0.5, 0.0),), np.array([[0.52, 0.0, 0.02]]), np.array([[1.0, 0, 0, 0]]))
    assert (middle > 0).all() and (middle < 1).all()
    border = next(y for y in np.arange(0.3, 0.6, 0.001) if homogeneous((0.52, y, 0.02))[0] > 0.995)
    (found,) = boxes((cube("red", 0.5, 0.0),), np.array([[0.52, border, 0.02]]), np.array([[1.0, 0, 0, 0]]))
    assert found[2] == 1.0 and found[0] < 1.0


def test_first_boxes_are_those_of_the_first_observation():
    env = TabletopEnv("SortByTexture")
    for task in ("SortByTexture", "BalanceScale", "ThrowSort"):
        env.task = TASKS[task]
        env.reset(seed=5)
        bodies = env.scenario.bodies
        found = env.boxes()
        np.testing.assert_allclose(found[: len(bodies)], first_boxes(bodies), atol=0.006)
        assert found.dtype == np.float32 and (found[len(bodies) :] == -1).all()
    env.close()


# ---- pictures


def test_two_cameras_of_the_size_asked_for(rgb):
    small = TabletopEnv("Swap", obs_mode="rgb", image_size=48)
    observation, _ = small.reset(seed=3)
    assert small.observation_space.contains(observation)
    assert set(observation) == {"observation.state", BASE, WRIST}
    for camera in (BASE, WRIST):
        picture = observation[camera]
        assert (picture.shape, picture.dtype) == ((48, 48, 3), np.uint8) and picture.flags.c_contiguous
        assert picture.std() > 5
    small.close()


def test_pictures_change_nothing_and_are_the_same_again(rgb):
    def episode(env):
        env.task = TASKS["Swap"]
        actions = np.random.default_rng(0).uniform(-1, 1, (10, 7))
        return [env.reset(seed=3)[0], *(env.step(action)[0] for action in actions)]

    blind = TabletopEnv("Swap")
    first, again, state_only = episode(rgb), episode(rgb), episode(blind)
    for one, other, without in zip(first, again, state_only, strict=True):
        np.testing.assert_array_equal(one["observation.state"], without["observation.state"])
        np.testing.assert_array_equal(one[BASE], other[BASE])
        np.testing.assert_array_equal(one[WRIST], other[WRIST])
    assert (first[0][BASE] != first[-1][BASE]).any() and (first[0][WRIST] != first[-1][WRIST]).any()
    blind.close()


def test_objects_and_pictures_together(rgb):
    """Both modes at once see what each sees alone, and the episode is the same."""
    both = TabletopEnv("Pick", obs_mode="state+rgb", image_size=SIZE, terminate_on_success=False)
    alone = TabletopEnv("Pick", terminate_on_success=False)
    try:
        rgb.task = TASKS["Pick"]
        seen, pictures, objects = (env.reset(seed=3)[0] for env in (both, rgb, alone))
        assert set(seen) == set(both.observation_space.spaces) == set(pictures) | set(objects)
        for found in (pictures, objects):
            for key, value in found.items():
                np.testing.assert_array_equal(seen[key], value)
    finally:
        both.close()
        alone.close()


def test_a_picture_can_be_asked_for_in_state_mode(rgb):
    env = TabletopEnv("Pick", render_mode="rgb_array", image_size=SIZE)
    observation = set_scene(env, cube("red", 0.5, 0.1))
    assert set(observation) == {"observation.state", "observation.objects"}
    np.testing.assert_array_equal(env.render(), set_scene(rgb, cube("red", 0.5, 0.1))[BASE])
    env.close()


@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_are_those_of_the_pixels(rgb, empty, shape):
    """Anywhere on the table and above it, turned at random."""
    rng = np.random.default_rng(SHAPES.index(shape))
    thing = block(shape, "red", 0.05, 0.06)
    set_scene(rgb, standing(thing, 0.5, 0.0))
    for _ in range(15):
        position, turn = rng.uniform((0.45, -0.25, 0.05), (0.65, 0.25, 0.15)), Rotation.random(rng=rng)
        quaternion = turn.as_quat(scalar_first=True)
        move_body(rgb, 0, position, quaternion)
        picture = rgb.render()
        (expected,) = boxes(rgb.scenario.bodies, position[None], quaternion[None]) * SIZE
        np.testing.assert_allclose(pixels_box(picture, empty), expected, atol=2.0)


@pytest.mark.parametrize("colour", COLOURS)
def test_things_have_their_colour(rgb, colour):
    """Seen from above and from the sides: brighter or darker, of the same hue."""
    picture = set_scene(rgb, standing(block("hexagon", colour), 0.55, 0.1))[BASE]
    left, top, right, bottom = (rgb.boxes()[0] * SIZE).round().astype(int)
    middle = picture[(top + bottom) // 2 - 2 : (top + bottom) // 2 + 2, (left + right) // 2].mean(axis=0)
    others = {name: np.linalg.norm(middle / 255 - np.sqrt(paint)) for name, paint in COLOURS.items()}
    assert min(others, key=others.__getitem__) == colour


def test_areas_and_stacks_have_boxes_too(rgb, empty):
    square = standing(area("blue", 0.12), 0.5, -0.15, 0.4)
    picture = set_scene(rgb, square)[BASE]
    np.testing.assert_allclose(pixels_box(picture, empty), rgb.boxes()[0] * SIZE, atol=2.0)
    lower = cube("red", 0.5, 0.1)
    pair = set_scene(rgb, lower, stacked(block("cube", "blue"), lower))[BASE]
    low, high = rgb.boxes()[:2]
    both = np.array([*np.minimum(low[:2], high[:2]), *np.maximum(low[2:], high[2:])])
    np.testing.assert_allclose(pixels_box(pair, empty), both * SIZE, atol=2.0)
    assert high[1] < low[1] and high[3] < low[3]


def test_the_wrist_camera_sees_what_is_before_the_hand(rgb):
    def red(observation):
        picture = observation[WRIST].astype(int)
        return int((picture[..., 0] > picture[..., 1:].max(axis=2) + 40).sum())

    seen = [red(set_scene(rgb, cube("red", x, y))) for x, y in ((0.45, 0.0), (0.45, 0.6))]
    assert seen[0] > 100 and seen[1] == 0
    set_scene(rgb, cube("red", 0.45, 0.0))
    nearer = [red(rgb.step(np.array([0, 0, -1, 0, 0, 0, 1.0]))[0]) for _ in range(3)]
    assert seen[0] < nearer[0] < nearer[1] < nearer[2]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_every_block_in_view_is_drawn_where_its_box_is(rgb, empty, seed):
    """Scenes of a task: what is drawn lies in the boxes, and every box has something drawn."""
    rgb.task = TASKS["PickPlaceNextTo"]
    picture = rgb.reset(seed=seed)[0][BASE]
    drawn = (picture.astype(int) != empty).any(axis=2)
    drawn[: SIZE // 5] = False  # the arm, which stands otherwise
    for box in rgb.boxes()[: len(rgb.scenario.bodies)]:
        left, top, right, bottom = (box * SIZE).round().astype(int)
        inside = drawn[top : bottom + 1, left : right + 1]
        assert inside.mean() > 0.3
        drawn[max(top - 2, 0) : bottom + 3, max(left - 2, 0) : right + 3] = False
    assert not drawn.any()
