"""How the hand of the tabletop environments moves, by actions and by inverse kinematics; who touches whom."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="needs the extra 'sim'")
pytest.importorskip("mani_skill", reason="needs the extra 'sim'")

from scipy.spatial.transform import Rotation
from tabletop_scenes import cube, move_body, set_scene

from keystep.suites.tabletop import layout
from keystep.suites.tabletop.environment import TabletopEnv

STATE = "observation.state"
HOLD = np.array([0, 0, 0, 0, 0, 0, 1.0])


def part(observation, prefix):
    """The entries of the state whose names begin so."""
    return observation[STATE][[name.startswith(prefix) for name in layout.STATE_NAMES]]


def unit(index, size=1.0):
    action = HOLD.copy()
    action[index] = size
    return action


# ---- motion


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("size", [1.0, 0.3, -0.05, -1.0])
def test_an_action_moves_the_hand_by_its_length(fresh, axis, size):
    start, _ = fresh.simulation.hand_pose()
    wanted = np.eye(3)[axis] * size * layout.POSITION_SCALE_M
    for _ in range(2):
        fresh.step(unit(axis, size))
        now, _ = fresh.simulation.hand_pose()
        np.testing.assert_allclose(now - start, wanted, atol=0.05 * abs(size) * layout.POSITION_SCALE_M)
        start = now


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("size", [1.0, 0.2, -1.0])
def test_an_action_turns_the_hand_by_its_angle(fresh, axis, size):
    position, before = fresh.simulation.hand_pose()
    fresh.step(unit(3 + axis, size))
    moved, after = fresh.simulation.hand_pose()
    turn = (Rotation.from_quat(after) * Rotation.from_quat(before).inv()).as_rotvec()
    wanted = np.eye(3)[axis] * size * layout.ROTATION_SCALE_RAD
    np.testing.assert_allclose(turn, wanted, atol=0.05 * abs(size) * layout.ROTATION_SCALE_RAD)
    assert np.linalg.norm(moved - position) < 0.002


def test_the_gripper_opens_and_closes_by_steps(fresh):
    def widths(gripper, steps):
        return [part(fresh.step(unit(6, gripper))[0], "finger_")[:2].mean() for _ in range(steps)]

    closing, opening = widths(-1.0, 8), widths(1.0, 8)
    assert closing[-1] == pytest.approx(0.0, abs=1e-3)
    assert opening[-1] == pytest.approx(layout.FINGER_OPEN_M, abs=1e-3)
    for fingers in (closing, opening):
        assert np.abs(np.diff(fingers)).max() < 1.1 * layout.FINGER_STEP_M


def test_a_still_hand_stays_where_it_is(fresh):
    before, _ = fresh.simulation.hand_pose()
    for _ in range(60):
        fresh.step(HOLD)
    assert np.linalg.norm(fresh.simulation.hand_pose()[0] - before) < 1e-3


def test_inverse_kinematics_agree_with_those_of_sapien(fresh):
    """`follow` moves the hand of another robot, by PhysX's forward kinematics, to where it should go."""
    simulation, other = fresh.simulation, TabletopEnv("Touch")
    other.reset(seed=0)

    def hand_at(joints):
        other.simulation.arm.set_qpos(np.append(joints, (0.04, 0.04)))
        return other.simulation.hand_pose()

    rng = np.random.default_rng(0)
    low, high = simulation.arm.qlimits[:7].T
    for _ in range(200):
        joints = layout.START_JOINTS_RAD.copy()
        joints[:7] += rng.uniform(-0.25, 0.25, 7)
        simulation.arm.set_qpos(joints)
        position, quaternion = simulation.hand_pose()
        goal = position + rng.uniform(-0.02, 0.02, 3)
        turn = Rotation.from_rotvec(rng.uniform(-0.1, 0.1, 3)) * Rotation.from_quat(quaternion)
        found = simulation.follow(goal, turn.as_matrix())
        assert (found >= low).all() and (found <= high).all()
        reference = simulation.solve_joints(goal, turn.as_quat())
        for reached, reached_turn in (hand_at(found), hand_at(reference)):
            assert np.linalg.norm(reached - goal) < 1e-3
            assert (Rotation.from_quat(reached_turn) * turn.inv()).magnitude() < 0.005
    other.close()


def test_joints_stay_within_their_limits(fresh):
    low, high = fresh.simulation.arm.qlimits.T
    rng = np.random.default_rng(1)
    for _ in range(6):
        fresh.reset(seed=0)
        action = np.append(rng.choice([-1.0, 1.0], 6), 1.0)
        for _ in range(40):
            fresh.step(action)
            joints = fresh.simulation.arm.qpos
            assert (joints >= low - 0.01).all() and (joints <= high + 0.01).all()
            assert np.isfinite(fresh.observation()[STATE]).all()


# ---- what predicates are told


def test_the_world_tells_who_touches_whom(env):
    set_scene(env, cube("red", 0.5, 0.0), cube("blue", 0.5, 0.2))
    env.step(HOLD)
    assert env.world.on_ground(0) and not env.world.free(0) and not env.world.touching(0, 1)
    move_body(env, 0, (0.5, 0.2, 0.0605))
    for _ in range(10):
        env.step(HOLD)
    assert env.world.touching(0, 1) and env.world.touching(1, 0) and not env.world.on_ground(0)
    assert env.world.carried_n(0, 1) == pytest.approx(env.world.weight_n(0), rel=0.1)
    volume = 0.045 * 0.045 * 0.04
    assert env.world.weight_n(0) == pytest.approx(9.81 * volume * layout.DENSITY_KG_M3, rel=1e-3)
    move_body(env, 0, (0.5, 0.0, 0.5))
    env.step(HOLD)
    assert env.world.free(0) and not env.world.grasped(0) and not env.world.touched(0)
    with pytest.raises(ValueError, match="scale: expected a scene with one, got none"):
        env.world.scale_angle_rad()
