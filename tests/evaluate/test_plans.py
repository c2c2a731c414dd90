"""Seeing plans: what is noted of an episode, how it is drawn, and the files."""

from __future__ import annotations

import numpy as np
import pytest
from simulators import BOTH, V1

pytest.importorskip("gymnasium")
pytest.importorskip("PIL")

from fake_env import FakeHierarchy, ReachEnv

from keystep.evaluate.recording import Pictures, record
from keystep.evaluate.storyboard import CELL, VIEW, frames, lines, strip, title
from keystep.suites.franka3blocks import STATE_NAMES, layout
from keystep.suites.franka3blocks.pictures import (
    CameraPictures,
    DrawnPictures,
    SimulatedPictures,
    body_state,
)

SEED = 3


class Counted(Pictures):
    """Grey pictures: the step for what is seen, 100 + number for what is imagined."""

    def seen(self, observation):
        return np.full((8, 8, 3), observation["observation.state"][0], np.uint8)

    def imagined(self, subgoals):
        return [np.full((8, 8, 3), 100 + state[0], np.uint8) for state in subgoals["observation.state"]]


class CountingEnv(ReachEnv):
    def _observation(self):
        return {"observation.state": np.full(4, self.steps, np.float32)}


@pytest.fixture
def recording():
    return record(FakeHierarchy(shift=-0.5), CountingEnv("state"), Counted(), "stack", SEED, guidance=2.0)


def level(picture):
    return int(picture[0, 0, 0])


def franka_state(**cubes):
    """The neutral pose with the cubes in a row, some of them moved."""
    state = np.zeros(len(STATE_NAMES), np.float32)
    state[layout.HAND_POSITION] = layout.NEUTRAL_HAND_M
    state[layout.HAND_QUATERNION] = [1, 0, 0, 0]
    state[layout.ARM_JOINTS] = layout.START_JOINTS_RAD[:7]
    places = {"red": (0.5, 0.1, 0.274), "green": (0.5, 0.0, 0.274), "blue": (0.5, -0.1, 0.274)} | cubes
    state[layout.CUBE_POSITIONS] = np.concatenate([places[name] for name in layout.CUBES])
    return state


# ---- recording


def test_every_plan_and_what_was_reached(recording):
    """M = 3 and n = 2: a plan is made at every sixth action; a subgoal ends with every second."""
    ticks, plans = recording.ticks, recording.plans
    assert not recording.success and len(ticks) == 20 and len(plans) == 4
    assert [level(plan.start) for plan in plans] == [0, 6, 12, 18]
    assert [level(picture) for picture in plans[0].subgoals] == [100, 104, 108]
    assert [[level(picture) for picture in plan.reached] for plan in plans] == [
        [2, 4, 6],
        [8, 10, 12],
        [14, 16, 18],
        [20],
    ]
    assert [(tick.plan, tick.subgoal, tick.action) for tick in ticks[:7]] == [
        (0, 0, 1),
        (0, 0, 2),
        (0, 1, 1),
        (0, 1, 2),
        (0, 2, 1),
        (0, 2, 2),
        (1, 0, 1),
    ]
    assert [plan.ms for plan in plans] == [7.0] * 4
    assert "plan" in ticks[6].stages_ms and "plan" not in ticks[7].stages_ms
    described = recording.to_dict()
    assert described["actions"] == 20 and described["plans_ms"] == [7.0] * 4


def test_reset_options_reach_the_policy():
    policy = FakeHierarchy()
    record(policy, CountingEnv("state"), Counted(), "stack", SEED, guidance=2.0)
    assert policy.resets == [{"task": "stack", "seed": SEED, "episode": 0, "guidance": 2.0}]


class ScoringEnv(CountingEnv):
    """Says how well it goes, and at the end whether it is done."""

    def step(self, action):
        returned = super().step(action)
        last = self.steps == self.max_episode_steps
        return *returned[:-1], {"success": True if last else 0.4}


def test_success_is_looked_at_when_the_episode_is_over():
    played = record(FakeHierarchy(shift=-0.5), ScoringEnv("state"), Counted(), "stack", SEED)
    assert played.success and len(played.ticks) == 20


def test_a_policy_without_plans_is_refused(make_stub):
    with make_stub() as policy, pytest.raises(Exception, match="family: expected subgoal, got 'flat'"):
        record(policy, CountingEnv("state"), Counted(), "stack", SEED)


# ---- drawing


def test_the_strip_shows_each_plan_above_what_was_reached(recording):
    picture = strip(recording)
    plans = len(recording.plans)
    assert picture.dtype == np.uint8 and picture.shape[0] > 2 * plans * CELL and picture.shape[1] > 4 * CELL
    for value in (0, 6, 12, 18, 100, 104, 108, 20):  # every picture is in it, whole
        assert (picture == value).all(axis=2).sum() >= CELL * CELL
    assert title(recording) == "stack, seed 3: not solved after 20 actions"


def test_video_frames_follow_the_episode(recording):
    film = list(frames(recording, Counted(), every=2))
    assert len(film) == 10
    assert all(frame.shape == (VIEW, 2 * VIEW, 3) and frame.dtype == np.uint8 for frame in film)
    assert [level(frame) for frame in film] == list(range(0, 20, 2))
    assert (film[0][:, VIEW:] != film[1][:, VIEW:]).any()  # the frame around the subgoal moves
    said = lines(recording, recording.ticks[6], 6, 1.25)
    assert "plan 2 of 4: made in 7.0 ms" in said and "subgoal 1 of 3, action 1" in said
    assert "last chunk: 1.25 ms" in said and "this tick: 0.500 ms" in said


def test_drawn_pictures_show_hand_and_cubes():
    pictures = DrawnPictures(96)
    still = pictures.picture(franka_state())
    assert still.shape == (96, 96, 3) and still.dtype == np.uint8
    lifted = pictures.picture(franka_state(red=(0.5, 0.1, 0.4)))
    changed = (still != lifted).any(axis=2)
    assert changed[:48].sum() == 0 and changed[48:].any()  # from above nothing moves, below the cube rises
    assert changed[:, 48:].sum() == 0  # it is on the left of the robot
    imagined = pictures.imagined({"observation.state": np.stack([franka_state()] * 3)})
    assert len(imagined) == 3 and (imagined[0] == pictures.seen({"observation.state": franka_state()})).all()


def test_camera_pictures_are_handed_on():
    key = "observation.images.static"
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    pictures = CameraPictures(key)
    np.testing.assert_array_equal(pictures.seen({key: images[0]}), images[0])
    np.testing.assert_array_equal(pictures.imagined({key: images}), images)


def test_an_imagined_arm_stays_within_its_joints():
    state = franka_state(green=(0.45, 0.05, 0.3))
    state[layout.ARM_JOINTS], state[layout.FINGER] = 9.0, 9.0
    limits = np.stack([-np.ones(9), np.linspace(0.1, 1, 9)], axis=1)
    current = {"cubes": np.ones((3, 13)), "elapsed_steps": np.array(4)}
    moved = body_state(current, state, limits)
    np.testing.assert_allclose(moved["joints"], limits[:, 1])
    np.testing.assert_allclose(moved["cubes"][1, :7], [0.45, 0.05, 0.3, 1, 0, 0, 0], atol=1e-6)
    assert not moved["cubes"][:, 7:].any() and moved["elapsed_steps"] == 4


@pytest.mark.parametrize("env_id", BOTH)
def test_simulated_pictures_look_at_the_state(env_id):
    from keystep.suites.headless import missing_driver

    if env_id == V1 and missing_driver() is not None:
        pytest.skip(f"no graphics driver: {missing_driver()}")
    import gymnasium

    env = gymnasium.make(env_id, render_mode="rgb_array", image_size=64)
    pictures = SimulatedPictures(env)
    still, lifted = (
        pictures.picture(franka_state(red=place)) for place in ((0.5, 0.1, 0.274), (0.5, 0.1, 0.4))
    )
    assert still.shape == (64, 64, 3) and (still != lifted).any()
    assert (still == pictures.picture(franka_state())).all()
    env.close()


# ---- files


def test_files_of_a_recording(recording, tmp_path):
    av = pytest.importorskip("av")
    from PIL import Image

    from keystep.commands.plans import write

    write(recording, tmp_path, frames(recording, Counted()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stack.json", "stack.mp4", "stack.png"]
    assert np.asarray(Image.open(tmp_path / "stack.png")).shape == strip(recording).shape
    with av.open(str(tmp_path / "stack.mp4")) as container:
        assert [frame.width for frame in container.decode(video=0)] == [2 * VIEW] * 10


def test_a_broken_video_leaves_nothing(tmp_path):
    pytest.importorskip("av")
    from keystep.commands.video import write_video

    def interrupted():
        yield np.zeros((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "film.mp4", interrupted())
    assert not list(tmp_path.iterdir())
