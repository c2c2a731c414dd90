"""The oracle's calls in the real simulator: what they do to the bodies when all goes well."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from scipy.spatial.transform import Rotation
from tabletop_scenes import corners, cube, distance, set_scene, stacked, stage, standing

from keystep.code.outcome import Outcome
from keystep.code.values import Pose
from keystep.suites.tabletop import layout
from keystep.suites.tabletop.conditions import Now, carries, clear
from keystep.suites.tabletop.objects import SHAPES, Body, Thing, area, block
from keystep.suites.tabletop.oracle.api import Oracle

WIDTHS_M = (0.033, layout.BLOCK_WIDTH_M, 0.057)
"""Of the small, usual and large blocks of the suite."""
SUCCESS = Outcome.SUCCESS
RED = "red cube"


def do(result):
    assert result.outcome is SUCCESS, result.reason
    assert result.steps >= 1 and result.reason == ""
    return result


def holding(env, *bodies, **options):
    """An oracle that has picked the first body, and its actors."""
    oracle = stage(env, *bodies, **options)
    actors = [oracle.get_actor(body.thing.name) for body in bodies]
    do(oracle.pick(actors[0]))
    return oracle, actors


def turn_of(env, body, start):
    """Degrees that a body has turned about the vertical since a yaw, -180 .. 180."""
    return (np.rad2deg(yaw_of(env, body) - start) + 180) % 360 - 180


def yaw_of(env, body):
    return Rotation.from_quat(env.world.quaternions[body], scalar_first=True).as_euler("zyx")[0]


def tilt_of(env, body):
    """Degrees between a body's axis and the vertical."""
    axis = Rotation.from_quat(env.world.quaternions[body], scalar_first=True).apply([0, 0, 1])
    return np.rad2deg(np.arccos(np.clip(axis[2], -1, 1)))


# ---- holding


def in_hand(env, body):
    """Position of a body in the frame of the hand."""
    position, quaternion = env.simulation.hand_pose()
    return Rotation.from_quat(quaternion).inv().apply(env.world.positions[body] - position)


@pytest.mark.parametrize("width", WIDTHS_M)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_block_is_held_while_it_is_carried_about(env, shape, width):
    for seed in range(3):
        rng = np.random.default_rng([seed, SHAPES.index(shape)])
        thing = block(shape, "red", width, rng.choice([0.02, layout.BLOCK_HEIGHT_M, 0.06]))
        start = rng.uniform((0.38, -0.2), (0.58, 0.2))
        oracle, _ = holding(env, standing(thing, *start, rng.uniform(-np.pi, np.pi)))
        assert env.world.grasped(0) and clear(0).update(env.world)
        first = in_hand(env, 0)
        for place in rng.uniform((0.38, -0.2), (0.58, 0.2), (3, 2)):
            do(oracle.move3d(Pose((*place, thing.height_m / 2), rng.uniform(-1, 1))))
            assert env.world.grasped(0)
            assert np.linalg.norm(in_hand(env, 0) - first) < 0.004
            assert np.linalg.norm(env.world.positions[0][:2] - place) < 0.01
            assert env.world.positions[0][2] > thing.height_m


def test_picking_leaves_the_neighbours_alone(env):
    others = [cube("blue", 0.5, 0.09), cube("green", 0.5, -0.09), cube("black", 0.59, 0.0)]
    holding(env, cube("red", 0.5, 0.0, 0.4), *others)
    for number, body in enumerate(others, 1):
        assert np.linalg.norm(env.world.positions[number] - body.position_m) < 0.002
    assert env.world.positions[0][2] > 0.05


# ---- moving


@pytest.mark.parametrize("place", [(0.36, -0.2), (0.5, 0.0), (0.6, 0.22)])
def test_the_hand_moves_above_an_actor(env, place):
    oracle = stage(env, cube("red", *place, 0.7))
    do(oracle.move3d(oracle.get_actor(RED)))
    hand, _ = env.simulation.hand_pose()
    assert np.linalg.norm(hand[:2] - place) < 0.01 and 0.07 < hand[2] < 0.2
    np.testing.assert_allclose(env.world.positions[0][:2], place, atol=1e-3)


def test_the_hand_moves_above_a_pose_over_what_is_in_the_way(env):
    tower = standing(block("cube", "blue", 0.05, 0.2), 0.5, 0.0)
    oracle = stage(env, cube("red", 0.5, -0.2), tower)
    do(oracle.move3d(oracle.get_actor(RED)))
    do(oracle.move3d(Pose((0.5, 0.2, 0.02))))
    hand, _ = env.simulation.hand_pose()
    assert np.linalg.norm(hand[:2] - [0.5, 0.2]) < 0.01 and hand[2] > 0.05
    assert np.linalg.norm(env.world.positions[1] - tower.position_m) < 0.002, "the tower was passed over"


def test_what_is_held_is_carried_above_another_actor(env):
    oracle, (_, blue) = holding(env, cube("red", 0.45, -0.15), cube("blue", 0.5, 0.15))
    do(oracle.move3d(blue))
    offset = env.world.positions[0] - env.world.positions[1]
    assert np.linalg.norm(offset[:2]) < 0.01 and offset[2] > layout.BLOCK_HEIGHT_M + 0.01


# ---- placing


@pytest.mark.parametrize("turn", [0, 45, -90, 170])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_block_is_placed_at_a_pose(env, shape, turn):
    start = 0.3
    oracle, (actor,) = holding(env, standing(block(shape, "red"), 0.45, -0.12, start))
    here = Pose((0.5, 0.13, layout.BLOCK_HEIGHT_M / 2), start)
    do(oracle.place(actor, oracle.rotate_z(here, turn)))
    assert not env.world.grasped(0) and env.world.on_ground(0)
    assert np.linalg.norm(env.world.positions[0] - here.array) < 0.008
    assert abs((turn_of(env, 0, start) - turn + 180) % 360 - 180) < 5
    assert tilt_of(env, 0) < 2


def rests_on(env, upper, lower):
    """After a while."""
    for _ in range(10):
        env.step(np.append(np.zeros(6), 1.0))
    return carries(env.world, upper, lower) and not env.world.grasped(upper) and tilt_of(env, upper) < 5


@pytest.mark.parametrize("base", SHAPES)
@pytest.mark.parametrize("upper", SHAPES)
def test_a_block_is_placed_on_a_block(env, upper, base):
    lower = standing(block(base, "blue"), 0.5, 0.15, 1.0)
    oracle, (actor, dest) = holding(env, standing(block(upper, "red"), 0.45, -0.12), lower)
    do(oracle.place_on(actor, dest))
    assert rests_on(env, 0, 1)
    assert np.linalg.norm((env.world.positions[0] - lower.position_m)[:2]) < 0.01


def test_a_block_is_placed_on_the_highest_of_a_stack(env):
    low = cube("blue", 0.5, 0.15)
    oracle, (actor, dest, _) = holding(
        env, cube("red", 0.45, -0.12), low, stacked(block("cube", "green"), low)
    )
    do(oracle.place_on(actor, dest))
    assert rests_on(env, 0, 2) and carries(env.world, 2, 1)


def test_blocks_find_room_beside_each_other_on_an_area(env):
    blocks = [cube(colour, 0.4, y) for colour, y in (("red", -0.2), ("green", -0.05), ("blue", 0.1))]
    oracle = stage(env, *blocks, standing(area("yellow", 0.2), 0.54, 0.05, 0.3))
    target = oracle.get_actor("yellow area")
    for body in blocks:
        actor = oracle.get_actor(body.thing.name)
        do(oracle.pick(actor))
        do(oracle.place_on(actor, target))
    square = corners(area("yellow", 0.2), (0.54, 0.05), 0.3)
    placed = [corners(body.thing, env.world.positions[i], yaw_of(env, i)) for i, body in enumerate(blocks)]
    for number, polygon in enumerate(placed):
        assert distance(polygon, square) == 0 and rests_on(env, number, 3)
        assert all(distance(polygon, other) > 0.003 for other in placed[:number])


# ---- touching and pushing


@pytest.mark.parametrize("shape", SHAPES)
def test_touched_pushed_and_toppled(env, shape):
    body = standing(block(shape, "red", height_m=0.05), 0.47, 0.05, 0.3)
    thin = standing(Thing("cube", "red", (0.03, 0.03, 0.09)), 0.47, 0.05, 0.3)
    touched = []
    oracle = stage(env, body, on_step=lambda seen, action: touched.append(env.world.touched(0)))
    do(oracle.touch(oracle.get_actor(body.thing.name)))
    assert any(touched) and np.linalg.norm(env.world.positions[0] - body.position_m) < 0.005
    oracle = stage(env, body)
    do(oracle.touch(oracle.get_actor(body.thing.name), push=True))
    assert np.linalg.norm(env.world.positions[0] - body.position_m) > 0.1 and tilt_of(env, 0) < 5
    oracle = stage(
        env, thin if shape == "cube" else standing(block(shape, "red", 0.035, 0.09), 0.47, 0.05, 0.3)
    )
    do(oracle.touch(oracle.get_actor(body.thing.name), topple=True))
    assert tilt_of(env, 0) > 45


@pytest.mark.parametrize("goal", [(0.55, -0.15), (0.4, -0.05), (0.5, 0.22)])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_block_is_pushed_to_a_pose(env, shape, goal):
    held = []
    body = standing(block(shape, "red"), 0.48, 0.08, 0.5)
    oracle = stage(env, body, on_step=lambda seen, action: held.append(env.world.grasped(0)))
    do(oracle.push(oracle.get_actor(body.thing.name), Pose((*goal, 0.02))))
    assert np.linalg.norm(env.world.positions[0][:2] - goal) < 0.025
    assert not any(held) and tilt_of(env, 0) < 5 and env.world.on_ground(0)


def test_a_push_ends_at_what_stands_at_the_goal(env):
    oracle = stage(env, cube("red", 0.48, -0.12), cube("blue", 0.48, 0.12))
    do(oracle.push(oracle.get_actor(RED), oracle.get_pose(oracle.get_actor("blue cube"))))
    red, blue = env.world.positions
    assert np.linalg.norm(red - blue) < 0.07 and np.linalg.norm(blue - [0.48, 0.12, 0.02]) < 0.03


# ---- turning and throwing


@pytest.mark.parametrize("angle", [30, -60, 90, 150, -180, 400])
def test_a_held_block_is_turned_where_it_is(env, angle):
    oracle, (actor,) = holding(env, cube("red", 0.48, 0.1, 0.3))
    here, start = env.world.positions[0].copy(), yaw_of(env, 0)
    do(oracle.rotate(actor, angle))
    assert abs((turn_of(env, 0, start) - angle + 180) % 360 - 180) < 5
    assert np.linalg.norm((env.world.positions[0] - here)[:2]) < 0.015
    assert env.world.on_ground(0) and not env.world.grasped(0)


@pytest.mark.parametrize("azimuth", [-15, 0, 15])
@pytest.mark.parametrize("radius", [0.82, 0.9])
def test_a_throw_flies_over_its_target(env, radius, azimuth):
    place = radius * np.array([np.cos(np.deg2rad(azimuth)), np.sin(np.deg2rad(azimuth))])
    seen = []

    def note(observation, action):
        seen.append((env.world.positions[0].copy(), env.world.free(0)))

    oracle, (actor, target) = holding(
        env, cube("red", 0.45, -0.1), standing(area("blue", 0.2), *place), on_step=note
    )
    do(oracle.throw(actor, target))
    flying = [position for position, free in seen if free]
    assert len(flying) >= 3 and np.linalg.norm((flying[-1] - flying[0])[:2]) > 0.05
    assert min(np.linalg.norm(position[:2] - place) for position, _ in seen) < 0.1


def test_a_throw_to_a_pose(env):
    oracle, (actor,) = holding(env, cube("red", 0.45, -0.1))
    do(oracle.throw(actor, Pose((0.85, 0.1, 0.0))))
    assert env.world.positions[0][0] > 0.7 and not env.world.grasped(0)


# ---- structures


@pytest.mark.parametrize("height", [2, 3, 4])
def test_a_stack_is_knocked_over(env, height):
    bodies = [cube("red", 0.48, 0.05)]
    for colour in ("blue", "green", "yellow")[: height - 1]:
        bodies.append(stacked(block("cube", colour), bodies[-1]))
    oracle = stage(env, *bodies)
    do(oracle.topple_structure([oracle.get_actor(body.thing.name) for body in bodies]))
    assert all(env.world.on_ground(body) for body in range(height))


# ---- the end


def test_done_waits_until_the_task_is_solved(env):
    reached = Now(lambda world: env.elapsed_steps >= 7)
    oracle = stage(env, cube("red", 0.5, 0.0), predicate=reached)
    assert do(oracle.done()).steps == 7 and env.success
    assert do(oracle.done()).steps == 1


def test_done_waits_for_two_seconds_at_most(env):
    oracle = stage(env, cube("red", 0.5, 0.0))
    assert do(oracle.done()).steps == 2 * layout.CONTROL_RATE_HZ and not env.success


def test_a_scene_by_hand_is_what_was_asked_for(env):
    """The tests above rest on it."""
    body = Body(block("hexagon", "red"), (0.5, 0.1, 0.02), 0.4)
    set_scene(env, body)
    assert Oracle(env, env.observation()).get_pose(
        Oracle(env, env.observation()).get_actor("red hexagon")
    ).yaw == (pytest.approx(0.4, abs=1e-3))
    assert env.scenario.bodies == (body,)
