"""What actions do, held to the numbers of the original (HD-ExpIt) in both simulators.

The original's own figures, run in its PyBullet world: five commands of +1 move the hand by 7.9 cm; after five
of pitch the hand's qz is +0.076, after five of yaw its qy is -0.071; a reset puts the hand at (0.5, 0, 0.4).
"""

from __future__ import annotations

import numpy as np
import pytest
from simulators import BOTH, BULLET

gymnasium = pytest.importorskip("gymnasium", reason="needs the extra 'sim' or 'bullet'")
scipy_rotation = pytest.importorskip("scipy.spatial.transform", reason="needs the extra 'sim' or 'bullet'")

from keystep.suites.franka3blocks import layout  # noqa: E402

STATE = "observation.state"
COMMANDS = 5
REACHED = 0.079 / (COMMANDS * 0.05)
"""The share of a commanded step that the arm has made before the next one is told."""
# Of a command of 0.1 rad and 0.05 m, the hand may stray so much from what the law says.
ROTATION_ATOL, POSITION_ATOL_M = 0.015, 0.013

ACTIONS = {
    "x": (1, 0, 0, 0, 0, 0),
    "y": (0, 1, 0, 0, 0, 0),
    "z": (0, 0, 1, 0, 0, 0),
    "roll": (0, 0, 0, 1, 0, 0),
    "pitch": (0, 0, 0, 0, 1, 0),
    "yaw": (0, 0, 0, 0, 0, 1),
    "all turns": (0, 0, 0, 1, 1, 1),
    "moving and turning": (1, -1, 0.5, 0, 1, -1),
}


@pytest.fixture(scope="module", params=BOTH)
def env(request):
    env = gymnasium.make(request.param)
    yield env.unwrapped
    env.close()


def after(env, action):
    """The state after a reset, and after COMMANDS times the action."""
    start = env.reset(seed=0)[0][STATE]
    for _ in range(COMMANDS):
        state = env.step(np.array([*action, 0.0], np.float32))[0][STATE]
    return start, state


def by_the_law(start, action):
    """Position and quaternion that the stated law gives: the turn is composed in the frame of the hand."""
    turn = scipy_rotation.Rotation.from_euler("xyz", 0.1 * REACHED * np.array(action[3:]))
    rotation = scipy_rotation.Rotation.from_quat(start[layout.HAND_QUATERNION])
    for _ in range(COMMANDS):
        rotation = rotation * turn
    quaternion = rotation.as_quat()
    position = start[layout.HAND_POSITION] + COMMANDS * 0.05 * REACHED * np.array(action[:3])
    return position, quaternion if quaternion[0] >= 0 else -quaternion


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ACTIONS)
def test_the_hand_goes_where_the_law_says(env, name, sign):
    action = sign * np.array(ACTIONS[name], float)
    start, state = after(env, action)
    position, quaternion = by_the_law(start, action)
    np.testing.assert_allclose(state[layout.HAND_POSITION], position, atol=POSITION_ATOL_M)
    np.testing.assert_allclose(state[layout.HAND_QUATERNION], quaternion, atol=ROTATION_ATOL)


@pytest.mark.parametrize(("name", "index", "expected"), [("pitch", 5, 0.076), ("yaw", 4, -0.071)])
def test_turns_are_those_of_the_original(env, name, index, expected):
    atol = 5e-4 if env.spec.id == BULLET else 8e-3
    assert after(env, ACTIONS[name])[1][index] == pytest.approx(expected, abs=atol)


def test_five_steps_move_as_far_as_in_the_original(env):
    start, state = after(env, ACTIONS["x"])
    assert (state - start)[0] == pytest.approx(0.079, abs=1e-3)


def test_the_state_is_laid_out_as_in_the_original(env):
    """Hand 3, quaternion xyzw 4, cubes 9, finger 1, joints 7, and two joints that do not move."""
    env.reset(seed=2)
    for _ in range(12):
        state = env.step(np.array([0, 0, -0.2, 0, 0, 0, 1], np.float32))[0][STATE]
    bodies = env.simulation.body_state()
    position, quaternion = env.simulation.hand_pose()
    fingers = bodies["joints"][7:]
    np.testing.assert_allclose(fingers, 0.04, atol=1e-3)
    expected = [
        position,
        quaternion,
        bodies["cubes"][:, :3].ravel(),
        fingers[:1],
        bodies["joints"][:7],
        [0, 0],
    ]
    np.testing.assert_array_equal(state, np.concatenate(expected).astype(np.float32))
    start = env.reset(seed=2)[0][STATE]
    np.testing.assert_allclose(start[:3], [0.5, 0.0, 0.4], atol=6e-4)
    np.testing.assert_allclose(start[3:7], [1, 0, 0, 0], atol=3e-3)
    assert start.shape == (26,)


def test_a_short_chunk_is_padded_with_no_motion_and_the_last_gripper_command(tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra 'train'")
    from keystep.data import ChunkWindows, Column, DatasetReader, DatasetSpec, DatasetWriter
    from keystep.train.actions import ActionChoices

    features = {STATE: Column("float32", (26,), layout.STATE_NAMES)}
    features["action"] = Column("float32", (7,), layout.ACTION_NAMES)
    described = {"names": layout.ACTION_NAMES, "units": layout.ACTION_UNITS, "law": layout.ACTION_LAW}
    limits = {"min": [-1.0] * 7, "max": [1.0] * 7, "rate_limit": None, "hold": [0.0] * 7}
    told = {"action": {key: list(value) for key, value in described.items()} | limits}
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 7)).astype(np.float32)
    states = np.zeros((12, 26), np.float32)
    with DatasetWriter(tmp_path / "d", DatasetSpec(60, features, {"stack": "Stack."}, None, told)) as writer:
        writer.add_episode({STATE: states, "action": actions}, "stack", seed=0)
    reader = DatasetReader(tmp_path / "d")
    still = ActionChoices(reader).still()
    windows = ChunkWindows(reader, 8, condition="goal", lengths=(5, 5), still=still, cache=tmp_path / "cache")
    chunk = windows.batch(np.array([2]), np.random.default_rng(0))["action"][0]
    np.testing.assert_array_equal(chunk[:5], actions[2:7])
    np.testing.assert_array_equal(chunk[5:], np.tile([0, 0, 0, 0, 0, 0, actions[6, 6]], (3, 1)))
